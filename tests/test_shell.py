"""The command as a shell sees it: help, completion, JSON, recipes in files, and what goes to which stream.

Not in a notebook: most of these start a process.
"""
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_type_hints

import pytest
from command_fixtures import call
from typer.main import get_command
from typer.models import OptionInfo
from typer.testing import CliRunner

from inception_repro import cli
from inception_repro.cli_options import FIELDS, read_recipe
from inception_repro.training.recipe import PRESETS, Recipe, preset
from inception_repro.training.records import read_run

TINY = ['--device', 'cpu', '--epochs', '1', '--bs', '8', '--width', '0.0625',
        *(o for s in ('classes=2', 'per_class=8', 'valid_per_class=4', 'evals=1') for o in ('--set', s))]
COMMANDS = get_command(cli.app).commands


def run(*args):
    done = CliRunner().invoke(cli.app, list(map(str, args)))
    return done.exit_code, done.stdout, done.stderr


def test_module_and_short_help():
    args = dict(capture_output=True, text=True, env={**os.environ, 'FORCE_COLOR': '', 'COLUMNS': '100'})
    done = subprocess.run([sys.executable, '-m', 'inception_repro', '--version'], **args)
    assert done.stdout.startswith('inception-repro ')
    assert run('-h')[:2] == run('--help')[:2] and run('train', '-h')[0] == 0


@pytest.mark.parametrize('words, expected', [
    ('inception-repro tr', 'train'), ('inception-repro train inception_res', 'inception_resnet_v1'),
    ('inception-repro train --preset ti', 'tiny40'), ('inception-repro train --rec', '--recipe')])
def test_completion(words, expected):
    env = {**os.environ, '_INCEPTION_REPRO_COMPLETE': 'complete_bash', 'COMP_WORDS': words,
           'COMP_CWORD': str(len(words.split()) - 1)}
    code = "import sys; sys.argv[0] = 'inception-repro'; from inception_repro.cli import main; main()"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env)
    assert expected in done.stdout.split()


def test_options_have_one_meaning():
    "The same name has the same kind in every command, and, where it is a path, the same first words of help"
    seen = {}
    for name, command in COMMANDS.items():
        for k, kind in get_type_hints(command.callback, include_extras=True).items():
            info = kind.__metadata__[0]
            if not isinstance(info, OptionInfo): continue
            words = ' '.join(info.help.split()[:2]) if kind.__origin__ is Path else ''
            option = (info.param_decls or [f"--{k.replace('_', '-')}"])[0]
            seen.setdefault(option, {}).setdefault((kind.__origin__, words), []).append(name)
    several = {o: found for o, found in seen.items() if len(found) > 1}
    assert not several


def test_fields_of_set_are_listed():
    text = ' '.join(call('train', '--help')[1].replace('│', ' ').split())
    assert all(f in text for f in FIELDS[1:])
    assert sorted(PRESETS) == sorted(['demo', 'fractals20', 'fractals50', 'tiny40', 'tiny', 'paper'])


@pytest.mark.parametrize('name', PRESETS)
def test_recipe_is_printed_and_read(name, tmp_path):
    code, out, _ = run('recipe', '--preset', name, '--set', 'clip=None', '--set', 'scale=(.1, .2, .3)')
    assert code == 0 and 'lr = 0.045 # Learning rate' in out
    (tmp_path / 'r.toml').write_text(out, encoding='utf-8')
    tomllib.loads(out)
    assert Recipe(**read_recipe(tmp_path / 'r.toml')) == preset(name, clip=None, scale=(.1, .2, .3))
    assert json.loads(run('recipe', '--recipe', tmp_path / 'r.toml', '--json')[1]) == json.loads(
        run('recipe', '--preset', name, '--set', 'clip=None', '--set', 'scale=(.1, .2, .3)', '--json')[1])


def test_a_record_is_repeated(tmp_path):
    code, out, err = call('train', 'inception_resnet_v1', '--runs', tmp_path / 'a', *TINY, '--seed', 3)
    assert code == 0 and out.count('\n') == 1 and 'epoch 1 of 1' in err, err  # progress is on standard error
    record = tmp_path / 'a/fractals/inception_resnet_v1-3.json'
    code, out, err = run('train', '--recipe', record, '--runs', tmp_path / 'b', '--lr', '.01', '--device', 'cpu')
    assert code == 0, err
    old, new = (read_run(tmp_path / f'{o}/fractals/inception_resnet_v1-3.csv').meta['recipe'] for o in 'ab')
    assert new == {**old, 'lr': .01}
    code, out, err = call('train', '--runs', tmp_path / 'c', *TINY)
    assert code == 1 and 'no network is named; see `inception-repro models`' in err


def test_recipe_files_that_are_none(tmp_path):
    for text, words in [('epochs: 3', 'is neither TOML nor'), ('epoch = 3', "did you mean 'epochs'"),
                        ('epochs = 0', 'epochs is 0; use')]:
        (tmp_path / 'r.toml').write_text(text)
        code, _, err = call('train', 'inception_v4', '--recipe', tmp_path / 'r.toml')
        assert code == 1 and words in err and err.count('\n') == 1, err
    assert 'no file' in call('reproduce', '--recipe', tmp_path / 'none.toml')[2]


def test_json():
    rows = json.loads(run('models', '*v1*', '--json')[1])
    assert [r['network'] for r in rows] == ['inception_resnet_v1', 'inception_resnet_v1.facenet']
    assert rows[0]['parameters'] == 22_756_328 and rows[0]['gmacs'] == pytest.approx(6.21, abs=.01)
    small = '--width', '.0625', '--size', '75', '--bs', '2', '--rounds', '1', '--device', 'cpu'
    found = json.loads(run('bench', 'inception_resnet_v1', *small, '--json')[1])
    assert [r['name'] for r in found] == ['as built', 'channels last', 'fast', 'frozen']


@pytest.mark.parametrize('args, words', [
    (['bench', 'inception_resnet_v1', '--size', '40'], 'needs at least 75x75'),
    (['evaluate', 'inception_v4'], 'inception_v4 has no public weights; did you mean inception_v4.released, or a file '
                                   'of trained weights?\n')])
def test_networks_that_do_not_fit(args, words):
    code, out, err = call(*args)
    assert (code, out) == (1, '') and words in err and len(err.splitlines()) == 1


@pytest.mark.parametrize('args, words', [
    (['train', 'inception_v4', '--out', 'x'], 'Use --runs, the folder of the records.'),
    (['draw', 'fig04', '--out', 'x.svg'], 'Use --to.'), (['evaluate', 'x', '--out', 'y'], 'Use --predictions.')])
def test_renamed_options(args, words):
    code, _, err = call(*args)
    assert code == 2 and words in ' '.join(err.replace('│', ' ').split())


def test_weights_are_a_folder(tmp_path):
    code, _, err = call('train', 'inception_v4', '--weights', tmp_path / 'a.safetensors')
    assert code == 1 and 'give a folder, in which the file is DATASET/MODEL-SEED.safetensors' in err


def test_stability_is_a_command(tmp_path):
    code, _, err = call('stability', '--draw', '--runs', tmp_path, '--out', tmp_path / 'o')
    assert code == 1 and str(tmp_path) in err and err.count('\n') == 1
