"""The command as a shell sees it: exit codes, standard output, files; and the committed figures against their definitions.

Not in a notebook: it starts processes, and redraws all twenty figures.
"""
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

root = Path(__file__).parents[1]
tiny = [o for s in ('classes=3', 'per_class=22', 'valid_per_class=4', 'evals=2', 'epochs=1') for o in ('--set', s)] + ['--set', 'width=0.0625']


def shell(*args, cwd=None):
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', 'from inception_repro.cli import main; main()', *map(str, args)],
                          capture_output=True, text=True, cwd=cwd, timeout=300,
                          env={**os.environ, 'COLUMNS': '120', 'FORCE_COLOR': ''})
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize('n', range(1, 21))
def test_committed_figures_are_their_definitions(n, tmp_path):
    from inception_repro.cli import draw_figure
    committed = root / f'figures/architecture/fig{n:02}.svg'
    draw_figure(f'fig{n:02}', out=tmp_path / 'f.svg')
    import matplotlib
    pinned = re.search(r'^matplotlib==(.+)$', (root / 'constraints.txt').read_text(), flags=re.M)[1]
    if matplotlib.__version__ == pinned: assert (tmp_path / 'f.svg').read_bytes() == committed.read_bytes()
    assert abs((tmp_path / 'f.svg').stat().st_size / committed.stat().st_size - 1) < .2


def test_models_answers_without_torch():
    code = 'import sys; from inception_repro.cli import models; models(); sys.exit("torch" in sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0 and 'inception_v4.released' in done.stdout and '42,679,816' in done.stdout


def test_draw(tmp_path):
    assert shell('draw', 'inception_resnet_v2.released', '--out', tmp_path / 'a' / 'net.png')[0] == 0
    assert (tmp_path / 'a' / 'net.png').read_bytes().startswith(b'\x89PNG')
    code, out, err = shell('draw', 'fig04', '--out', tmp_path / 'f.bmp')
    assert (code, out) == (1, '') and err.startswith('inception-repro: cannot write') and len(err.splitlines()) == 1


@pytest.mark.parametrize('args, code, words', [
    (['--help'], 0, ''), (['paint'], 2, 'No such command'), (['train'], 2, 'Missing argument'),
    (['train', 'inception_v9'], 1, "unknown model 'inception_v9'; did you mean"),
    (['train', 'inception_v4', '--preset', 'demos'], 1, "unknown preset 'demos'"),
    (['train', 'inception_v4', '--lr', '-1'], 1, 'lr is -1'),
    (['train', 'inception_v4', '--size', '40'], 1, 'px is 40; inception_v4 needs 75'),
    (['train', 'inception_v4', '--preset', 'tiny40'], 1, 'give --data'),
    (['train', 'inception_v4', '--preset', 'tiny40', '--data', 'no/such/folder'], 1, 'no/such/folder'),
    (['train', 'inception_v4', '--device', 'gpu'], 1, 'gpu'),
    (['reproduce', '--seeds', '0'], 1, '--seeds is 0'),
    (['figures', 'nowhere'], 1, 'nowhere'),
    (['plan', '--set', 'dataset=mnist'], 1, "how many images 'mnist' has is not known")])
def test_mistakes_are_one_line(args, code, words, tmp_path):
    found, out, err = shell(*args, cwd=tmp_path)
    assert found == code and words in err
    if code == 1: assert len(err.strip().splitlines()) == 1 and 'Traceback' not in err


def test_train_then_again(tmp_path):
    args = ['train', 'inception_resnet_v1', '--out', tmp_path / 'r', '--device', 'cpu', '--weights', tmp_path / 'w.safetensors', *tiny]
    code, out, err = shell(*args)
    assert code == 0 and 'top-1 error' in out, err
    assert (tmp_path / 'w.safetensors').exists()
    before = (tmp_path / 'r/fractals/inception_resnet_v1-0.csv').read_bytes()
    assert shell(*args)[0] == 0 and (tmp_path / 'r/fractals/inception_resnet_v1-0.csv').read_bytes() == before
    code, _, err = shell(*args, '--lr', '.01')
    assert code == 1 and 'lr: 0.045 -> 0.01' in err


def test_train_passes_workers_on(monkeypatch):
    from inception_repro import cli, train
    from typer.testing import CliRunner
    asked = []
    def fit(*_, workers, **__):
        asked.append(workers)
        raise ValueError('enough')
    monkeypatch.setattr(train, 'fit', fit)
    for options in [], ['--workers', '5']: CliRunner().invoke(cli.app, ['train', 'inception_v4', *options])
    assert asked == [2, 5]


def test_reproduce_and_figures(tmp_path):
    "Runs that are given too little time stop; the same command with more of it ends them and draws"
    args = ['reproduce', '--out', tmp_path / 'o', '--device', 'cpu', *tiny]
    code, _, err = shell(*args, '--minutes', '.001')
    assert code == 75 and 'the time is over; the same command goes on from step' in err
    code, _, err = shell(*args)
    assert code == 0, err
    names = {p.name for p in (tmp_path / 'o').iterdir()}
    assert names == {'runs', 'summary.md', *(f'fig{n}.{e}' for n in range(21, 27) for e in ('svg', 'png'))}
    code, out, _ = shell('figures', tmp_path / 'o/runs/fractals', '--out', tmp_path / 'again')
    assert code == 0
    for p in (tmp_path / 'again').iterdir(): assert p.read_bytes() == (tmp_path / 'o' / p.name).read_bytes(), p.name


