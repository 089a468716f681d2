"""Further cases of a parametrised test: `make test` leaves them out, `make test-latest` runs them."""
import pytest


def slow(*cases):
    "Each case is the value of one parameter, or a tuple of the values of several"
    return [pytest.param(*(c if isinstance(c, tuple) else (c,)), marks=pytest.mark.slow) for c in cases]


def some(*first, of):
    "The cases `first`, and all others `of` a list as slow ones"
    return [*first, *slow(*(o for o in of if o not in first))]


PRINTED = 'inception_v3', 'inception_v4', 'inception_resnet_v2' # without other readings and releases
