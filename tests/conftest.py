"""Fixtures of the tests that train a small network, which share one run in each process.

The library is imported when a fixture is used, so that tests of something else start without it.
"""
from contextlib import contextmanager

import pytest


@contextmanager
def limit_threads():
    import torch
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    try: yield
    finally: torch.set_num_threads(n)


@pytest.fixture(scope='module')
def one_thread():
    "The numbers depend on it, and the child processes use one thread"
    with limit_threads(): yield


@pytest.fixture(scope='session')
def data():
    from inception_repro.training.learner import load_data
    from training_fixtures import TINY
    return load_data(TINY)


@pytest.fixture(scope='session')
def quiet(data):
    "Arguments of `fit`"
    from training_fixtures import ENV
    return dict(data=data, device='cpu', env=ENV, progress=False)


@pytest.fixture(scope='session')
def whole(tmp_path_factory, quiet):
    "The run that nothing happened to. It limits the threads itself, because it is made before `one_thread`"
    from inception_repro.training.fit import fit
    from training_fixtures import TINY
    with limit_threads(): return fit(TINY, tmp_path_factory.mktemp('whole'), **quiet)
