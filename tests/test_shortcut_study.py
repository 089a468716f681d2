"""The shortcut experiment on synthetic records whose answers are known: reading, table, effects, depth.

Not in a notebook: no network was trained for these records, and a reader should not meet their curves.
"""
from dataclasses import asdict
from math import isnan, sqrt

import numpy as np
import pytest
from scipy.stats import t as student

from inception_repro.architecture.cost import macs, params
from inception_repro.architecture.networks import configure
from inception_repro.results.plotting import network_label, t_interval
from inception_repro.training.recipe import evaluation_steps, replace, run_name
from inception_repro.training.records import COLUMNS, Record
from inception_repro.results.shortcut import ARMS, missing, read_shortcut, shortcut_table
from inception_repro.results.shortcut_effects import (
    PATHS, QUESTIONS, answer_table, depth_of, depth_pays, depth_table, effects, effects_table, sentence)
from inception_repro.results.shortcut_plots import plot_arms, plot_depth, plot_gradients

from shortcut_fixtures import BASE, cells, DROPS, ENV, EPOCHS, R2, text, V4, whole, write


# reading

def test_runs_by_arm_and_seed(tmp_path):
    study = read_shortcut(whole(tmp_path, 2))
    assert set(study.runs) == set(study.activity) == {(m, a, s) for m in (V4, R2) for a in ARMS[m] for s in range(2)}
    assert study.models() == [V4, R2] and study.arms(V4) == list(ARMS[V4])
    assert list(study.of(V4, 'without blocks')) == [0, 1]
    assert read_shortcut(study) is study
    assert missing(study) == 'Missing: any variant of Inception-v3; Inception-ResNet-v1.'


def test_unfinished_runs_are_left_out(tmp_path):
    folder = whole(tmp_path, 1, models=[V4], skip=[(V4, 'without blocks')])
    write(tmp_path, V4, 'without blocks', finished=False)
    with pytest.warns(UserWarning, match=r'inception_v4\+no_blocks-0 left out, not finished'):
        study = read_shortcut(folder)
    assert 'without blocks' not in study.arms(V4) and 'any run of Inception-v4 without blocks' in missing(study)


def test_no_finished_run(tmp_path):
    write(tmp_path, V4, 'without blocks', finished=False)
    with pytest.warns(UserWarning), pytest.raises(
            ValueError, match='synthetic has no finished run yet; train the variants with `run_shortcut`'):
        read_shortcut(tmp_path / 'synthetic')
    with pytest.raises(FileNotFoundError, match='holds no records'): read_shortcut(tmp_path / 'nothing')


def test_seeds_that_are_missing_are_told(tmp_path):
    study = read_shortcut(whole(tmp_path, 3, models=ARMS,
                                skip=[(V4, 'without blocks', 1), (V4, 'without blocks', 2), (R2, 'scale 1')]))
    assert missing(study) == (
        'Missing: seeds 1, 2 of Inception-v4 without blocks, and any run of Inception-ResNet-v2, scale 1.')
    assert missing(study) in shortcut_table(study)


@pytest.mark.parametrize('kw, words', [(dict(base=replace(BASE, lr=.01)), 'lr'), (dict(digest='1'), 'dataset_hash')])
def test_one_recipe_and_one_dataset(tmp_path, kw, words):
    write(tmp_path, V4, 'as printed')
    write(tmp_path, V4, 'without blocks', **kw)
    with pytest.raises(ValueError, match=words): read_shortcut(tmp_path / 'synthetic')


def test_what_is_no_arm_is_left_out(tmp_path):
    write(tmp_path, V4, 'as printed')
    recipe = replace(BASE, model=V4, shortcut=.3, dataset='synthetic')
    rec = Record.create(tmp_path, run_name(recipe), 0, 'synthetic', '0', asdict(recipe), ENV)
    for step in evaluation_steps(recipe, 10):
        row = dict(epoch=step / 10, step=step, images=step * recipe.bs)
        rec.append(**{k: row.get(k, kind(1)) for k, kind in COLUMNS.items()})
    rec.finish()
    with pytest.warns(UserWarning, match=r'inception_v4\+shortcut0.3 is no variant of the experiment'):
        assert len(read_shortcut(tmp_path / 'synthetic').runs) == 1


