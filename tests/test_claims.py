"""Verdicts on records whose answers are known, and the page of the committed ones.

Not in a notebook: many small folders, and a shell.
"""
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from inception_repro.results.claims import claims, write_claims
from inception_repro.results.plotting import large, small
from inception_repro.results.quotes import CHECKED, CLAIMS, SUBJECTS, digest
from inception_repro.results.findings import capped, section_33
from inception_repro.results.judgement import (
    CONFIRMED, CONTRADICTED, NOT_OBSERVED, PARTLY, TRAIN, UNTESTED, VERDICTS, Judgement, Records, combine, command,
    describe)
from inception_repro.results.judges import (
    alike, better, competitive, faster, learns, mainly_size, no_blocks, twins)

from claims_fixtures import judged, PURE, RESIDUAL, write

root = Path(__file__).parents[1]


@pytest.fixture(scope='module')
def page(): return claims(root / 'figures')


def test_quotes():
    assert all(c.quote and c.section for c in CLAIMS)
    assert max(Counter(c.quote for c in CLAIMS).values()) == 1
    assert digest() == CHECKED, 'a quote was changed: compare it with arXiv v2, then set CHECKED'


def test_every_row_has_a_record_or_a_reason(page):
    assert len(page.rows) == len(CLAIMS) and sum(page.counts().values()) == len(CLAIMS)
    for c, j in page.rows:
        assert j.verdict in VERDICTS and (j.numbers and j.figure and j.command or j.reason), c.quote
        for f in filter(None, j.figure.split(', ')): assert (root / f).exists(), f
        assert c.section != '§3.3' or j.verdict != UNTESTED, (
            f'no row of the verdicts of stability is found for {c.quote!r}')
    text = page._repr_markdown_()
    assert all(c.quote in text for c in CLAIMS) and text.startswith(f'{len(CLAIMS)} sentences')
    heads = [line.removeprefix('### ').lower() for line in text.splitlines() if line.startswith('### ')]
    parts = [f'evidence: {s}'.lower() for s in SUBJECTS]
    assert heads == [*(s.lower() for s in SUBJECTS), 'training runs', *parts, 'commands']


def test_the_short_tables_and_the_evidence_have_the_same_rows(page):
    numbers = lambda text: [int(o) for o in re.findall(r'^\| (\d+) \|', text, flags=re.M)]
    assert numbers(page.sentences()) == numbers(page.evidence()) == [*range(1, len(CLAIMS) + 1)]
    cells = [cell for line in page.sentences().splitlines() for cell in line.split(' | ')[-1].split('<br>')]
    assert max(map(len, cells)) < 260 and max(len(j.brief) for _, j in page.rows) < 1300 # all sets of runs
    assert not [c.quote for c, j in page.rows if not j.brief]


def test_the_summary_is_computed(page, tmp_path):
    for p in page, claims(tmp_path / 'figures'):
        text = p.summary()
        assert all(f'{n} *{v}*' in text for v, n in p.counts().items())
        assert text.splitlines()[-1] == f"| **all** | {' | '.join(map(str, p.counts().values()))} | {len(CLAIMS)} |"
        assert p.headlines().count('**') == 2 * 10


def test_without_records_only_counts_are_judged(tmp_path, page):
    empty = claims(tmp_path / 'figures')
    for (c, j), (_, full) in zip(empty.rows, page.rows):
        counted = 'inception-repro models' in j.command
        if not counted: assert j.verdict == UNTESTED and j.reason, c.quote
        if not counted and not j.command: assert full.verdict == UNTESTED # no record could decide: a reason, for ever
    assert write_claims(tmp_path / 'figures', tmp_path / 'claims.md').read_text('utf-8') == empty._repr_markdown_()


def test_a_judgement_needs_something_to_rest_on():
    with pytest.raises(ValueError, match='give the reason'): Judgement(CONFIRMED, 'numbers', figure='a.svg')
    with pytest.raises(ValueError, match='one of confirmed'): Judgement('seen', reason='none')
    a, b = Judgement(CONFIRMED, reason='a'), Judgement(CONTRADICTED, reason='b')
    assert combine(a, b, names=('x', 'y')).numbers == f'*x*, {CONFIRMED}: a<br>*y*, {CONTRADICTED}: b'


