"""The command as a shell sees it: exit codes, standard output, files;
and the committed figures against their definitions.

Not in a notebook: it starts processes, and redraws all twenty figures.
"""
import json
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

root = Path(__file__).parents[1]
tiny = [o for s in ('classes=3', 'per_class=22', 'valid_per_class=4', 'evals=2', 'epochs=1')
        for o in ('--set', s)] + ['--set', 'width=0.0625']


def settings(fields): return [o for k, v in fields.items() for o in ('--set', f'{k}={v}')]


@pytest.fixture(scope='module')
def tiny_imagenet(tmp_path_factory):
    "200 classes in Tiny ImageNet's own layout: two noisy images of each to train on, one to validate"
    root, rng, lines = tmp_path_factory.mktemp('data') / 'tiny-imagenet-200', np.random.default_rng(0), []

    def write(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    for c in (f'n{c:08}' for c in range(200)):
        for i in range(2): write(root / f'train/{c}/images/{c}_{i}.JPEG')
        write(root / f'val/images/val_{c}.JPEG')
        lines.append(f'val_{c}.JPEG\t{c}\t0\t0\t63\t63\n')
    (root / 'val/val_annotations.txt').write_text(''.join(lines))
    return root


def shell(*args, cwd=None, **env):
    own = '-W', 'ignore', '-W', 'default::UserWarning'  # others change with the versions of what is installed
    done = subprocess.run([sys.executable, *own, '-c', 'from inception_repro.cli import main; main()', *map(str, args)],
                          capture_output=True, text=True, cwd=cwd, timeout=300,
                          env={**os.environ, 'COLUMNS': '120', 'FORCE_COLOR': '',
                               **{k: str(v) for k, v in env.items()}})
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
    (['train', 'inception_v4', '--device', 'gpu'], 1, "unknown device 'gpu'; one of cpu, cuda, cuda:N"),
    (['train', 'inception_v4', '--lr', '.02', '--set', 'lr=.01'], 1, '--lr and --set lr are both given'),
    (['train', 'inception_v4', '--resume'], 2, 'run the same command again'),
    (['reproduce', '--seeds', '0'], 1, '--seeds is 0'),
    (['reproduce', '--set', 'seeds=2'], 1, '--set does not take seeds; use --seeds'),
    (['train', 'inception_v4', '--memory', '-1'], 2, 'Invalid value'),
    (['rates', '--preset', 'tiny'], 1, 'give --data'),
    (['figures', 'nowhere'], 1, 'nowhere'), (['draw', 'fig21'], 1, '`inception-repro figures`'),
    (['figures', root / 'figures/runs'], 1, 'give one of its folders: fractals, tiny-imagenet-40'),
    (['plan', '--set', 'dataset=mnist'], 1, "how many images 'mnist' has is not known")])
def test_mistakes_are_one_line(args, code, words, tmp_path):
    found, out, err = shell(*args, cwd=tmp_path)
    assert found == code and words in err
    if code == 1: assert len(err.strip().splitlines()) == 1 and 'Traceback' not in err


@pytest.mark.parametrize('command, options, words', [
    ('reproduce', dict(settings=['models=("inception_v4",)']), '--set does not take models; use --models'),
    ('reproduce', dict(settings=['say=1']), "unknown field 'say'"),
    ('reproduce', dict(models='inception_v9'), "unknown model 'inception_v9'"),
    ('train', dict(settings=['model=inception_v3']), '--set does not take model; name it after `train`'),
    ('train', dict(settings=['name=tiny']), '--set does not take name; use --preset'),
    ('rates', dict(rmsprop='low,high'), "--rates takes numbers, such as 0.015,0.045, not 'low,high'"),
    ('rates', dict(rmsprop='-1'), 'lr is -1'),
    ('rates', dict(rmsprop='', adamw=''), 'no rate to train at'), ('rates', dict(epochs=0), 'epochs is 0'),
    ('rates', dict(settings=['lr=.1']), '--set does not take lr; use --rates and --adamw')])
