"""Records under kills, full disks and odd numbers.

Not in a notebook: they need a process to kill and every place to cut.
"""
import errno
import json
import locale
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inception_repro.training import environment, records
from inception_repro.support.files import atomic_write
from inception_repro.training.records import COLUMNS, Record, compare, read_run, read_runs, run_path

ENV = dict(commit=None, device='cpu', python='3', torch='2', fastai='2', inception_repro='0')
WHAT = dict(model='inception_resnet_v2.released', seed=3, dataset='d', dataset_hash='00', recipe=dict(lr=.045), env=ENV)


def row(i, **kw):
    return {**{k: kind(i) / 3 if kind is float else i for k, kind in COLUMNS.items()}, **kw}


@pytest.fixture
def rec(tmp_path):
    rec = Record.create(tmp_path, **WHAT)
    for i in 1, 2, 3: rec.append(**row(i))
    return rec


def test_imports_no_torch():
    code = 'import sys, inception_repro.training.records; sys.exit("torch" in sys.modules or "fastai" in sys.modules)'
    subprocess.run([sys.executable, '-c', code], check=True)


def test_dots_in_a_name(rec):
    assert rec.path.name == 'inception_resnet_v2.released-3.csv'
    assert sorted(p.suffix for p in rec.path.parent.iterdir()) == ['.csv', '.json']


def test_every_torn_line(rec):
    whole = rec.path.read_bytes()
    start = whole.rindex(b'\n', 0, -1) + 1
    Record.resume(rec.path, step=2, env=ENV) # a kill while the third row is written: the seal covers two
    for cut in range(start, len(whole) + 1):
        rec.path.write_bytes(whole[:cut])
        run = read_run(rec.path)
        assert len(run) == (3 if cut == len(whole) else 2)
        assert run.torn == (start < cut < len(whole))
    rec.path.write_bytes(whole[:-1])
    again = Record.resume(rec.path, env=ENV)
    again.append(**row(3))
    assert rec.path.read_bytes() == whole


@pytest.mark.parametrize('step', [0, 1, 2, 3, 99])
def test_resumed_is_the_same(rec, tmp_path, step):
    "Go on from any checkpoint, with other times: the same record"
    again = Record.create(tmp_path / 'again', **WHAT)
    for i in range(1, 4): again.append(**row(i))
    again = Record.resume(again.path, step=step, recipe=WHAT['recipe'], env=ENV)
    for i in range(min(step, 3) + 1, 5): again.append(**row(i, seconds=100. + i))
    rec.append(**row(4))
    for r in rec, again: r.finish()
    assert compare(rec.path, again.path) == ''
    untimed = lambda r: [line.rsplit(',', 1)[0] for line in r.path.read_text().splitlines()]
    assert untimed(rec) == untimed(again)
    assert list(COLUMNS)[-1] == 'seconds'


@settings(max_examples=50, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(0, 100), st.integers(1, 2**62))
def test_numbers_read_back(tmp_path_factory, x, err, step):
    rec = Record.create(tmp_path_factory.mktemp('r'), **WHAT)
    rec.append(**row(1, train_loss=x, top1=err, top5=0., step=step))
    assert [read_run(rec.path)[k].item() for k in ('train_loss', 'top1', 'step')] == [x, err, step]


@pytest.mark.parametrize('name', ['de_DE.UTF-8', 'fr_FR.UTF-8'])
def test_any_locale(tmp_path, name):
    try: locale.setlocale(locale.LC_ALL, name)
    except locale.Error: pytest.skip(f'{name} is not installed')
    try:
        rec = Record.create(tmp_path, **WHAT)
        rec.append(**row(1))
        assert read_run(rec.path)['lr'].item() == 1 / 3
    finally: locale.setlocale(locale.LC_ALL, 'C')


def test_windows_line_ends(rec):
    "A checkout may change the line ends"
    before = read_run(rec.path)
    rec.path.write_bytes(rec.path.read_bytes().replace(b'\n', b'\r\n'))
    assert not read_run(rec.path).torn and read_run(rec.path).rows == before.rows


def test_tensors_and_arrays(tmp_path):
    np, torch = pytest.importorskip('numpy'), pytest.importorskip('torch')
    rec = Record.create(tmp_path, **WHAT)
    rec.append(**row(1, loss=torch.tensor(.1), lr=np.float32(.1), step=torch.tensor(5), images=np.int64(7)))
    run = read_run(rec.path)
    assert [run[k].item() for k in ('loss', 'lr', 'step', 'images')] == [
        torch.tensor(.1).item(), float(np.float32(.1)), 5, 7]


def test_recipe_dataclass(tmp_path):
    @dataclass(frozen=True)
    class Recipe:
        lr: float = .045
        crop: tuple = (.08, 1.)
    rec = Record.create(tmp_path, **{**WHAT, 'recipe': Recipe()})
    rec.append(**row(1))
    Record.resume(rec.path, recipe=Recipe(), env=ENV)
    with pytest.raises(ValueError, match='crop is'): Record.resume(rec.path, recipe=Recipe(crop=(.5, 1.)), env=ENV)