# training speed

@pytest.mark.parametrize('half, verdict', [(1.5, CONFIRMED), (2.4, PARTLY), (3, NOT_OBSERVED), (6, CONTRADICTED)])
def test_faster(tmp_path, half, verdict):
    j = judged(faster(large), tmp_path, {PURE: (3, 20), RESIDUAL: (half, 20)})
    assert j.verdict == verdict and 'control' not in j.numbers and TRAIN['control'] not in j.command
    assert 'over 9 pairs of seeds' in j.numbers
    cause = faster(large, causal=True)(Records(tmp_path))
    assert 'no record of a control' in cause.numbers and TRAIN['control'] in cause.command


def test_faster_needs_records_and_seeds(tmp_path):
    j = faster(large)(Records(tmp_path))
    assert j.verdict == UNTESTED and j.command == TRAIN['short'] and 'Inception-v4' in j.reason
    assert judged(faster(large), tmp_path, {PURE: (3, 20), RESIDUAL: (1.5, 20)}, seeds=1).verdict == PARTLY


@pytest.mark.parametrize('seeds, kinds', [(1, ['runs']), (2, ['runs/plateau', 'runs'])])
def test_a_single_seed_decides_only_if_there_is_no_other_run(tmp_path, seeds, kinds):
    "With two seeds, the plateau alone decides about the end; short runs then still count for the speed"
    nets = {PURE: (3, 20), RESIDUAL: (1.5, 20)}
    used = lambda **kwargs: [p.parent.as_posix() for p in Records(tmp_path).sets(large, **kwargs)]
    judged(faster(large), tmp_path, nets, 'runs/plateau', seeds)
    assert used() == used(end=True) == ['runs/plateau'] # there is nothing else
    judged(faster(large), tmp_path, nets, 'runs', 2)
    assert (used(), used(end=True)) == (kinds, kinds[:1])


TWIN = f'{PURE}+shortcut0.2'
WITHOUT, WITH = f'{RESIDUAL}+no_addition', f'{RESIDUAL}+scale1+projection_norm'


@pytest.mark.parametrize('half, verdict', [
    (None, PARTLY), (1.5, CONFIRMED), (2.4, PARTLY), (3, NOT_OBSERVED), (6, CONTRADICTED)])
def test_a_cause_is_judged_by_a_network_with_shortcuts(tmp_path, half, verdict):
    nets = {PURE: (3, 20), RESIDUAL: (1.5, 20)} | ({TWIN: (half, 20)} if half else {})
    j = judged(faster(large, causal=True), tmp_path, nets)
    assert j.verdict == verdict
    assert ('without shortcuts, Inception-v4 needs' in j.numbers) == bool(half)
    assert ('twins with and without shortcuts × 0.2: ' in j.brief) == bool(half)
    assert (TRAIN['control'] in j.command) == (not half)
    assert faster(large)(Records(tmp_path)).verdict == CONFIRMED # a caption compares two curves


@pytest.mark.parametrize('half, verdict', [(3, CONFIRMED), (1.5, NOT_OBSERVED), (1, CONTRADICTED)])
def test_a_cause_is_judged_by_a_network_without_its_additions(tmp_path, half, verdict):
    nets = {PURE: (3, 20), RESIDUAL: (1.5, 20), WITHOUT: (half, 20), WITH: (1.5, 20)}
    j = judged(faster(large, causal=True), tmp_path, nets)
    assert j.verdict == verdict and 'twins with and without additions: ' in j.brief


@pytest.mark.parametrize('slow, verdict', [(3, CONFIRMED), (1.6, PARTLY), (.5, PARTLY)])
def test_a_dataset_without_twins_is_listed_with_the_others(tmp_path, slow, verdict):
    "It cannot confirm the cause, and does not weaken it unless its own two curves do"
    nets = {PURE: (3, 20), RESIDUAL: (1.5, 20)}
    judged(faster(large, causal=True), tmp_path, nets | {TWIN: (1.5, 20)})
    j = judged(faster(large, causal=True), tmp_path, {**nets, PURE: (slow, 20)}, dataset='tiny-imagenet-40')
    assert j.verdict == verdict and list(map(str, j.runs)) == ['runs/fractals', 'runs/tiny-imagenet-40']
    twins_of, none = j.brief.split('<br>')
    assert 'fractals: 1.99× (twins with and without shortcuts × 0.2: 1.99×)' in twins_of
    assert none.endswith('× (no twins)')