def test_what_is_no_field_of_a_recipe(command, options, words, tmp_path, monkeypatch):
    from inception_repro import cli
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(words)):
        getattr(cli, command)(*['inception_v4'] * (command == 'train'), **options)


def test_train_then_again(tmp_path):
    args = ['train', 'inception_resnet_v1', '--out', tmp_path / 'r', '--device', 'cpu',
            '--weights', tmp_path / 'w.safetensors', *tiny]
    code, out, err = shell(*args)
    assert code == 0 and 'top-1 error' in out, err
    assert (tmp_path / 'w.safetensors').exists()
    before = (tmp_path / 'r/fractals/inception_resnet_v1-0.csv').read_bytes()
    assert shell(*args)[0] == 0 and (tmp_path / 'r/fractals/inception_resnet_v1-0.csv').read_bytes() == before
    code, _, err = shell(*args, '--lr', '.01')
    assert code == 1 and 'lr: 0.045 -> 0.01; choose another --out, or replace it with --fresh' in err
    (tmp_path / 'w.safetensors').unlink()
    code, out, err = shell(*args)
    assert code == 1 and 'top-1 error' in out and not (tmp_path / 'w.safetensors').exists()
    assert re.fullmatch(r'inception-repro: .*is finished, and its weights were not kept; '
                        r'train again with --fresh to have them\n', err)


@pytest.mark.parametrize('options, workers, kept', [([], 2, None), (['--workers', '5', '--memory', '.5'], 5, 2**29)])
def test_workers_and_memory_are_passed_on(options, workers, kept, monkeypatch):
    from inception_repro import cli
    from inception_repro.results import rates
    from inception_repro.training import fit as train
    from typer.testing import CliRunner
    asked = []
    def told(*_, workers, max_bytes=None, **__):
        asked.append((workers, max_bytes))
        raise ValueError('enough')
    for module, name, command in (train, 'fit', ['train', 'inception_v4']), (rates, 'run_study', ['rates']):
        monkeypatch.setattr(module, name, told)
        CliRunner().invoke(cli.app, [*command, *options])
    assert asked == [(workers, kept)] * 2


def test_images_stay_files_where_memory_is_little(tiny_imagenet, tmp_path):
    "The option reaches the images: nothing is decoded into the cache"
    args = ['train', 'inception_resnet_v1', '--preset', 'tiny', '--data', tiny_imagenet,
            '--epochs', '1', '--device', 'cpu', '--bs', '100', '--width', '0.0625', '--size', '75', '--workers', '0',
            *(o for k in ('evals', 'per_class') for o in ('--set', f'{k}=1'))]
    for memory, cached in ('0', False), ('.1', True):
        code, _, err = shell(*args, '--memory', memory, '--out', tmp_path / memory, XDG_CACHE_HOME=tmp_path / 'cache')
        assert (code, bool([*tmp_path.glob('cache/*/*/*.pixels')])) == (0, cached), err


def test_reproduce_and_figures(tmp_path):
    "Runs that are given too little time stop; the same command with more of it ends them and draws"
    args = ['reproduce', '--out', tmp_path / 'o', '--device', 'cpu', *tiny]
    code, _, err = shell(*args, '--minutes', '.001')
    assert code == 75 and 'the time is over; the same command resumes at step' in err
    code, _, err = shell(*args)
    assert code == 0, err
    names = {p.name for p in (tmp_path / 'o').iterdir()}
    assert names == {'runs', 'summary.md', *(f'fig{n}.{e}' for n in range(21, 27) for e in ('svg', 'png'))}
    code, _, err = shell(*args, '--weights', tmp_path / 'w')  # each warning is a line, from a process of its own too
    assert code == 0 and len(err.splitlines()) == 7  # four networks, three controls
    assert all(re.match('inception-repro: .*its weights were not kept; train again with --fresh', o)
               for o in err.splitlines())
    code, out, _ = shell('figures', tmp_path / 'o/runs/fractals', '--out', tmp_path / 'again')
    assert code == 0
    for p in (tmp_path / 'again').iterdir(): assert p.read_bytes() == (tmp_path / 'o' / p.name).read_bytes(), p.name


