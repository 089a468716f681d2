"""The command as a shell sees it: mistakes, options that are passed on, and the commands in the notebooks.

Not in a notebook: it starts processes.
"""
import json
import os
import re
import shlex
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest

from command_fixtures import call, shell

root = Path(__file__).parents[1]


def test_models_answers_without_torch():
    code = 'import sys; from inception_repro.cli import models; models(); sys.exit("torch" in sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0 and 'inception_v4.released' in done.stdout and '42,679,816' in done.stdout


def test_draw(tmp_path):
    assert call('draw', 'inception_resnet_v2.released', '--to', tmp_path / 'a' / 'net.png')[0] == 0
    assert (tmp_path / 'a' / 'net.png').read_bytes().startswith(b'\x89PNG')
    code, out, err = call('draw', 'fig04', '--to', tmp_path / 'f.bmp')
    assert (code, out) == (1, '') and err.startswith('inception-repro: cannot write') and len(err.splitlines()) == 1


@pytest.mark.parametrize('args, code, words', [
    (['--help'], 0, ''), (['paint'], 2, 'No such command'),
    (['train'], 1, 'no network is named; see `inception-repro models`'),
    (['train', 'inception_v9'], 1, "unknown model 'inception_v9'; did you mean"),
    (['train', 'inception_v4', '--preset', 'demos'], 1, "unknown preset 'demos'"),
    (['train', 'inception_v4', '--lr', '-1'], 1, 'lr is -1'),
    (['train', 'inception_v4', '--size', '40'], 1, 'px is 40; inception_v4 needs 75'),
    (['train', 'inception_v4', '--preset', 'tiny40'], 1, 'give --data'),
    (['train', 'inception_v4', '--preset', 'tiny40', '--data', 'no/such/folder'], 1, 'no/such/folder'),
    (['train', 'inception_v4', '--device', 'gpu'], 1, "unknown device 'gpu'; one of cpu, cuda, cuda:N, mps"),
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
    found, out, err = call(*args, cwd=tmp_path)
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


def shell_lines(start):
    "Lines of the shell blocks in the notebooks"
    for nb in sorted((root / 'nbs').rglob('[!.]*.ipynb')):
        for cell in json.loads(nb.read_text(encoding='utf-8'))['cells']:
            blocks = (re.findall(r'```sh\n(.*?)```', ''.join(cell['source']), flags=re.S)
                      if cell['cell_type'] == 'markdown' else ())
            yield from (line for block in blocks for line in block.replace('\\\n', ' ').splitlines()
                        if line.startswith(start) and '--help' not in line)


def test_commands_in_the_notebooks_are_spelt_right():
    "Each is parsed: a command, its arguments and options, and fields of the recipe"
    from inception_repro import cli
    from inception_repro.cli_options import recipe_changes
    from typer.main import get_command
    found, app = set(), get_command(cli.app)
    for line in shell_lines('inception-repro '):
        name, *args = takewhile(lambda o: o != '>', shlex.split(line, comments=True)[1:])
        context = app.commands[name].make_context(name, args)
        recipe_changes(context.params.get('settings'))
        found.add(name)
    assert found >= {'reproduce', 'rates', 'figures', 'evaluate', 'train'}


@pytest.mark.parametrize('minutes', ['-5', '0', 'nan'])
def test_minutes_that_are_none(minutes, monkeypatch, capsys):
    from inception_repro import cli
    monkeypatch.setattr(sys, 'argv', ['inception-repro', 'train', 'inception_v3', '--minutes', minutes])
    with pytest.raises(SystemExit) as e: cli.main()
    assert e.value.code == 1 and f'--minutes is {minutes}; use a number above 0' in capsys.readouterr().err


COMMAND = [sys.executable, '-c', 'from inception_repro.cli import main; main()']


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='needs a full disk')
@pytest.mark.parametrize('args', [['models'], ['models', '--json'], ['recipe'], ['--help'], ['--version']])
@pytest.mark.parametrize('buffered', ['', '1'])
def test_full_standard_output(args, buffered):
    with open('/dev/full', 'w') as full:
        done = subprocess.run([*COMMAND, *args], stdout=full, stderr=subprocess.PIPE, text=True,
                              env={**os.environ, 'PYTHONUNBUFFERED': buffered})
    words = 'inception-repro: standard output: it cannot be written: No space left on device\n'
    assert (done.returncode, done.stderr) == (1, words)


@pytest.mark.skipif(os.name == 'nt', reason='needs POSIX')
@pytest.mark.parametrize('args', [['models'], ['--help']])
def test_closed_standard_output(args):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, *args], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, '')


def test_broken_pipe_between_processes(monkeypatch):
    "It is no reader of standard output that has seen enough"
    import inception_repro.evaluation.evaluate as module

    def fails(*args, **kwargs): raise BrokenPipeError(32, 'Broken pipe')
    monkeypatch.setattr(module, 'evaluate', fails)
    code, out, err = call('evaluate', 'inception_v4.released')
    assert (code, out) == (1, '')
    assert err == 'inception-repro: a process that this one needs has ended: [Errno 32] Broken pipe\n'