def test_side_by_side_is_one_by_one(tmp_path):
    "Two processes of one thread give the records of one process of one thread"
    import torch
    from inception_repro.records import compare
    from inception_repro.reproduce import recipes, train_all
    changes = dict(classes=3, per_class=22, valid_per_class=4, width=1/16, epochs=1, evals=2)
    rs = recipes('demo', models=['inception_v3', 'inception_resnet_v1'], **changes)
    threads = torch.get_num_threads()
    a = train_all(rs, tmp_path / 'a', jobs=2, device='cpu', progress=False)
    try:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // 2))
        b = train_all(rs, tmp_path / 'b', jobs=1, device='cpu', progress=False)
    finally: torch.set_num_threads(threads)
    assert [compare(p, q) for p, q in zip(a, b)] == ['', '']


def test_stopped_and_killed_it_goes_on(tmp_path):
    "Ctrl-C, then a kill of the command alone: no process is left, and the runs can be ended as if nothing had been"
    import torch
    from inception_repro.records import compare, read_run
    from inception_repro.reproduce import recipes, train_all
    pair = ['inception_v3', 'inception_resnet_v1']
    changes = dict(classes=3, per_class=11, valid_per_class=4, bs=8, width=1/16, epochs=16, evals=1/2)
    code = f"""import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
from functools import partial
from inception_repro import cli, reproduce
reproduce.reproduce = partial(reproduce.reproduce, models={pair})
cli.main()"""
    args = ['reproduce', '--out', tmp_path / 'o', '--device', 'cpu', '--jobs', '2']
    args += [o for k, v in changes.items() for o in ('--set', f'{k}={v}')]

    def step(): return max((int(f.stem) for f in tmp_path.glob('o/runs/fractals/checkpoints/*/*.pt')), default=0)

    def command(stop):
        "Stop it once it has gone on; its exit code, and its errors to the end: until no process is left that could write"
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
    assert found == 130 and 'stopped; the same command goes on' in err and 'Traceback' not in err
    assert command(lambda p: p.kill())[0] == -signal.SIGKILL
    threads, todo = torch.get_num_threads(), recipes('demo', models=pair, **changes)
    try:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // 2))
        again, whole = (train_all(todo, tmp_path / o, jobs=1, device='cpu', progress=False) for o in ('o/runs', 'whole'))
    finally: torch.set_num_threads(threads)
    assert any(read_run(p).meta['time']['resumed'] for p in again)
    assert [compare(p, q) for p, q in zip(again, whole)] == ['', '']


def test_an_error_in_one_run_stops_all(tmp_path):
    from inception_repro.reproduce import recipes, train_all
    rs = recipes('demo', models=['inception_v3', 'inception_resnet_v1'], dataset='nowhere', classes=3)
    with pytest.raises(ValueError, match="'nowhere' can be neither generated nor downloaded"):
        train_all(rs, tmp_path, jobs=2, device='cpu', progress=False)


def test_one_that_fails_does_not_wait_for_the_others(tmp_path):
    from inception_repro.reproduce import recipes, train_all
    small = dict(classes=3, per_class=22, valid_per_class=4, width=1/16)
    long, = recipes('demo', models=['inception_v3'], epochs=10_000, **small)
    wild, = recipes('demo', models=['inception_resnet_v1'], epochs=1, lr=1e30, clip=None, **small)
    with pytest.raises(FloatingPointError, match='the loss is'): train_all([long, wild], tmp_path, jobs=2, device='cpu', progress=False)
    deadline = time.monotonic() + 60
    while multiprocessing.active_children() and time.monotonic() < deadline: time.sleep(.1)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize('dataset', ['fractals', 'tiny-imagenet-40'])
def test_committed_curves_are_their_records(dataset, tmp_path):
    from inception_repro.cli import figures
    import matplotlib
    figures(root / 'figures/runs' / dataset, tmp_path)
    pinned = re.search(r'^matplotlib==(.+)$', (root / 'constraints.txt').read_text(), flags=re.M)[1]
    assert (tmp_path / 'summary.md').read_text() == (root / 'figures' / dataset / 'summary.md').read_text()
    for p in tmp_path.glob('*.svg'):
        if matplotlib.__version__ == pinned: assert p.read_bytes() == (root / 'figures' / dataset / p.name).read_bytes(), p.name


@pytest.mark.parametrize('device, how', [('cpu', ', not compiled,'), ('cuda', ', compiled,')])
def test_plan_compiles_on_a_gpu_only(device, how, monkeypatch, capsys):
    import torch
    from inception_repro import cli, learner, train
    asked = []
    monkeypatch.setattr(train, '_device', torch.device) # there need not be one
    monkeypatch.setattr(learner, 'profile_step', lambda r, *_: asked.append(r.compile) or dict(forward=1.))
    for preset in 'paper', 'tiny':
        cli.plan(preset, device, bs=2)
        assert how in capsys.readouterr().out
    assert asked == [device == 'cuda'] * 8


def test_plan_of_the_paper_on_a_cpu_does_not_compile(monkeypatch):
    import torch
    from inception_repro.reproduce import plan
    monkeypatch.delattr(torch.nn.Module, 'compile')
    row, = plan('paper', 'cpu', bs=2, steps=1, models=['inception_resnet_v1'], width=1/16, px=75, stored=75)
    assert row['images_per_second'] > 0