@pytest.mark.parametrize('half, verdict', [(3, NOT_OBSERVED), (6, CONTRADICTED)])
def test_a_dataset_without_twins_does_not_save_a_cause(tmp_path, half, verdict):
    nets = {PURE: (3, 20), RESIDUAL: (1.5, 20)}
    for more, name in ({TWIN: (half, 20)}, 'fractals'), ({}, 'tiny-imagenet-40'):
        assert judged(faster(large, causal=True), tmp_path, nets | more, dataset=name).verdict == verdict


def test_every_dataset_of_a_pair_is_in_the_evidence_of_the_cause(page):
    "As in the caption of the figure of this pair; the shortcut study replaces short runs on the same images"
    of = lambda start: next(j for c, j in page.rows if c.quote.startswith(start) and 'Inception-v4' in j.brief)
    cause, caption = of('Here we give clear'), of('The residual version was training much faster')
    records = Records(root / 'figures')
    images = lambda folders: {records.runs(f)[0].meta['dataset_hash'] for f in folders if records.has(f, large)}
    assert len(images(caption.runs)) == 4 and images(caption.runs) <= images(cause.runs)
    study = images(f for f in cause.runs if 'shortcut' in f.parts)
    ratios = [f.text for f in caption.facts if f.text.endswith('×')]
    kept = [r for r, f in zip(ratios, caption.runs, strict=True) if images([f]) - study]
    assert kept and {*kept} <= {f.text for f in cause.facts}


def test_twins_that_disagree_confirm_a_cause_partly(tmp_path):
    nets = {PURE: (3, 20), RESIDUAL: (1.5, 20), TWIN: (1.5, 20), WITHOUT: (1.5, 20), WITH: (1.5, 20)}
    assert judged(faster(large, causal=True), tmp_path, nets).verdict == PARTLY


@pytest.mark.parametrize('half', [1, 1.5, 3])
def test_the_network_without_blocks_is_no_test_of_the_cause(tmp_path, half):
    "The hypothesis predicts that a deep network with shortcuts trains as fast as the shallow one inside it"
    nets = {PURE: (3, 20), RESIDUAL: (1.5, 20), no_blocks(RESIDUAL): (half, 20)}
    j = judged(faster(large, causal=True), tmp_path / 'alone', nets)
    assert j.verdict == PARTLY and 'with its blocks, Inception-ResNet-v2 needs' in j.numbers
    assert ('there is no sign that the blocks lower the error' in j.numbers) == (half <= 1.5)
    assert judged(faster(large, causal=True), tmp_path, nets | {TWIN: (1.5, 20)}).verdict == CONFIRMED


def test_twins_differ_in_the_addition_alone():
    names = {PURE, RESIDUAL, TWIN, f'{PURE}+no_blocks', f'{RESIDUAL}+no_blocks', WITHOUT}
    assert twins(names, *large) == [(PURE, TWIN), (WITHOUT, RESIDUAL)]
    assert twins(names | {WITH}, *large)[-1] == (WITHOUT, WITH)
    assert twins(names - {WITHOUT, TWIN}, *large) == [] and twins(names, *small) == []


def test_a_twin_is_found_in_the_shortcut_study(tmp_path):
    nets = {PURE: (3, 20), RESIDUAL: (1.5, 20)}
    judged(faster(large), tmp_path, nets)
    for px in 75, 107: judged(faster(large), tmp_path, nets | {TWIN: (1.5, 20)}, f'runs/shortcut/{px}px', px=px)
    j = faster(large, causal=True)(Records(tmp_path))
    assert (j.verdict == CONFIRMED and list(map(str, j.runs)) == ['runs/shortcut/107px/fractals']
            and 'inception-repro shortcut' in j.command)
    assert list(map(str, faster(large)(Records(tmp_path)).runs)) == ['runs/fractals']
    judged(faster(large), tmp_path, nets, 'runs/fractals20', digest='other images')
    j = faster(large, causal=True)(Records(tmp_path)) # the study replaces only runs on the same images
    assert list(map(str, j.runs)) == ['runs/shortcut/107px/fractals', 'runs/fractals20/fractals']


