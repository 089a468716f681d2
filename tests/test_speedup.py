"""Speed-ups and summaries of synthetic records, whose answers are known"""
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inception_repro._testing import four_runs as four, synthetic_record, synthetic_run as run
from inception_repro.results.plotting import large, network_label, small
from inception_repro.results.speedup import compare_curves, ratio_text, speedup, time_ratio, time_to_reach
from inception_repro.results.summary import summary

PURE, RESIDUAL = small


@pytest.mark.parametrize('k', [1, 1.5, 2, 3.7, .5])
def test_straight_lines_give_the_very_ratio(k):
    s = speedup([run(PURE, lambda t: 90 - 2 * t), run(RESIDUAL, lambda t: 90 - 2 * k * t)])
    assert s.ratio == s.span == pytest.approx((k, k)) and s.apart == 0
    assert s.errors == pytest.approx((90 - 2 * max(k, 1), 90 - 20 * min(k, 1)))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(.1, 5), min_size=12, max_size=12), st.floats(.2, 2.5))
def test_any_curve_against_itself_in_slow_motion(drops, k):
    "The same errors, each `k` times as late: the ratio is `k` at every error"
    y = 95 - np.cumsum(drops)
    x = np.arange(1., 13)
    pure, residual = run(PURE, dict(zip(k * x, y)).get, x=k * x), run(RESIDUAL, dict(zip(x, y)).get, x=x)
    s = speedup([pure, residual], at=[y[3], 99, 1])
    assert s.ratio == pytest.approx((k, k)) and s.at[y[3]] == pytest.approx((k, k))
    assert s.at[99] == s.at[1] == (0, math.inf)


@settings(max_examples=60, deadline=None)
@given(*[st.lists(st.floats(0, 100), min_size=1, max_size=20)] * 2, st.floats(0, 100))
def test_never_a_number_from_nothing(a, b, e):
    "Where a time is unknown the ratio is a bound, the two directions agree, and nothing is nan"
    p, r = ((np.arange(1., len(y) + 1), np.array(y)) for y in (a, b))
    (lo, hi), (low, high) = time_ratio(p, r, e), time_ratio(r, p, e)
    assert 0 <= lo <= hi and 0 <= low <= high
    assert lo * high == pytest.approx(1) if lo and high < math.inf else lo == 0 and high == math.inf or lo > 0
    known = all(t[0] == t[1] for t in (time_to_reach(*p, e), time_to_reach(*r, e)))
    assert known == (lo == hi)
    ratio, errors = compare_curves(p, r)
    assert not np.isnan(ratio).any() and (errors is None or ratio[0] == ratio[1])


def test_up_and_down():
    "The first time the running minimum gets there"
    x, y = np.arange(1., 6), np.array([90., 50, 70, 60, 40])
    assert [time_to_reach(x, y, e) for e in (50, 60, 45)] == [(2, 2), (1.75, 1.75), (4.5, 4.5)]


def test_no_error_in_common():
    s = speedup([run(PURE, lambda t: 95 - t), run(RESIDUAL, lambda t: 50 - t)])
    assert s.ratio == (10, math.inf) and s.errors is None and s.apart == 1
    assert str(s) == ('Inception-v3 needs at least 10.00 times the epochs of Inception-ResNet-v1, '
                      'as their curves have no error in common')
    other = speedup([run(PURE, lambda t: 50 - t), run(RESIDUAL, lambda t: 95 - t)])
    assert other.ratio == (0, .1) and 'at most 0.10' in str(other)
    flat = speedup([run(PURE, lambda t: 90), run(RESIDUAL, lambda t: 90)])
    assert flat.ratio == (0, math.inf) and 'unknown' in str(flat)


def test_the_plateau_before_the_end_is_no_later_bound():
    "Pure reaches the residual's first error early and stays there: the time it got there counts, not the end"
    s = speedup([run(PURE, lambda t: max(90 - 10 * t, 60)), run(RESIDUAL, lambda t: 61 - t)])
    assert s.ratio == (3, math.inf) and s.errors is None


