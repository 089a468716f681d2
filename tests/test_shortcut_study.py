"""The shortcut experiment on synthetic records whose answers are known, and its command end to end.

Not in a notebook: no network was trained for these records, and a reader should not meet their curves.
"""
import json
import os
import re
import subprocess
import sys
import warnings
from dataclasses import asdict
from itertools import combinations
from math import isnan, sqrt

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy.stats import t as student

from inception_repro.architecture.cost import macs, params
from inception_repro.architecture.networks import configure
from inception_repro.training.recipe import preset, replace, run_name
from inception_repro.training.records import COLUMNS, Record
from inception_repro.results.shortcut import (
    ARMS, arms, missing, read_shortcut, run_shortcut, shortcut_table, t_interval)
from inception_repro.results.shortcut_effects import (
    PATHS, QUESTIONS, depth_pays, depth_table, effects, effects_table, sentence)
from inception_repro.results.shortcut_plots import spread_labels, plot_arms, plot_depth, plot_gradients, write_shortcut

ENV = dict(commit=None, device='cpu x86_64', python='3', torch='2', fastai='2', inception_repro='0', threads=1)
BASE = preset('tiny40', px=107, epochs=4, compress=20.)
EPOCHS = np.array([.25, .5, .75, 1, 1.5, 2, 3, 4])
V4, R2 = 'inception_v4', 'inception_resnet_v2'
DROPS = {  # points below the chance level after four epochs
    V4: {'as printed': 3, 'no blocks': 26, 'shortcut, scale 1': 6, 'shortcut, scale 0.5': 20,
         'shortcut, scale 0.2': 27, 'shortcut, scale 0.1': 28},
    R2: {'as printed': 28, 'no blocks': 27, 'no addition': 2, 'scale 1': 10, 'scale 0.5': 18,
         'scale 0.2': 27, 'scale 0.1': 29, 'scale 1, batch norm': 8},
    'inception_v3': {'as printed': 5, 'no blocks': 25, 'shortcut, scale 0.2': 27},
    'inception_resnet_v1': {'as printed': 27, 'no blocks': 24, 'no addition': 4, 'scale 1': 20}}


def line(drop): return lambda t: 97.5 - drop * t / 4


def write(root, model, arm, seed=0, error=None, noise=0., base=BASE, blocks=True, finished=True,
          dataset='synthetic', digest='0'):
    "The record of a run that was never trained: `error` of the epoch"
    recipe = replace(base, model=model, seed=seed, dataset=dataset, **ARMS[model][arm])
    name = run_name(recipe)
    rec = Record.create(root, name, seed, dataset, digest, asdict(recipe), ENV,
                        data=dict(classes=40, train=20000, valid=2000))
    rng, error = np.random.default_rng([seed, *name.encode()]), error or line(DROPS[model][arm])
    for i, e in enumerate(EPOCHS, 1):
        top1 = float(np.clip(error(e) + noise * rng.normal(), 0, 100))
        row = dict(epoch=e, step=round(625 * e), images=round(20000 * e), top1=top1, top5=.8 * top1,
                   raw_top1=top1, raw_top5=.8 * top1, seconds=100. * i)
        rec.append(**{k: row.get(k, 1.) for k in COLUMNS})
    if finished: rec.finish()
    if blocks: write_blocks(rec.path, model, arm)
    return rec.path


def write_blocks(path, model, arm):
    "Gradients that fade towards the stem without additions"
    counts = dict(inception_v4=(4, 7, 3), inception_v3=(3, 4, 2)).get(model, (5, 10, 5))
    a, b, c = (0, 0, 0) if arm == 'no blocks' else counts
    layers = ['stem', *(f'inception_a.{i}' for i in range(a)), 'reduction_a', *(f'inception_b.{i}' for i in range(b)),
              'reduction_b', *(f'inception_c.{i}' for i in range(c))]
    added = 'scale' in arm or arm == 'as printed' and 'resnet' in model
    grad = [.1 * (1.02 if added else .8) ** i for i in range(len(layers))]
    ratio = [.3 if added and '.' in o else None for o in layers]
    samples = [dict(step=s, grad=[g * (1 + s / 1000) for g in grad], ratio=ratio, std=[1.] * len(layers))
               for s in (0, 1250, 2375)]
    path.with_suffix('.activity.json').write_text(json.dumps(dict(layers=[f'trunk.{o}' for o in layers],
                                                                  samples=samples)))