# the end of training

@pytest.mark.parametrize('end, slightly, verdict', [
    (19.5, True, CONFIRMED), (15, True, PARTLY), (15, False, CONFIRMED), (20, True, NOT_OBSERVED),
    (25, True, CONTRADICTED)])
def test_better(tmp_path, end, slightly, verdict):
    j = judged(better(RESIDUAL, PURE, slightly=slightly), tmp_path, {PURE: (1, 20), RESIDUAL: (1, end)})
    assert j.verdict == verdict and 'not at a plateau' not in j.numbers


def test_nothing_is_said_of_the_end_before_the_plateau(tmp_path):
    j = judged(better(RESIDUAL, PURE), tmp_path, {PURE: (4, 20), RESIDUAL: (1, 15)})
    assert j.verdict == NOT_OBSERVED and 'not at a plateau: Inception-v4' in j.numbers and TRAIN['plateau'] in j.command


def test_plateau_runs_are_preferred(tmp_path):
    judge = better(RESIDUAL, PURE)
    assert judged(judge, tmp_path, {PURE: (4, 20), RESIDUAL: (1, 15)}).verdict == NOT_OBSERVED
    j = judged(judge, tmp_path, {PURE: (1, 20), RESIDUAL: (1, 25)}, 'runs/plateau', dataset='tiny-imagenet-40', px=107)
    assert j.verdict == CONTRADICTED and list(map(str, j.runs)) == ['runs/plateau/tiny-imagenet-40']
    assert '--set px=107' in j.command and '/plateau/tiny-imagenet-40/fig21.svg' in j.figure


def test_one_seed_has_no_interval(tmp_path):
    j = judged(better(RESIDUAL, PURE), tmp_path, {PURE: (1, 20), RESIDUAL: (1, 15)}, seeds=1)
    assert j.verdict == NOT_OBSERVED and 'one seed' in j.numbers


def test_unfinished_runs_are_left_out(tmp_path):
    for m in large: write(tmp_path / 'runs', m, 1, finished=False)
    assert better(RESIDUAL, PURE)(Records(tmp_path)).verdict == UNTESTED


@pytest.mark.parametrize('end, same, competes',
                         [(20, CONFIRMED, CONFIRMED), (25, CONTRADICTED, CONTRADICTED), (15, CONTRADICTED, CONFIRMED)])
def test_alike(tmp_path, end, same, competes):
    j = judged(alike(PURE, RESIDUAL), tmp_path, {PURE: (1, end), RESIDUAL: (1, 20)})
    assert j.verdict == same and j.brief.startswith('Inception-ResNet-v2 minus Inception-v4, ')
    assert j.facts[0].value == pytest.approx(20 - end, abs=.01)
    assert competitive(PURE, RESIDUAL)(Records(tmp_path)).verdict == competes


@pytest.mark.parametrize('errors, verdict', [((30, 29.5, 20, 19.5), CONFIRMED), ((30, 20, 29.5, 19.5), CONTRADICTED)])
def test_size_or_connections(tmp_path, errors, verdict):
    nets = dict(zip((*small, *large), ((1, e) for e in errors)))
    assert judged(mainly_size('top1', 26), tmp_path, nets).verdict == verdict


@pytest.mark.parametrize('end, verdict', [(40, CONFIRMED), (88, CONTRADICTED)])
def test_learns(tmp_path, end, verdict):
    assert judged(learns(PURE), tmp_path, {PURE: (1, end)}).verdict == verdict
    assert learns(PURE, 'inception_resnet_v2+no_addition')(Records(tmp_path)).verdict == (
        PARTLY if verdict == CONFIRMED else verdict)


# §3.3

