"The figures of the shortcut experiment. Not in a notebook: a reader should not meet their synthetic curves."
import re
from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from inception_repro.results.shortcut import ARMS, read_shortcut
from inception_repro.results.shortcut_effects import depth_pays, depth_table
from inception_repro.results.shortcut_plots import spread_labels, plot_arms, plot_depth, plot_gradients, write_shortcut

from shortcut_fixtures import EPOCHS, R2, text, V4, whole
from slow_cases import slow


def test_no_control(tmp_path):
    folder = whole(tmp_path, 1, skip=[(V4, 'without blocks'), (R2, 'without blocks')])
    assert depth_pays(folder) == [] and depth_table(folder).startswith('No variant has a finished control')
    with pytest.raises(ValueError, match='no variant has a finished control'): plot_depth(folder)
    said = []
    names = {p.name for p in write_shortcut(folder, tmp_path / 'out', said.append)}
    assert (names == {'arms.svg', 'arms.png', 'gradients.svg', 'gradients.png', 'shortcut.md'}
            and said[0].startswith('depth is left out: '))


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
@pytest.mark.parametrize('kw', [{}, dict(models=[R2]), *slow(dict(seeds=1), dict(error=lambda t: 97.5),
                                                             dict(error=lambda t: 60 - t))])
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
            and [a.get_title(loc='left') for a in fig.axes] == ['Inception-v4', 'Inception-ResNet-v2'])
    for ax, m in zip(fig.axes, (V4, R2)):
        assert {t.get_text() for t in ax.texts} == {*ARMS[m], 'chance level, 97.5 %'}
        median = np.median([r['top1'] for r in study.of(m, 'without blocks').values()], axis=0)
        assert any(len(l.get_ydata()) == len(median) and (l.get_ydata() == median).all() for l in ax.lines)
    assert ('Synthetic records: no network was trained.' in text(fig)
            and 'seeds 0, 1, 2 (line: median, band: range)' in text(fig))
    looks = [(l.get_color(), l.get_linestyle()) for l in right.lines if len(l.get_xdata()) == len(EPOCHS)]
    assert len(set(looks)) == len(ARMS[R2])
    fewer = read_shortcut(whole(tmp_path / 'fewer', 2, skip=[(V4, 'without blocks', 1)]))
    assert 'seeds 0, 1, fewer for some variants' in text(plot_arms(fewer))
    assert plot_arms(study, metric='top5').axes[0].get_ylabel() == 'Top-5 error (%)'


def test_depth_in_the_picture(tmp_path):
    fig = plot_depth(whole(tmp_path, 3, noise=0))
    assert {t.get_text() for t in fig.axes[0].texts} == {
        'without blocks', 'as printed', 'shortcuts × 1', 'shortcuts × 0.5', 'shortcuts × 0.2', 'shortcuts × 0.1'}
    low, high = fig.axes[0].get_ylim()
    assert fig.axes[1].get_ylim() == (low, high) and low < 0 and fig.axes[0].get_yscale() == 'symlog'
    for ax in fig.axes: # no line leaves the picture
        for l in ax.lines[:6]: assert low < min(l.get_ydata()) and max(l.get_ydata()) < high


def test_gradients_in_the_picture(tmp_path):
    fig = plot_gradients(whole(tmp_path, 1))
    (grad, _), (ratio, _) = fig.axes[:2], fig.axes[2:]
    assert [t.get_text() for t in grad.get_xticklabels()] == ['stem', 'reduction A', 'reduction B']
    plain = [l.get_ydata() for l in grad.lines if l.get_color() == '#000000' and len(l.get_ydata()) == 17]
    assert (len(plain) == 2 and plain[0][0] == pytest.approx(.1) and plain[0][1] == pytest.approx(.08)
            and plain[1][0] == pytest.approx(.3375))
    assert ({t.get_text() for t in ratio.texts} == {'shortcuts × 1', 'shortcuts × 0.2'}
            and 'solid at step 2,375' in text(fig))


@pytest.mark.parametrize('n', range(1, 9))
def test_labels_apart(n):
    at = np.random.default_rng(n).random(n)
    z = spread_labels(at, .1, 0, 1)
    assert ((np.argsort(z) == np.argsort(at)).all() and (np.diff(np.sort(z)) > .1 - 1e-9).all() and z.min() >= 0
            and z.max() <= 1 + 1e-9)


@pytest.mark.slow
def test_everything_is_written(tmp_path):
    folder = whole(tmp_path, 2, models=ARMS)
    paths = write_shortcut(folder, tmp_path / 'out')
    names = [f'{n}{end}.{k}' for end in ('', '-small') for n in ('arms', 'depth', 'gradients') for k in ('svg', 'png')]
    assert [p.name for p in paths] == [*names, 'shortcut.md']
    words = paths[-1].read_text(encoding='utf-8')
    assert re.findall('^## (.*)', words, flags=re.M) == [
        'Every variant', 'What the acceleration comes from', 'Where depth begins to pay']
    before = [p.read_bytes() for p in paths]
    assert [p.read_bytes() for p in write_shortcut(str(folder), tmp_path / 'out')] == before