def whole(root, seeds=3, noise=.5, models=(V4, R2), skip=(), **kw):
    "Every arm; returns the folder of the dataset"
    for m in models:
        for a in ARMS[m]:
            for s in range(seeds):
                if (m, a) not in skip and (m, a, s) not in skip: write(root, m, a, s, noise=noise, **kw)
    return root / 'synthetic'


def cells(table): return [[o.strip() for o in row.strip('|').split('|')] for row in table.split('\n\n')[0].splitlines()]


# reading

def test_runs_by_arm_and_seed(tmp_path):
    study = read_shortcut(whole(tmp_path, 2))
    assert set(study.runs) == set(study.activity) == {(m, a, s) for m in (V4, R2) for a in ARMS[m] for s in range(2)}
    assert study.models() == [V4, R2] and study.arms(V4) == list(ARMS[V4]) and list(study.of(V4, 'no blocks')) == [0, 1]
    assert read_shortcut(study) is study
    assert missing(study) == 'Missing: any arm of inception-v3; inception-resnet-v1.'


def test_unfinished_runs_are_left_out(tmp_path):
    folder = whole(tmp_path, 1, models=[V4], skip=[(V4, 'no blocks')])
    write(tmp_path, V4, 'no blocks', finished=False)
    with pytest.warns(UserWarning, match=r'inception_v4\+no_blocks-0 left out, not finished'):
        study = read_shortcut(folder)
    assert 'no blocks' not in study.arms(V4) and 'any run of inception-v4, no blocks' in missing(study)


def test_no_finished_run(tmp_path):
    write(tmp_path, V4, 'no blocks', finished=False)
    with pytest.warns(UserWarning), pytest.raises(
            ValueError, match='synthetic has no finished run yet; train the arms with `run_shortcut`'):
        read_shortcut(tmp_path / 'synthetic')
    with pytest.raises(FileNotFoundError, match='holds no records'): read_shortcut(tmp_path / 'nothing')


def test_seeds_that_are_missing_are_told(tmp_path):
    study = read_shortcut(whole(tmp_path, 3, models=ARMS,
                                skip=[(V4, 'no blocks', 1), (V4, 'no blocks', 2), (R2, 'scale 1')]))
    assert missing(study) == (
        'Missing: seeds 1, 2 of inception-v4, no blocks, and any run of inception-resnet-v2, scale 1.')
    assert missing(study) in shortcut_table(study)


@pytest.mark.parametrize('kw, words', [(dict(base=replace(BASE, lr=.01)), 'lr'), (dict(digest='1'), 'dataset_hash')])
def test_one_recipe_and_one_dataset(tmp_path, kw, words):
    write(tmp_path, V4, 'as printed')
    write(tmp_path, V4, 'no blocks', **kw)
    with pytest.raises(ValueError, match=words): read_shortcut(tmp_path / 'synthetic')


def test_what_is_no_arm_is_left_out(tmp_path):
    write(tmp_path, V4, 'as printed')
    recipe = replace(BASE, model=V4, shortcut=.3, dataset='synthetic')
    rec = Record.create(tmp_path, run_name(recipe), 0, 'synthetic', '0', asdict(recipe), ENV)
    rec.append(**{k: kind(1) for k, kind in COLUMNS.items()})
    rec.finish()
    with pytest.warns(UserWarning, match=r'inception_v4\+shortcut0.3 is no arm of the experiment'):
        assert len(read_shortcut(tmp_path / 'synthetic').runs) == 1


def test_records_without_gradients(tmp_path):
    folder = whole(tmp_path, 1, blocks=False)
    assert read_shortcut(folder).activity == {}
    with pytest.raises(ValueError, match='has recorded its gradients; train the arms with `run_shortcut`'):
        plot_gradients(folder)


# the table