def test_records_without_gradients(tmp_path):
    folder = whole(tmp_path, 1, blocks=False)
    assert read_shortcut(folder).activity == {}
    with pytest.raises(ValueError, match='has recorded its gradients; train the variants with `run_shortcut`'):
        plot_gradients(folder)


# the table

def test_every_arm_in_the_table(tmp_path):
    study = read_shortcut(whole(tmp_path, 3, noise=0, models=ARMS))
    table = shortcut_table(study)
    rows = cells(table)[2:]
    assert [(r[0], r[1]) for r in rows] == [(network_label(m), a) for m in ARMS for a in ARMS[m]]
    by = {(r[0], r[1]): r[2:] for r in rows}
    plain, short = by['Inception-v4', 'as printed'], by['Inception-v4', 'shortcuts × 1']
    net = configure(V4, num_classes=40, width=.25)
    assert (plain[:4] == ['94.5', '0, 1, 2', f'{params(net):,}', f'{macs(net, (107, 107, 3)) / 1e9:.3g}']
            and short[2:4] == plain[2:4])
    # twice as steep
    assert plain[4:] == ['+23.0 (+23.0 to +23.0)', '–'] and short[4:] == ['+20.0 (+20.0 to +20.0)', '2.00']
    assert (by['Inception-v4', 'without blocks'][4] == '–'
            and int(by['Inception-v4', 'without blocks'][2].replace(',', '')) < params(net))
    assert 'Chance level: 97.5 %.' in table and 'Error after 4 epochs' in table and 'Missing' not in table


def test_differences_are_paired_by_seed(tmp_path):
    "Seeds differ by tens of points, the variants by two, so only pairs show it"
    for s, luck in enumerate((0, 10, 20)):
        write(tmp_path, V4, 'without blocks', s, lambda t, o=luck: 70 + o)
        write(tmp_path, V4, 'shortcuts × 0.2', s, lambda t, o=luck, s=s: 68 + o + .1 * s)
    write(tmp_path, V4, 'shortcuts × 0.2', 7, lambda t: 5)  # a seed without a partner
    d = np.array([-2, -1.9, -1.8])
    half = student.ppf(.975, 2) * d.std(ddof=1) / sqrt(3)
    found, = depth_pays(tmp_path / 'synthetic')
    assert found.seeds == [0, 1, 2] and found.at(-1) == pytest.approx((-1.9, -1.9 - half, -1.9 + half))
    row = next(r for r in cells(shortcut_table(tmp_path / 'synthetic')) if r[1] == 'shortcuts × 0.2')
    assert row[6] == f'−1.9 (−{1.9 + half:.1f} to −{1.9 - half:.1f})' and row[3] == '0, 1, 2, 7' and row[7] == '–'