def test_two_steps_of_the_gpu_runs(tiny_imagenet, tmp_path):
    """The command that trains on a GPU, with everything but its size: two steps of each network,
    §3.2's fair partner among them
    """
    from inception_repro.training.records import read_runs
    networks = ['inception_v3', 'inception_resnet_v1', 'inception_v4', 'inception_resnet_v2',
                'inception_resnet_v2.b10_20_10']
    small = dict(width=1/16, px=75, bs=100, epochs=1, evals=1, per_class=1)
    args = ['reproduce', '--preset', 'tiny', '--data', tiny_imagenet, '--minutes', '5',
            '--device', 'cpu', '--jobs', '1', '--no-controls', '--models', ','.join(networks),
            '--runs', tmp_path / 'runs', '--out', tmp_path / 'o', *settings(small)]
    code, _, err = shell(*args, XDG_CACHE_HOME=tmp_path / 'cache')
    assert code == 0, err
    runs = read_runs(tmp_path / 'runs/tiny-imagenet-200')
    assert sorted(r.meta['model'] for r in runs) == sorted(networks)
    for r in runs:
        assert r['step'].tolist() == [2] and r['images'].tolist() == [200]
        assert (r.meta['recipe']['precision'], r.meta['recipe']['classes'],
                r.meta['recipe']['compile']) == ('bf16', 200, True)
    names = {f'fig{n}.{e}' for n in range(21, 27) for e in ('svg', 'png')}
    assert {p.name for p in (tmp_path / 'o').iterdir()} == {'summary.md', *names}
    assert ('tiny-imagenet-200' in (tmp_path / 'o/fig26.svg').read_text()
            and 'b10-20-10' in (tmp_path / 'o/summary.md').read_text())


def test_rates_on_any_images(tiny_imagenet, tmp_path):
    """Given too little time it stops, given more it goes on, draws and tells;
    the preset's rate falls as far in an epoch of it
    """
    from inception_repro.results.rates import read_study
    small = dict(width=1/16, px=75, bs=100, evals=1, per_class=1)
    args = ['rates', '--preset', 'tiny', '--data', tiny_imagenet, '--rates', '0.015,0.045',
            '--adamw', '', '--epochs', '1', '--seeds', '1', '--device', 'cpu', '--jobs', '1',
            '--runs', tmp_path / 'runs', '--out', tmp_path / 'o', *settings(small)]
    code, out, err = shell(*args, '--minutes', '.0001', XDG_CACHE_HOME=tmp_path / 'cache')
    assert code == 75 and 'the time is over; the same command resumes at step' in err and not (tmp_path / 'o').exists()
    code, out, err = shell(*args, XDG_CACHE_HOME=tmp_path / 'cache')
    assert code == 0, err
    assert {p.name for p in (tmp_path / 'o').iterdir()} == {
        f'{k}.{e}' for k in ('rates', 'best') for e in ('svg', 'png')} | {'rates.md'}
    found = read_study(tmp_path / 'runs')
    assert {k: sorted(r['step'][-1] for r in v) for k, v in found.items()} == {
        ('rmsprop_tf', lr): [2] * 4 for lr in (.015, .045)}
    recipes = [r.meta['recipe'] for v in found.values() for r in v]
    assert {(r['dataset'], r['epochs'], r['compress'], r['width'])
            for r in recipes} == {('tiny-imagenet-200', 1, 200., 1/16)}
    table = (tmp_path / 'o/rates.md').read_text()
    assert 'rmsprop_tf 0.015' in table and 'adamw' not in table and 'after 1 epoch, %' in table