@pytest.mark.parametrize('mode', ['text', 'bytes', 'function'])
@pytest.mark.parametrize('where', ['fsync', 'replace'])
def test_full_disk_leaves_the_old_file(tmp_path, monkeypatch, mode, where):
    path = atomic_write(tmp_path / 'a.json', 'old')
    def fail(*args): raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(records.os, where, fail)
    data = {'text': 'new', 'bytes': b'new', 'function': lambda f: f.write(b'new')}[mode]
    with pytest.raises(OSError, match='No space left'): atomic_write(path, data)
    assert path.read_text() == 'old' and [p.name for p in tmp_path.iterdir()] == ['a.json']


def test_full_disk_in_an_append(rec, monkeypatch):
    before = rec.path.read_bytes()
    def fail(fd):
        assert len(rec.path.read_bytes()) > len(before)  # some of it had reached the file
        raise OSError(errno.ENOSPC, 'No space left on device')
    with monkeypatch.context() as m:
        m.setattr(records.os, 'fsync', fail)
        with pytest.raises(OSError, match='No space left'): rec.append(**row(4))
    assert rec.path.read_bytes() == before
    rec.append(**row(4))
    assert len(read_run(rec.path)) == 4


@pytest.mark.skipif(not hasattr(signal, 'SIGKILL'), reason='needs a process that can be killed')
def test_kill(tmp_path):
    "A process killed while it appends leaves a record that reads and goes on"
    code = f"""
from inception_repro.training.records import *
rec = Record.create({str(tmp_path)!r}, **{WHAT!r})
i = 0
while True:
    i += 1
    rec.append(**{{k: i / 1e9 if kind is float else i for k, kind in COLUMNS.items()}})
"""
    p = subprocess.Popen([sys.executable, '-c', code])
    path = run_path(tmp_path, WHAT['dataset'], WHAT['model'], WHAT['seed'])
    try:
        end = time.monotonic() + 20
        while time.monotonic() < end and not (path.exists() and path.stat().st_size > 2000): time.sleep(.01)
    finally: p.kill()
    p.wait()
    n = len(read_run(path))
    assert n > 5 and not read_run(path).meta['finished']
    assert Record.resume(path, step=n - 2, env=ENV).last['step'] == n - 2
    assert read_run(path)['step'].tolist() == list(range(1, n - 1))


@pytest.mark.parametrize('field', ['loss', 'lr', 'epoch', 'seconds'])
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_never_writes_what_is_not_a_number(rec, field, value):
    before = rec.path.read_bytes()
    with pytest.raises(ValueError, match=f'{field} is'): rec.append(**row(4, **{field: value}))
    assert rec.path.read_bytes() == before


@pytest.mark.parametrize('field', ['step', 'epoch', 'images', 'seconds'])
def test_rows_go_forwards(rec, field):
    with pytest.raises(ValueError, match=f'{field} goes from'): rec.append(**row(4, **{field: 0}))


@pytest.mark.parametrize('field',
                         ['model', 'seed', 'dataset', 'dataset_hash', 'recipe', 'environment', 'finished', 'time'])
def test_missing_field(rec, field):
    js = rec.path.with_suffix('.json')
    meta = json.loads(js.read_text())
    js.write_text(json.dumps({k: v for k, v in meta.items() if k != field}))
    with pytest.raises(ValueError, match=f'lacks {field}'): read_run(rec.path)


def test_runs_of_one_recipe(tmp_path):
    for seed in range(3):
        rec = Record.create(tmp_path, **{**WHAT, 'seed': seed, 'recipe': dict(lr=.045, seed=seed)})
        rec.append(**row(1))
        rec.finish()
    assert [r.meta['seed'] for r in read_runs(tmp_path / 'd')] == [0, 1, 2]


def test_runs_that_are_going_are_left_out(tmp_path):
    "With a warning that names them; the recipe of theirs does not matter"
    for seed in range(3):
        rec = Record.create(tmp_path, **{**WHAT, 'seed': seed, 'recipe': dict(lr=.045 if seed == 1 else .1)})
        rec.append(**row(1))
        if seed == 1: rec.finish()
    with pytest.warns(UserWarning,
                      match='inception_resnet_v2.released-0, inception_resnet_v2.released-2 left out, not finished'):
        assert [r.meta['seed'] for r in read_runs(tmp_path / 'd')] == [1]
    with pytest.raises(ValueError, match='recipes differ'): read_runs(tmp_path / 'd', unfinished=True)
    assert [r.meta['finished'] for r in read_runs(tmp_path / 'd', mixed=True, unfinished=True)] == [False, True, False]


def test_a_finished_run_that_is_cut_off_is_refused(tmp_path):
    rec = Record.create(tmp_path, **WHAT)
    rec.append(**row(1))
    rec.finish()
    rec.path.write_bytes(rec.path.read_bytes()[:-1])
    with pytest.raises(ValueError, match='its table is cut off'): read_runs(tmp_path / 'd')


def test_environment_outside_a_repository(monkeypatch):
    monkeypatch.setattr(environment.subprocess, 'run', lambda *a, **k: (_ for _ in ()).throw(FileNotFoundError('git')))
    assert records.environment()['commit'] is None
