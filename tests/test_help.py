"""What a reader of `--help` is told is true: examples are accepted, and options and defaults that are named exist.

Not in a notebook: each check runs over all commands.
"""
import re
import shlex
import sys

import pytest
from command_fixtures import call
from typer.main import get_command
from typer.testing import CliRunner

from inception_repro import cli, cli_studies
from inception_repro.cli_run import Terminated

APP = get_command(cli.app)
RUNNER = CliRunner(env={'COLUMNS': '80', 'FORCE_COLOR': '', 'TERMINAL_WIDTH': '80'})


def help_of(*command): return RUNNER.invoke(cli.app, [*command, '--help']).stdout


def params(name): return APP.commands[name].params


def examples():
    "(command, example) of each line of `--help` that begins with the name of the tool"
    texts = {'': cli._EXAMPLES, **{n: c.help for n, c in APP.commands.items()}}
    return [(n, m[1]) for n, text in texts.items() for m in re.finditer(r'^(?:- |  )(inception-repro .*)$', text, re.M)]


@pytest.mark.parametrize('name, line', examples())
def test_examples_are_accepted_and_stand_on_one_line(name, line):
    words = shlex.split(line.split(' > ')[0])[1:]
    context = APP.commands[words[0]].make_context(words[0], words[1:])
    cli.recipe_changes(context.params.get('settings'))
    assert any(line in o for o in help_of(*filter(None, [name])).splitlines()), line


def test_there_are_examples():
    assert {n for n, _ in examples()} >= set(APP.commands) - {'models', 'bench'}


@pytest.mark.parametrize('name', APP.commands)
def test_options_in_the_text_exist(name):
    "An option that a help text names is one of the command, unless it is in `…` or in an example"
    own = {o for p in params(name) for o in p.opts + p.secondary_opts}
    text = '\n'.join([APP.commands[name].help, *(getattr(p, 'help', None) or '' for p in params(name))])
    text = re.sub(r'`[^`]*`|^- inception-repro .*$|python -m .*', '', text, flags=re.M)
    assert set(re.findall(r'--[a-z][a-z-]*', text)) <= own


@pytest.mark.parametrize('name', ['', *APP.commands])
def test_words_and_width(name):
    text = help_of(*filter(None, [name]))
    assert text and max(map(len, text.splitlines())) <= 80
    assert not re.search(r'\barms?\b', text, re.I)


def test_defaults_that_are_written_out():
    from inception_repro.results.rates import RATES
    from inception_repro.results.train_many import FOUR
    assert {k: tuple(map(float, v.split(','))) for k, v in cli_studies._RATES.items()} == RATES
    text = ' '.join(help_of('rates').replace('│', ' ').split())
    assert all(f'[default: ({v})]' in text for v in cli_studies._RATES.values())
    assert len(FOUR) == 4 and "[default: (the paper's four)]" in ' '.join(help_of('plan').replace('│', ' ').split())
    plan = ' '.join(help_of('plan').replace('│', ' ').split())
    assert '[default: paper]' in plan and "Without --preset, the estimate is for the paper's own training" in plan


@pytest.mark.parametrize('command, target, resumes', [
    (['bench'], 'inception_repro.benchmarking.bench.bench', False),
    (['plan'], 'inception_repro.results.plan.plan', False),
    (['claims', '.'], 'inception_repro.results.claims.claims', False),
    (['train', 'inception_v4'], 'inception_repro.training.fit.fit', True),
    (['reproduce'], 'inception_repro.results.reproduce.reproduce', True),
    (['stability'], 'inception_repro.results.stability.main', True),
    (['evaluate', 'inception_v3'], 'inception_repro.evaluation.evaluate.evaluate', True)])
@pytest.mark.parametrize('stop, code, words', [(KeyboardInterrupt(), 130, 'stopped'),
                                               (Terminated('SIGTERM was received'), 75, 'SIGTERM was received')])
def test_only_commands_that_resume_say_so(command, target, resumes, stop, code, words, monkeypatch, tmp_path):
    def stopped(*_, **__): raise stop
    __import__(target.rpartition('.')[0])
    monkeypatch.setattr(sys.modules[target.rpartition('.')[0]], target.rpartition('.')[2], stopped)
    found = call(*command, cwd=tmp_path)
    assert found == (code, '', f'inception-repro: {words}' + '; the same command resumes' * resumes + '\n')


@pytest.mark.parametrize('name, words', [
    ('inception_v4', 'did you mean inception_v4.released, or a file of trained weights?'),
    ('inception_resnet_v2.b10_20_10', 'did you mean inception_resnet_v2.released, or a file of trained weights?'),
    ('inception_resnet_v1', 'give a file of trained weights, or one of inception_v3, inception_v4.released, ')])
def test_a_network_without_public_weights(name, words, tmp_path):
    code, _, err = call('evaluate', name, cwd=tmp_path)
    assert code == 1 and err.startswith(f'inception-repro: {name} has no public weights; {words}')


def test_claims_look_where_reproduce_writes(tmp_path):
    default = {p.name: p.default for name in ('reproduce', 'claims') for p in params(name) if p.name in ('out', 'root')}
    assert str(default['out']) == str(default['root']) == 'reproduction'
    code, _, err = call('claims', cwd=tmp_path)
    assert code == 1 and 'reproduction is no folder; run `inception-repro reproduce`' in err