def shell_lines(start):
    "Lines of the shell blocks in the notebooks"
    for nb in sorted((root / 'nbs').rglob('[!.]*.ipynb')):
        for cell in json.loads(nb.read_text(encoding='utf-8'))['cells']:
            blocks = (re.findall(r'```sh\n(.*?)```', ''.join(cell['source']), flags=re.S)
                      if cell['cell_type'] == 'markdown' else ())
            yield from (line for block in blocks for line in block.replace('\\\n', ' ').splitlines()
                        if line.startswith(start))


def test_commands_in_the_notebooks_are_spelt_right():
    "Each is parsed: a command, its arguments and options, and fields of the recipe"
    from inception_repro import cli
    from inception_repro.cli_options import recipe_changes
    from typer.main import get_command
    found, app = set(), get_command(cli.app)
    for line in shell_lines('inception-repro '):
        name, *args = shlex.split(line, comments=True)[1:]
        context = app.commands[name].make_context(name, args)
        recipe_changes(context.params.get('settings'))
        found.add(name)
    assert found >= {'reproduce', 'rates', 'figures', 'evaluate', 'train'}


def test_figures_of_a_mixed_folder(tmp_path):
    shutil.copytree(root / 'figures/runs/fractals', tmp_path / 'mixed')
    file, = (tmp_path / 'mixed').glob('inception_v4-0.json')
    meta = json.loads(file.read_text())
    meta['recipe']['lr'] = .1
    file.write_text(json.dumps(meta))
    code, _, err = shell('figures', tmp_path / 'mixed', '--out', tmp_path / 'o')
    assert code == 1 and 'lr is 0.045 in' in err and err.endswith('; keep one recipe to a folder\n')


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


def same_files(made, committed):
    "What was made is what is committed; pictures where matplotlib is the version that drew them"
    import matplotlib
    pinned = re.search(r'^matplotlib==(.+)$', (root / 'constraints.txt').read_text(), flags=re.M)[1]
    assert {p.name for p in made.iterdir()} == {p.name for p in committed.iterdir()}
    for p in made.iterdir():
        if p.suffix == '.md' or p.suffix == '.svg' and matplotlib.__version__ == pinned:
            assert p.read_bytes() == (committed / p.name).read_bytes(), p.name


@pytest.mark.parametrize('dataset', ['fractals', 'tiny-imagenet-40'])
def test_committed_curves_are_their_records(dataset, tmp_path):
    from inception_repro.cli import figures
    figures(root / 'figures/runs' / dataset, tmp_path)
    same_files(tmp_path, root / 'figures' / dataset)


def test_committed_rates_are_their_records(tmp_path):
    from inception_repro.results.rates import write_rates
    write_rates(root / 'figures/runs/rates', tmp_path)
    same_files(tmp_path, root / 'figures/rates')


@pytest.mark.parametrize('device, how', [('cpu', ', not compiled,'), ('cuda', ', compiled,')])
def test_plan_compiles_on_a_gpu_only(device, how, monkeypatch, capsys):
    import torch
    from inception_repro import cli
    from inception_repro.training import fit as train, learner
    asked = []
    monkeypatch.setattr(train, 'find_device', torch.device) # there need not be one
    monkeypatch.setattr(learner, 'profile_step', lambda r, *_: asked.append(r.compile) or dict(forward=1.))
    for preset in 'paper', 'tiny':
        cli.plan(preset, device, bs=2)
        assert how in capsys.readouterr().out
    assert asked == [device == 'cuda'] * 8


def test_plan_of_the_paper_on_a_cpu_does_not_compile(monkeypatch):
    import torch
    from inception_repro.results.plan import plan
    monkeypatch.delattr(torch.nn.Module, 'compile')
    row, = plan('paper', 'cpu', bs=2, steps=1, models=['inception_resnet_v1'], width=1/16, px=75, stored=75)
    assert row['images_per_second'] > 0
