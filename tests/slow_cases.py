"""Further cases of a parametrised test: `make test` leaves them out, `make test-latest` runs them."""
import pytest


def slow(*cases):
    "Each case is the value of one parameter, or a tuple of the values of several"
    return [pytest.param(*(c if isinstance(c, tuple) else (c,)), marks=pytest.mark.slow) for c in cases]