def test_an_untrained_evaluation_is_no_time():
    "A row at epoch 0 says what an untrained network does, and divides by nothing"
    x = np.arange(0., 11)
    s = speedup([run(PURE, lambda t: 90 - t, x=x), run(RESIDUAL, lambda t: 90 - 2 * t, x=x)])
    assert s.ratio == pytest.approx((2, 2))
    with pytest.raises(ValueError, match='no evaluation after the start'):
        speedup([run(PURE, lambda t: 90, x=[0]), run(RESIDUAL, lambda t: 80)])


def test_seeds():
    line = lambda k: lambda t: 90 - k * t
    s = speedup([run(PURE, line(1), 0), run(PURE, line(2), 1), run(RESIDUAL, line(4), 0), run(RESIDUAL, line(6), 1)])
    assert s.pairs == 4 and s.span == pytest.approx((2, 6)) and s.ratio == pytest.approx((3.5, 3.5))  # 4, 6, 2, 3
    s = speedup([run(PURE, line(1), 0), run(PURE, lambda t: 95, 1), run(PURE, lambda t: 95, 2), run(RESIDUAL, line(4))])
    assert (s.pairs, s.apart) == (3, 2) and s.ratio == (10, math.inf) and s.span == (pytest.approx(4), math.inf)
    assert 'at least 10.00' in str(s) and '2 of the pairs have no error in common' in str(s)


def test_seconds():
    runs = [run(PURE, lambda t: 90 - t, seconds=3), run(RESIDUAL, lambda t: 90 - 2 * t, seconds=4)]
    assert speedup(runs, by='seconds').ratio == pytest.approx((1.5, 1.5))
    assert 'times the seconds' in str(speedup(runs, by='seconds'))
    moved = run(PURE, lambda t: 90 - t, device='another')
    with pytest.raises(ValueError, match=r'across devices: another, cpu x86_64 \(2 threads\)'):
        speedup([moved, runs[1]], by='seconds')
    for r, name in zip(runs, 'AB'): r.meta['environment']['processor'] = name
    with pytest.raises(ValueError, match=r'cpu x86_64 \(A, 2 threads\), cpu x86_64 \(B, 2 threads\)'):
        speedup(runs, by='seconds')
    for r in runs: del r.meta['environment']['processor']
    runs[0].meta['time']['resumed'].append(dict(step=3, environment=dict(device='another')))
    with pytest.raises(ValueError, match='across devices'): speedup(runs, by='seconds')
    assert [s.by for s in summary(runs).speedups] == ['epoch', 'epoch'] and 'several devices' in summary(runs).note
    crowded = [run(PURE, lambda t: 90 - t, i, seconds=3 + i) for i in range(2)]
    s = summary([*crowded, run(RESIDUAL, lambda t: 90 - 2 * t, seconds=4)])
    assert [o.by for o in s.speedups] == ['epoch', 'epoch'] and 'other work ran at the same time' in s.note


def test_a_pause_within_a_run_is_noticed():
    "A part of a run that took much longer than the others: its seconds are not compared"
    runs = four()
    for r in runs: r.meta['time']['wall'] = 100.
    for row in runs[1].rows: row['seconds'] += 60 # before the first evaluation: a slow start
    s = summary(runs)
    assert [o.by for o in s.speedups[:2]] == ['epoch', 'seconds'] and all(r['seconds_per_epoch'] for r in s.rows)
    for row in runs[0].rows[4:]: row['seconds'] += 60
    s = summary(runs)
    assert {o.by for o in s.speedups} == {'epoch'}
    assert 'a run of Inception-v4 took up to 61.0 seconds an epoch between two evaluations, against a me' in s.note
    assert [r['network'] for r in s.rows if r['seconds_per_epoch'] is None] == ['Inception-v4']


def test_what_seconds_are():
    "One seed does not show their variation; records that count differently are not compared"
    assert summary(four(3)).note == 'Seconds are those of training steps and evaluations.'
    assert summary(four()).note.endswith(' Only one seed, so their variation is unknown.')
    lopsided = summary([*four(), run(PURE, lambda t: 50, seed=7)]).note
    others = 'Inception-ResNet-v1, Inception-v4, Inception-ResNet-v2'
    assert lopsided.endswith(f' Only one seed of {others}, so their variation is unknown.')
    younger = four()
    for r in younger: r.meta['time']['wall'] = 100.
    assert summary(younger).note.startswith('Seconds are those of training steps. Only one seed')
    del younger[0].meta['time']['wall']
    mixed = summary(younger)
    assert 'some records include the time of evaluations' in mixed.note and {s.by for s in mixed.speedups} == {'epoch'}
    assert summary([run(PURE, lambda t: 50)]).note == ''