def test_every_arm_in_the_table(tmp_path):
    study = read_shortcut(whole(tmp_path, 3, noise=0, models=ARMS))
    table = shortcut_table(study)
    rows = cells(table)[2:]
    assert [(r[0], r[1]) for r in rows] == [(m.replace('_', '-'), a) for m in ARMS for a in ARMS[m]]
    by = {(r[0], r[1]): r[2:] for r in rows}
    plain, short = by['inception-v4', 'as printed'], by['inception-v4', 'shortcut, scale 1']
    net = configure(V4, num_classes=40, width=.25)
    assert (plain[:4] == ['94.5', '0, 1, 2', f'{params(net):,}', f'{macs(net, (107, 107, 3)) / 1e9:.3g}']
            and short[2:4] == plain[2:4])
    # twice as steep
    assert plain[4:] == ['+23.0 (+23.0 to +23.0)', '–'] and short[4:] == ['+20.0 (+20.0 to +20.0)', '2.00']
    assert (by['inception-v4', 'no blocks'][4] == '–'
            and int(by['inception-v4', 'no blocks'][2].replace(',', '')) < params(net))
    assert 'Chance level: 97.5 %.' in table and 'Error after 4 epochs' in table and 'Missing' not in table


def test_differences_are_paired_by_seed(tmp_path):
    "Seeds differ by tens of points, the arms by two, so only pairs show it"
    for s, luck in enumerate((0, 10, 20)):
        write(tmp_path, V4, 'no blocks', s, lambda t, o=luck: 70 + o)
        write(tmp_path, V4, 'shortcut, scale 0.2', s, lambda t, o=luck, s=s: 68 + o + .1 * s)
    write(tmp_path, V4, 'shortcut, scale 0.2', 7, lambda t: 5)  # a seed without a partner
    d = np.array([-2, -1.9, -1.8])
    half = student.ppf(.975, 2) * d.std(ddof=1) / sqrt(3)
    found, = depth_pays(tmp_path / 'synthetic')
    assert found.seeds == [0, 1, 2] and found.at(-1) == pytest.approx((-1.9, -1.9 - half, -1.9 + half))
    row = next(r for r in cells(shortcut_table(tmp_path / 'synthetic')) if r[1] == 'shortcut, scale 0.2')
    assert row[6] == f'−1.9 (−{1.9 + half:.1f} to −{1.9 - half:.1f})' and row[3] == '0, 1, 2, 7' and row[7] == '–'


@pytest.mark.parametrize('n', [2, 3, 5, 10])
def test_interval_is_students(n):
    d = np.random.default_rng(n).normal(size=(n, 4))
    mean, low, high = t_interval(d)
    half = student.ppf(.975, n - 1) * d.std(0, ddof=1) / sqrt(n)
    assert np.allclose(mean, d.mean(0)) and np.allclose(high - mean, half) and np.allclose(mean - low, half)


def test_one_seed_has_no_interval(tmp_path):
    study = read_shortcut(whole(tmp_path, 1, noise=0))
    assert (isnan(t_interval([3.])[1])
            and next(r for r in cells(shortcut_table(study)) if r[1] == 'as printed')[6] == '+23.0')
    for e in effects(study):
        assert e.seeds == [0] and 'not judged, because there is only one seed' in sentence(e)
        assert isnan(e.end[1]) and isnan(e.mean[2])
    assert (all(d.surely is None for d in depth_pays(study))
            and 'or one seed, which has no interval' in depth_table(study))
    assert 'There is no band for a single seed' in text(plot_depth(study)) and 'median' not in text(plot_arms(study))


# effects

def test_effects_are_the_known_ones(tmp_path):
    "Straight lines: the difference at the end is that of the drops, the mean over training its value half-way"
    for e in effects(whole(tmp_path, 3, noise=0)):
        end = DROPS[e.one[0]][e.one[1]] - DROPS[e.other[0]][e.other[1]]
        assert e.end == pytest.approx((end, end, end)) and e.mean[0] == pytest.approx(end * (.25 + 4) / 2 / 4)
        word = 'confirmed' if end < 0 else 'the opposite' if end > 0 else 'no difference seen'
        assert sentence(e) == f'{e.claim}: {word}, at the end and on average over training.', (end, sentence(e))