def test_scaling_is_judged_by_its_records(tmp_path):
    at = tmp_path / 'figures/runs/stability/fractals'
    shutil.copytree(root / 'figures/runs/stability/fractals', at)
    judge = section_33('scaling down the residuals')
    assert judge(Records(tmp_path / 'figures')).verdict == PARTLY # some of the scaled runs stay at the chance level
    for p in at.glob('*_scale0.*'): p.unlink()
    for p in at.glob('*_scalereleased_*'): p.unlink()
    assert judge(Records(tmp_path / 'figures')).verdict == UNTESTED
    assert judge(Records(tmp_path)).command.startswith('python -m inception_repro.results.stability')


def test_few_runs_confirm_nothing():
    j = Judgement(CONFIRMED, '1', figure='a.svg', command='run')
    assert [capped(j, n).verdict for n in (3, 2)] == [CONFIRMED, PARTLY]


def test_width_is_judged_by_narrow_networks_too():
    "Networks of at most 1000 filters die too, so the sentence about the threshold is not confirmed as it stands"
    j = section_33('number of filters exceeded 1000')(Records(root / 'figures'))
    assert j.verdict == PARTLY and 'fewer, down to 268: of 6 runs: 4 dead, 2 unstable' in j.numbers


# the shell

def test_command_names_what_the_record_has(tmp_path):
    write(tmp_path / 'figures/runs', PURE, 1, epochs=12)
    records = Records(tmp_path / 'figures')
    assert command(records, Path('runs/fractals')) == (
        'inception-repro reproduce --preset demo --no-controls --seeds 1 --runs figures/runs --out figures/fractals')
    write(tmp_path / 'figures/runs', no_blocks(RESIDUAL), 1, epochs=12, scale=0.)
    assert '--no-controls' not in command(Records(tmp_path / 'figures'), Path('runs/fractals'))
    for seed in 0, 1, 2, 5: write(tmp_path / 'figures/runs', RESIDUAL, 1, epochs=12, seed=seed) # the pure network: one
    records = Records(tmp_path / 'figures')
    *train, draw = command(records, Path('runs/fractals')).splitlines()
    assert [o.partition('--preset demo ')[2] for o in train] == [
        '--seeds 1 --runs figures/runs --out figures/fractals',
        f'--seeds 2 --set seed=1 --models {RESIDUAL} --runs figures/runs --out more',
        f'--seeds 1 --set seed=5 --models {RESIDUAL} --runs figures/runs --out more']
    assert draw == 'inception-repro figures figures/runs/fractals --out figures/fractals'
    assert describe(records, Path('runs/fractals'))[-1] == '1 to 4'


def test_commands_are_spelt_right(tmp_path, page):
    import shlex

    from typer.main import get_command

    from inception_repro.cli import app
    commands, own = get_command(app).commands, page.commands()
    for m, arm in (PURE, {}), (RESIDUAL, {}), (no_blocks(RESIDUAL), dict(scale=0.)):
        write(tmp_path / 'figures/runs/plateau', m, 1, dataset='tiny-imagenet-40', classes=40, px=107,
              evals=(2, 1), **arm)
    own += command(Records(tmp_path / 'figures'), Path('runs/plateau/tiny-imagenet-40')).splitlines()
    assert sum(line.startswith('inception-repro') for line in own) > 8
    for line in own:
        prog, *args = shlex.split(line, comments=True)
        assert prog in ('inception-repro', 'python'), line
        if prog == 'inception-repro': commands[args[0]].make_context(args[0], args[1:])


def test_shell(tmp_path):
    from typer.testing import CliRunner

    from inception_repro.cli import app
    (tmp_path / 'figures').mkdir()
    said = CliRunner().invoke(app, ['claims', str(tmp_path / 'figures'), '--to', str(tmp_path / 'claims.md')])
    assert (said.exit_code == 0 and said.stdout.startswith(f'{len(CLAIMS)} sentences')
            and str(tmp_path / 'claims.md') in said.stdout)
    assert (tmp_path / 'claims.md').read_text('utf-8') in said.stdout
    assert isinstance(CliRunner().invoke(app, ['claims', str(tmp_path / 'none')]).exception, ValueError)


def test_imports_no_torch():
    code = 'import sys, inception_repro.results.claims; sys.exit("torch" in sys.modules)'
    subprocess.run([sys.executable, '-c', code], check=True)