# records whose error falls exponentially

def test_half_the_half_life_is_twice_as_fast(tmp_path):
    "Without noise, only the straight lines between evaluations differ from the formula"
    exact = [synthetic_record(tmp_path, m, noise=0) for m in large + small]
    assert speedup(exact).ratio == pytest.approx((2, 2), abs=.01)
    assert speedup(exact, *large).ratio == pytest.approx((3, 3), abs=.03)
    assert speedup(exact, *reversed(small)).ratio == pytest.approx((.5, .5), abs=.01)


def test_noise_over_seeds(tmp_path):
    runs = [synthetic_record(tmp_path, m, s) for m in large + small for s in range(3)]
    s = speedup(runs, *large, at=[60, 25, 10])
    assert s.span[0] < 3 < s.span[1] and s.pairs == 9 and abs(s.ratio[0] - 3) < .2
    assert ratio_text(*s.at[10]) == 'unknown'


def test_seconds_of_slower_steps(tmp_path):
    "Twice the epochs at half the seconds of an epoch: no difference"
    slow = [synthetic_record(tmp_path / 'slow', m, noise=0, speed=o) for m, o in zip(small, (3., 6.))]
    assert speedup(slow, by='seconds').ratio == pytest.approx((1, 1), abs=.01)
    other = dict(commit=None, device='some GPU', python='3', torch='2', fastai='2', inception_repro='0')
    gpu = synthetic_record(tmp_path / 'gpu', 'inception_v3', env=other)
    with pytest.raises(ValueError, match='seconds cannot be compared across devices: no device, some GPU'):
        speedup([slow[1], gpu], by='seconds')
    with pytest.raises(ValueError, match="by is 'hours'; one of epoch, seconds"): speedup(slow, by='hours')


def test_a_network_that_hardly_learns(tmp_path):
    "A bound, and the reason for it"
    stuck = [synthetic_record(tmp_path, 'inception_v4', s, half=400) for s in range(2)]
    quick = [synthetic_record(tmp_path, 'inception_resnet_v2', s, half=1.5) for s in range(2)]
    s = speedup([*stuck, *quick], *large)
    assert (s.ratio, s.errors, s.apart) == ((20 / .5, math.inf), None, 4)
    assert str(s).endswith('as their curves have no error in common')


# summaries

def test_summary():
    s = summary(four(3))
    assert [r['network'] for r in s.rows] == [network_label(m) for m in small + large]
    row = s.rows[0]
    errors = [r['top1'] for r in four(3) if r.meta['model'] == PURE]
    ends = [e[-1] for e in errors]
    assert row['top1_final'] == (np.median(ends), min(ends), max(ends))
    assert row['top1_best'][1] == np.min(errors) and row['seeds'] == [0, 1, 2] and row['seconds_per_epoch'] == (1, 1, 1)
    assert len(s.speedups) == 8
    full = summary(four(dataset='imagenet', classes=1000, width=1., px=299)).rows
    assert [r['parameters'] for r in full] == [23_834_568, 22_756_328, 42_679_816, 32_433_928]
    assert [round(r['gmacs'], 2) for r in full] == [5.71, 6.21, 12.25, 9.26]
    unknown = summary(four(dataset='folder', classes=None))
    assert {r['parameters'] for r in unknown.rows} == {None} and '| – | – |' in unknown._repr_markdown_()
    for name in 'folder', 'imagenet':
        ten = summary(four(dataset=name, classes=None, width=1., px=299, data=dict(classes=10, train=9469, valid=3925)))
        assert [r['parameters'] for r in ten.rows][:2] == [23_834_568 - 990 * 2049, 22_756_328 - 990 * 1793]
        assert '10 classes' in ten.caption
    one = summary([run('inception_resnet_v2.b10_20_10', lambda t: 50)])
    assert one.speedups == [] and 'How many' not in one._repr_markdown_()