def test_a_sentence_follows_its_numbers(tmp_path):
    question = [q for q in QUESTIONS if q[1:3] == ((V4, 'as printed'), (V4, 'shortcut, scale 1'))]
    for i, (step, word) in enumerate([((-5, -6, -5.5), 'confirmed'), ((-5, 5, 1), 'no difference seen'),
                                      ((5, 6, 5.5), 'the opposite')]):
        for s, d in enumerate(step):
            write(tmp_path / str(i), V4, 'as printed', s, lambda t: 80)
            write(tmp_path / str(i), V4, 'shortcut, scale 1', s, lambda t, d=d: 80 + d)
        e, = effects(tmp_path / str(i) / 'synthetic', question)
        assert f': {word}, ' in sentence(e)
    for s, d in enumerate((-5, -6, -5.5)):  # only later
        write(tmp_path / 'late', V4, 'as printed', s, lambda t: 80)
        write(tmp_path / 'late', V4, 'shortcut, scale 1', s, lambda t, d=d: 80 + (d if t == 4 else -d))
    e, = effects(tmp_path / 'late' / 'synthetic', question)
    assert sentence(e).endswith(': at the end, confirmed; on average over training, the opposite.')


def test_missing_arms_are_told_not_guessed(tmp_path):
    folder = whole(tmp_path, 2, noise=0, skip=[(R2, 'scale 0.2'), (V4, 'shortcut, scale 1', 1)])
    by = {(e.one, e.other): e for e in effects(folder)}
    gone = by[(R2, 'scale 1'), (R2, 'scale 0.2')]
    assert gone.end is None and gone.seeds == [] and 'not known' in sentence(gone)
    assert by[(V4, 'as printed'), (V4, 'shortcut, scale 1')].seeds == [0]
    table = effects_table(folder)
    assert 'Paths that cannot be added up yet' in table and table.endswith('shortcuts first, blocks first.')
    assert 'depth pays' not in table


def test_steps_add_up_to_the_whole(tmp_path):
    folder = whole(tmp_path, 3, noise=2)
    total = effects(folder)[0]
    steps = effects_table(folder).split('\n\n')[-1]
    rows = cells(steps)[2:]
    for name in PATHS:
        own = [r for r in rows if r[0] == name]
        number = lambda o: float(o.split(' ')[0].replace('−', '-'))
        assert len(own) == len(PATHS[name])
        for i, whole_ in ((3, total.end), (5, total.mean)):
            assert sum(number(r[i]) for r in own) == pytest.approx(whole_[0], abs=.3)
            assert sum(number(r[i + 1]) for r in own) == pytest.approx(100, abs=3)


# where depth pays

def test_first_epoch_from_which_it_stays_below_zero(tmp_path):
    "Below zero at the second evaluation, above at the third, below from epoch 2 on"
    d = dict(zip(EPOCHS, (3, -1, 2, 1, 0, -1, -2, -3)))
    for s, noise in enumerate((-1.2, 0, 1.2)):
        write(tmp_path, R2, 'no blocks', s, lambda t: 80)
        write(tmp_path, R2, 'as printed', s, lambda t, o=noise: 80 + d[t] + o / t)
        write(tmp_path, R2, 'scale 1', s, lambda t: 80 + 1)
    pays, never = depth_pays(tmp_path / 'synthetic')
    half = [student.ppf(.975, 2) * 1.2 / t / sqrt(3) for t in (2, 3, 4)]
    assert half[0] > 1 and half[1] < 2
    assert (pays.since, pays.surely) == (2, 3) and (never.since, never.surely) == (None, None)
    assert list(pays.mean) == pytest.approx(list(d.values())) and str(pays).startswith(
        'inception-resnet-v2, as printed: depth pays off from epoch 2; '
        'the whole interval is below zero from epoch 3 (−3.0')
    assert str(never) == ('inception-resnet-v2, scale 1: depth does not pay off within 4 epochs '
                          '(+1.0 (+1.0 to +1.0) points at the end, 3 seeds).')
    rows = cells(depth_table(tmp_path / 'synthetic'))
    assert (rows[0][2:10] == [f'epoch {e:g}' for e in EPOCHS] and rows[2][10:] == ['2', '3', '0, 1, 2']
            and rows[3][10:12] == ['–', '–'])