def test_the_answer_has_a_column_for_each_set_of_images(tmp_path):
    steep = read_shortcut(whole(tmp_path / 'steep', 3, noise=.01))
    one = read_shortcut(whole(tmp_path / 'one', 1, noise=0, models=(V4,), skip=[(V4, 'shortcuts × 1')]))
    table = answer_table({'107px, steep': steep, '75px, one': one})
    rows = {tuple(r[:2]): r[2:] for r in cells(table)}
    assert rows['what changes', 'first variant → second variant'] == ['107px, steep', '75px, one']
    assert len(rows) == 2 + len(QUESTIONS)  # with the head and the line below it
    half = 2.125 / 4  # a line's mean between epochs 0.25 and 4, as a part of its end
    added, none = rows['addition', 'Inception-v4: as printed → shortcuts × 1']
    assert added.startswith(f'−{3 * half:.1f} (−1.6 to −1.') and added.endswith('): lower') and none == '–'
    gone, single = rows['blocks removed', 'Inception-v4: as printed → without blocks']
    assert gone.endswith('): lower') and single == f'−{23 * half:.1f}; 1 seed'
    worse, none = rows['rest of the design', 'Inception-v4, as printed → Inception-ResNet-v2 without additions']
    assert worse.startswith('+0.5 (') and worse.endswith('): higher') and none == '–'
    assert 'say otherwise: 107px, steep: 3; 75px, one: 1.' in table
    few = cells(answer_table({'steep': steep}, QUESTIONS[1:3]))
    assert [r[:2] for r in few[2:]] == [r[:2] for r in cells(table)[3:5]]  # only the questions that are asked


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
    question = [q for q in QUESTIONS if q[1:3] == ((V4, 'as printed'), (V4, 'shortcuts × 1'))]
    for i, (step, word) in enumerate([((-5, -6, -5.5), 'confirmed'), ((-5, 5, 1), 'no difference seen'),
                                      ((5, 6, 5.5), 'the opposite')]):
        for s, d in enumerate(step):
            write(tmp_path / str(i), V4, 'as printed', s, lambda t: 80)
            write(tmp_path / str(i), V4, 'shortcuts × 1', s, lambda t, d=d: 80 + d)
        e, = effects(tmp_path / str(i) / 'synthetic', question)
        assert f': {word}, ' in sentence(e)
    for s, d in enumerate((-5, -6, -5.5)):  # only later
        write(tmp_path / 'late', V4, 'as printed', s, lambda t: 80)
        write(tmp_path / 'late', V4, 'shortcuts × 1', s, lambda t, d=d: 80 + (d if t == 4 else -d))
    e, = effects(tmp_path / 'late' / 'synthetic', question)
    assert sentence(e).endswith(': at the end, confirmed; on average over training, the opposite.')


def test_missing_arms_are_told_not_guessed(tmp_path):
    folder = whole(tmp_path, 2, noise=0, skip=[(R2, 'scale 0.2'), (V4, 'shortcuts × 1', 1)])
    by = {(e.one, e.other): e for e in effects(folder)}
    gone = by[(R2, 'scale 1'), (R2, 'scale 0.2')]
    assert gone.end is None and gone.seeds == [] and 'not known' in sentence(gone)
    assert by[(V4, 'as printed'), (V4, 'shortcuts × 1')].seeds == [0]
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
        write(tmp_path, R2, 'without blocks', s, lambda t: 80)
        write(tmp_path, R2, 'as printed', s, lambda t, o=noise: 80 + d[t] + o / t)
        write(tmp_path, R2, 'scale 1', s, lambda t: 80 + 1)
    pays, never = depth_pays(tmp_path / 'synthetic')
    for o in pays, never: assert str(depth_of(tmp_path / 'synthetic', o.model, o.arm)) == str(o)
    with pytest.raises(ValueError, match='Inception-ResNet-v2, scale 0.5: no finished runs of it and'):
        depth_of(tmp_path / 'synthetic', R2, 'scale 0.5')
    half = [student.ppf(.975, 2) * 1.2 / t / sqrt(3) for t in (2, 3, 4)]
    assert half[0] > 1 and half[1] < 2
    assert (pays.since, pays.surely) == (2, 3) and (never.since, never.surely) == (None, None)
    assert list(pays.mean) == pytest.approx(list(d.values())) and str(pays).startswith(
        'Inception-ResNet-v2, as printed: depth pays off from epoch 2; '
        'the whole interval is below zero from epoch 3 (−3.0')
    assert str(never) == ('Inception-ResNet-v2, scale 1: depth does not pay off within 4 epochs '
                          '(+1.0 (+1.0 to +1.0) points at the end, 3 seeds).')
    wide = replace(pays, high=pays.mean + 9)
    assert str(wide).startswith('Inception-ResNet-v2, as printed: whether depth pays off is open: '
                                'the mean error is below that of the control from epoch 2 on')
    rows = cells(depth_table(tmp_path / 'synthetic'))
    assert (rows[0][2:10] == [f'epoch {e:g}' for e in EPOCHS] and rows[2][10:] == ['2', '3', '0, 1, 2']
            and rows[3][10:12] == ['–', '–'])
