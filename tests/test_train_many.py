"""Runs side by side have the same records as one by one; what happens when one is stopped or fails.

Not in a notebook: it starts processes.
"""
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest


@pytest.mark.slow
def test_side_by_side_is_one_by_one(tmp_path):
    "Two processes of one thread give the records of one process of one thread"
    import torch
    from inception_repro.results.train_many import recipes, train_all
    from inception_repro.training.records import compare
    changes = dict(classes=3, per_class=22, valid_per_class=4, width=1/16, epochs=1, evals=2)
    rs = recipes('demo', models=['inception_v3', 'inception_resnet_v1'], **changes)
    threads = torch.get_num_threads()
    a = train_all(rs, tmp_path / 'a', jobs=2, device='cpu', progress=False)
    try:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // 2))
        b = train_all(rs, tmp_path / 'b', jobs=1, device='cpu', progress=False)
    finally: torch.set_num_threads(threads)
    assert [compare(p, q) for p, q in zip(a, b)] == ['', '']


@pytest.mark.slow
def test_stopped_and_killed_it_goes_on(tmp_path):
    "Ctrl-C, then a kill of the command alone: no process is left, and the runs can be ended as if nothing had been"
    import torch
    from inception_repro.results.train_many import recipes, train_all
    from inception_repro.training.records import compare, read_run
    pair = ['inception_v3', 'inception_resnet_v1']
    changes = dict(classes=3, per_class=11, valid_per_class=4, bs=8, width=1/16, epochs=16, evals=1/2)
    code = f"""import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
from functools import partial
from inception_repro import cli
from inception_repro.results import reproduce
reproduce.reproduce = partial(reproduce.reproduce, models={pair})
cli.main()"""
    args = ['reproduce', '--out', tmp_path / 'o', '--device', 'cpu', '--jobs', '2']
    args += [o for k, v in changes.items() for o in ('--set', f'{k}={v}')]

    def step(): return max((int(f.stem) for f in tmp_path.glob('o/runs/fractals/checkpoints/*/*.pt')), default=0)

    def command(stop):
        """Stop it once it has gone on; its exit code, and its errors to the end:
        until no process is left that could write
        """
        before, deadline = step(), time.monotonic() + 120
        with subprocess.Popen([sys.executable, '-W', 'ignore', '-c', code, *map(str, args)], stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True, start_new_session=True) as p:
            try:
                while step() <= before:
                    assert p.poll() is None and time.monotonic() < deadline
                    time.sleep(.02)
                stop(p)
                err = p.communicate(timeout=60)[1]
                return p.returncode, err
            finally:
                with suppress(ProcessLookupError): os.killpg(p.pid, signal.SIGKILL)

    found, err = command(lambda p: os.killpg(p.pid, signal.SIGINT))  # as a terminal does
    assert found == 130 and 'stopped; the same command resumes' in err and 'Traceback' not in err
    assert command(lambda p: p.kill())[0] == -signal.SIGKILL
    threads, todo = torch.get_num_threads(), recipes('demo', models=pair, **changes)
    try:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // 2))
        again, whole = (train_all(todo, tmp_path / o, jobs=1, device='cpu', progress=False)
                        for o in ('o/runs', 'whole'))
    finally: torch.set_num_threads(threads)
    assert any(read_run(p).meta['time']['resumed'] for p in again)
    assert [compare(p, q) for p, q in zip(again, whole)] == ['', '']


def test_an_error_in_one_run_stops_all(tmp_path):
    from inception_repro.results.train_many import recipes, train_all
    rs = recipes('demo', models=['inception_v3', 'inception_resnet_v1'], dataset='nowhere', classes=3)
    with pytest.raises(ValueError, match="'nowhere' can be neither generated nor downloaded"):
        train_all(rs, tmp_path, jobs=2, device='cpu', progress=False)


@pytest.mark.slow
def test_one_that_fails_does_not_wait_for_the_others(tmp_path):
    from inception_repro.results.train_many import recipes, train_all
    small = dict(classes=3, per_class=22, valid_per_class=4, width=1/16)
    long, = recipes('demo', models=['inception_v3'], epochs=10_000, **small)
    wild, = recipes('demo', models=['inception_resnet_v1'], epochs=1, lr=1e30, clip=None, **small)
    with pytest.raises(FloatingPointError, match='the loss is'):
        train_all([long, wild], tmp_path, jobs=2, device='cpu', progress=False)
    deadline = time.monotonic() + 60
    while multiprocessing.active_children() and time.monotonic() < deadline: time.sleep(.1)
    assert not multiprocessing.active_children()


def test_a_worker_that_ends_without_an_answer(monkeypatch):
    "A signal ends those that are still starting; without one, the system has killed it"
    from concurrent.futures import Future
    from concurrent.futures.process import BrokenProcessPool
    from queue import Queue
    from inception_repro.results import train_many
    from inception_repro.training import callbacks
    from training_fixtures import TINY
    f = Future()
    f.set_exception(BrokenProcessPool('terminated abruptly'))
    run = lambda: train_many._wait_for({f: TINY}, Queue(), None, lambda: [1])
    with pytest.raises(RuntimeError, match='was killed, .*the same command resumes, and jobs=1 needs less'): run()
    monkeypatch.setattr(callbacks, '_asked', ['SIGTERM'])
    with pytest.raises(callbacks.OutOfTime, match='SIGTERM was received; the same command resumes'): run()