def test_no_control(tmp_path):
    folder = whole(tmp_path, 1, skip=[(V4, 'no blocks'), (R2, 'no blocks')])
    assert depth_pays(folder) == [] and depth_table(folder).startswith('No arm has a finished control')
    with pytest.raises(ValueError, match='no arm has a finished control'): plot_depth(folder)
    said = []
    names = {p.name for p in write_shortcut(folder, tmp_path / 'out', said.append)}
    assert (names == {'arms.svg', 'arms.png', 'gradients.svg', 'gradients.png', 'shortcut.md'}
            and said[0].startswith('depth is left out: '))


# pictures

def text(fig): return fig.texts[0].get_text().replace('\n', ' ')


def boxes(fig):
    "Boxes of all texts and of the axes, in pixels"
    fig.set_dpi(72)
    renderer = FigureCanvasAgg(fig).get_renderer()
    fig.draw(renderer)
    texts = [*fig.texts]
    for ax in fig.axes:
        ticks = [t for axis, (a, b) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim()))
                 for t in axis.get_ticklabels() if t.get_text() and a <= t.get_position()[axis is ax.yaxis] <= b]
        texts += [*ax.texts, ax.xaxis.label, ax.yaxis.label, ax._left_title, *ticks]
    return [(t.get_text(), t.get_window_extent(renderer).extents) for t in texts if t.get_text()], fig.bbox.extents


def close(a, b): return min(a[2], b[2]) - max(a[0], b[0]) > 1 and min(a[3], b[3]) - max(a[1], b[1]) > 1


@pytest.mark.parametrize('plot', [plot_arms, plot_depth, plot_gradients])
@pytest.mark.parametrize('kw', [{}, dict(seeds=1), dict(error=lambda t: 97.5), dict(error=lambda t: 60 - t),
                                dict(models=[R2])])
def test_no_label_overlaps_or_is_cut_off(tmp_path, plot, kw):
    kw = dict(seeds=2) | kw
    found, canvas = boxes(plot(whole(tmp_path, **kw)))
    for (one, a), (other, b) in combinations(found, 2): assert not close(a, b), (one, other)
    for name, o in found: assert (o[:2] >= canvas[:2]).all() and (o[2:] <= canvas[2:]).all(), name


def test_lines_of_the_arms(tmp_path):
    study = read_shortcut(whole(tmp_path, 3))
    fig = plot_arms(study)
    left, right = fig.axes
    assert (left.get_ylim() == right.get_ylim()
            and [a.get_title(loc='left') for a in fig.axes] == ['inception-v4', 'inception-resnet-v2'])
    for ax, m in zip(fig.axes, (V4, R2)):
        assert {t.get_text() for t in ax.texts} == {*ARMS[m], 'chance, 97.5 %'}
        median = np.median([r['top1'] for r in study.of(m, 'no blocks').values()], axis=0)
        assert any(len(l.get_ydata()) == len(median) and (l.get_ydata() == median).all() for l in ax.lines)
    assert ('Synthetic records: no network was trained.' in text(fig)
            and 'seeds 0, 1, 2 (line: median, band: range)' in text(fig))
    looks = [(l.get_color(), l.get_linestyle()) for l in right.lines if len(l.get_xdata()) == len(EPOCHS)]
    assert len(set(looks)) == len(ARMS[R2])
    fewer = read_shortcut(whole(tmp_path / 'fewer', 2, skip=[(V4, 'no blocks', 1)]))
    assert 'seeds 0, 1, fewer for some arms' in text(plot_arms(fewer))
    assert plot_arms(study, metric='top5').axes[0].get_ylabel() == 'Error (top-5) %'


