"The shortcut experiment end to end: its command, and a study that resumes. Not in a notebook: it trains networks."
import warnings

import pytest
from command_fixtures import call

from inception_repro.training.recipe import preset
from inception_repro.results.shortcut import ARMS, arms, read_shortcut, run_shortcut
from slow_cases import slow


def shortcut(*args): return call('shortcut', *args)


TINY = [o for s in ('classes=3', 'per_class=22', 'valid_per_class=4', 'evals=2', 'width=0.0625', 'bs=16')
        for o in ('--set', s)]


def test_the_command(tmp_path):
    where = '--runs', tmp_path / 'runs', '--out', tmp_path / 'out'
    code, out, err = shortcut(*TINY, '--models', 'inception_v3', '--seeds', 1, '--epochs', 1,
                           '--size', 79, '--jobs', 1, '--device', 'cpu', *where)
    assert code == 0, err
    folder = tmp_path / 'runs/79px/fractals'
    study = read_shortcut(folder)
    assert set(study.runs) == {('inception_v3', a, 0) for a in ARMS['inception_v3']} == set(study.activity)
    # the rate falls as far as in the preset's twelve epochs
    assert {r.meta['recipe']['compress'] for r in study.runs.values()} == {72.}
    assert all(len(o['samples']) == 4 for o in study.activity.values())  # steps of this run
    files = {p.name for p in (tmp_path / 'out/79px-fractals').iterdir()}
    assert {'arms-small.png', 'depth-small.svg', 'gradients-small.png', 'shortcut.md'} <= files and 'shortcut.md' in out
    answer = tmp_path / 'out/answer.md'
    assert '| generated images, 3 classes, 79×79 pixels |' in answer.read_text(encoding='utf-8') and str(answer) in out
    before = {p: p.read_bytes() for p in folder.glob('*.csv')}
    table = (tmp_path / 'out/79px-fractals/shortcut.md')
    table.unlink()
    answer.unlink()
    code, out, err = shortcut('--draw', *where)
    assert code == 0 and table.exists() and answer.exists()
    assert before == {p: p.read_bytes() for p in folder.glob('*.csv')}


@pytest.mark.parametrize('args, words', [
    (['--models', 'vgg'], "no variants of 'vgg'; use one of inception_v4, inception_resnet_v2"),
    (['--draw', '--runs', 'nowhere'], 'nowhere holds no records'),
    *slow((['--seeds', '0'], '--seeds is 0; use'),
          (['--set', 'shortcut=1'], '--set does not take shortcut; the variants'),
          (['--set', 'px=99'], '--set does not take px; use --size'))])
def test_mistakes(args, words):
    code, out, err = shortcut(*args)
    assert (code, out) == (1, '') and words in err and len(err.splitlines()) == 1


def test_help_says_what_it_does():
    code, out, _ = shortcut('--help')
    assert (code == 0
            and all(o in out for o in ('--preset', '--data', '--models', '--draw', '--size', '--minutes',
                                       'Train networks with shortcuts')))


def test_a_study_resumes(tmp_path):
    tiny = preset('demo', width=1/16, classes=3, per_class=22, valid_per_class=4, bs=16, epochs=1, evals=1)
    quiet = dict(device='cpu', jobs=1, progress=False)
    first = run_shortcut(tmp_path, tiny, 1, ['inception_v3'], **quiet)
    before = [p.read_bytes() for p in first]
    both = run_shortcut(tmp_path, tiny, 2, ['inception_v3'], **quiet)
    assert both[:3] == first and len(both) == 6 and [p.read_bytes() for p in first] == before
    assert len(arms(tiny, 2, ['inception_v3'])) == 6
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert len(read_shortcut(tmp_path / 'fractals').runs) == 6
