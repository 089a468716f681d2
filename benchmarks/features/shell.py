"""Features of the command"""
import json
import os
import subprocess
import sys

from . import check, feature


def shell(*args, code=0):
    "What the command prints on standard output"
    done = subprocess.run([sys.executable, '-m', 'inception_repro', *map(str, args)], capture_output=True, text=True)
    if done.returncode != code: raise AssertionError(f'exit code {done.returncode}: {done.stderr}')
    return done.stdout


def first_line(text): return next(filter(None, map(str.strip, text.splitlines())))


@feature('shell', 'the command as a module', 'python -m inception_repro --version')
def as_module(): return first_line(shell('--version'))


@feature('shell', 'short help', 'inception-repro -h')
def short_help(): return check('Usage' in (text := shell('-h')), first_line(text))


@feature('shell', 'completion of commands, options and names', 'inception-repro train inception_res<Tab>')
def completion():
    code = "import sys; sys.argv[0] = 'inception-repro'; from inception_repro.cli import main; main()"
    env = {**os.environ, '_INCEPTION_REPRO_COMPLETE': 'complete_bash', 'COMP_CWORD': '2',
           'COMP_WORDS': 'inception-repro train inception_res'}
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env)
    return check('inception_resnet_v1' in (found := done.stdout.split()), ', '.join(found))


@feature('shell', 'tables as JSON', 'inception-repro models --json')
def as_json(): return f"{len(json.loads(shell('models', '--json')))} networks"


@feature('shell', 'a recipe as a file', 'inception-repro recipe > my.toml')
def recipe_file(tmp):
    (tmp / 'my.toml').write_text(shell('recipe', '--set', 'lr=0.01'), encoding='utf-8')
    back = json.loads(shell('recipe', '--recipe', tmp / 'my.toml', '--json'))
    return check(back['lr'] == .01, f'{len(back)} fields, read back with --recipe')


@feature('shell', "a record's recipe again", 'inception-repro train --recipe ….json')
def again(tmp):
    small = [o for k in ('classes=2', 'per_class=8', 'valid_per_class=4', 'evals=1') for o in ('--set', k)]
    shell('train', 'inception_resnet_v1', '--runs', tmp / 'a', '--epochs', 1, '--bs', 8, '--width', 1 / 16, *small)
    out = shell('train', '--recipe', tmp / 'a/fractals/inception_resnet_v1-0.json', '--runs', tmp / 'b')
    return check(out.count('\n') == 1, 'one line on standard output')


@feature('shell', 'the fields of --set', 'inception-repro train --help')
def fields():
    from inception_repro.cli_options import FIELDS
    text = ' '.join(shell('train', '--help').replace('│', ' ').split())
    return check(all(f in text for f in FIELDS[1:]), f'{len(FIELDS) - 1} fields are listed')


@feature('shell', 'the studies are commands', 'inception-repro stability --help')
def studies():
    return ', '.join(first_line(shell(o, '--help')).split('[')[0].split()[-1] for o in ('stability', 'shortcut'))