def test_depth_in_the_picture(tmp_path):
    fig = plot_depth(whole(tmp_path, 3, noise=0))
    assert 'Arrows mark arms that end above the axis: inception-v4, as printed (+23.0);' in text(fig)
    assert {t.get_text() for t in fig.axes[0].texts} == {
        'no blocks', 'as printed ↑', 'shortcut, scale 1 ↑', 'shortcut, scale 0.5', 'shortcut, scale 0.2',
        'shortcut, scale 0.1'}
    assert (fig.axes[0].get_ylim() == fig.axes[1].get_ylim()
            and fig.axes[0].get_ylim()[0] < 0 < fig.axes[0].get_ylim()[1] < 14)


def test_gradients_in_the_picture(tmp_path):
    fig = plot_gradients(whole(tmp_path, 1))
    (grad, _), (ratio, _) = fig.axes[:2], fig.axes[2:]
    assert [t.get_text() for t in grad.get_xticklabels()] == ['stem', 'reduction A', 'reduction B']
    plain = [l.get_ydata() for l in grad.lines if l.get_color() == '#000000' and len(l.get_ydata()) == 17]
    assert (len(plain) == 2 and plain[0][0] == pytest.approx(.1) and plain[0][1] == pytest.approx(.08)
            and plain[1][0] == pytest.approx(.3375))
    assert ({t.get_text() for t in ratio.texts} == {'shortcut, scale 1', 'shortcut, scale 0.2'}
            and 'solid at step 2,375' in text(fig))


@pytest.mark.parametrize('n', range(1, 9))
def test_labels_apart(n):
    at = np.random.default_rng(n).random(n)
    z = spread_labels(at, .1, 0, 1)
    assert ((np.argsort(z) == np.argsort(at)).all() and (np.diff(np.sort(z)) > .1 - 1e-9).all() and z.min() >= 0
            and z.max() <= 1 + 1e-9)


def test_everything_is_written(tmp_path):
    folder = whole(tmp_path, 2, models=ARMS)
    paths = write_shortcut(folder, tmp_path / 'out')
    names = [f'{n}{end}.{k}' for end in ('', '-small') for n in ('arms', 'depth', 'gradients') for k in ('svg', 'png')]
    assert [p.name for p in paths] == [*names, 'shortcut.md']
    words = paths[-1].read_text(encoding='utf-8')
    assert re.findall('^## (.*)', words, flags=re.M) == [
        'Every arm', 'What the acceleration comes from', 'Where depth begins to pay']
    before = [p.read_bytes() for p in paths]
    assert [p.read_bytes() for p in write_shortcut(str(folder), tmp_path / 'out')] == before


# the command

def shell(*args):
    done = subprocess.run([sys.executable, '-c', 'from inception_repro.cli import main; main()',
                           'shortcut', *map(str, args)],
                          capture_output=True, text=True, timeout=600,
                          env={**os.environ, 'COLUMNS': '120', 'FORCE_COLOR': ''})
    return done.returncode, done.stdout, done.stderr


TINY = [o for s in ('classes=3', 'per_class=22', 'valid_per_class=4', 'evals=2', 'width=0.0625', 'bs=16')
        for o in ('--set', s)]


def test_the_command(tmp_path):
    where = '--runs', tmp_path / 'runs', '--out', tmp_path / 'out'
    code, out, err = shell(*TINY, '--models', 'inception_v3', '--seeds', 1, '--epochs', 1,
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
    before = {p: p.read_bytes() for p in folder.glob('*.csv')}
    table = (tmp_path / 'out/79px-fractals/shortcut.md')
    table.unlink()
    code, out, err = shell('--draw', *where)
    assert code == 0 and table.exists() and before == {p: p.read_bytes() for p in folder.glob('*.csv')}


@pytest.mark.parametrize('args, words', [
    (['--models', 'vgg'], "no arms of 'vgg'; use one of inception_v4, inception_resnet_v2"),
    (['--seeds', '0'], '--seeds is 0; use'),
    (['--set', 'shortcut=1'], '--set does not take shortcut; the arms'),
    (['--draw', '--runs', 'nowhere'], 'nowhere holds no records'),
    (['--set', 'px=99'], '--set does not take px; use --size')])
def test_mistakes(args, words):
    code, out, err = shell(*args)
    assert (code, out) == (1, '') and words in err and len(err.splitlines()) == 1


def test_help_says_what_it_does():
    code, out, _ = shell('--help')
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
