"""Curves of synthetic records. Not in a notebook: many odd records, and every artist of a picture is measured."""
import os
import subprocess
import sys
from dataclasses import replace
from itertools import combinations

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from inception_repro._testing import four_runs as four, synthetic_run as run, write_runs as write
from inception_repro.results.curves import Plot, caption, draw_figures, figures, plot_errors, table_2
from inception_repro.results.plotting import large, small
from inception_repro.results.speedup import speedup
from inception_repro.results.summary import summary, write_summary
from inception_repro.training.records import read_runs

PURE, RESIDUAL = small


def text(fig): return fig.texts[0].get_text().replace('\n', ' ')


def test_imports_no_torch():
    heavy = 'torch', 'fastai', 'matplotlib.pyplot'
    code = f'import sys, inception_repro.results.summary; sys.exit(any(m in sys.modules for m in {heavy}))'
    subprocess.run([sys.executable, '-c', code], check=True)


# what may be compared

@pytest.mark.parametrize('change', [dict(width=.5), dict(lr=.01), dict(bs=64)])
def test_one_recipe(change):
    with pytest.raises(ValueError, match=f'{next(iter(change))} is .*draw them in separate figures'):
        plot_errors([run(PURE, lambda t: 50), run(RESIDUAL, lambda t: 50, **change)])


def test_a_younger_field():
    "A record that was made before a field of the recipe existed is not another recipe's"
    plot_errors([run(PURE, lambda t: 50), run(RESIDUAL, lambda t: 50, new=1)])


def test_one_dataset():
    a, b = run(PURE, lambda t: 50), run(RESIDUAL, lambda t: 50, dataset='other')
    with pytest.raises(ValueError, match="dataset is 'synthetic' in .*, 'other' in"): plot_errors([a, b])
    b = run(RESIDUAL, lambda t: 50)
    b.meta['dataset_hash'] = '1'
    for f in plot_errors, speedup, summary, caption:
        with pytest.raises(ValueError, match='dataset_hash is'): f([a, b])


def test_missing_and_unfinished():
    with pytest.raises(ValueError, match='no record of inception_v4, inception_v3; found inception_resnet_v1'):
        plot_errors([r for r in four() if 'resnet' in r.meta['model']], 26)
    with pytest.raises(ValueError, match='no record of inception_v3'): speedup([run(RESIDUAL, lambda t: 50)])
    runs = four()
    runs[2].meta['finished'] = False
    with pytest.raises(ValueError, match='the run is not finished'): plot_errors(runs, 23)


# pictures

def artists(fig):
    fig.set_dpi(72)
    renderer = FigureCanvasAgg(fig).get_renderer()
    fig.draw(renderer)
    ax, = fig.axes
    ticks = [t for axis, (a, b) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim()))
             for t in axis.get_ticklabels() if t.get_text() and a <= t.get_position()[axis is ax.yaxis] <= b]
    texts = [*fig.texts, *ax.texts, *ticks, ax.xaxis.label, ax.yaxis.label]
    return [(t.get_text(), t.get_window_extent(renderer).extents) for t in texts] + [
        ('legend', ax.get_legend().get_window_extent(renderer).extents)
    ], ax.get_window_extent(renderer).extents, fig.bbox.extents


@pytest.mark.parametrize('n', [21, 24, 25])
@pytest.mark.parametrize('seeds,kw', [
    (1, {}), (3, {}), (2, dict(dataset='imagenet', classes=1000, width=1., px=299)),
    (1, dict(dataset='a-dataset-with-quite-a-long-name-' * 4, device='A Very Long Device ' * 12)),
    (1, dict(x=[.5, 1])), (1, dict(x=np.arange(20., 201, 20))), (2, dict(x=[5]))])
def test_nothing_overlaps_or_is_cut_off(n, seeds, kw):
    things, axes, canvas = artists(plot_errors(four(seeds, **kw), n))
    for (_, a), (_, b) in combinations([*things, ('axes', axes)], 2):
        assert min(a[2], b[2]) - max(a[0], b[0]) < 1 or min(a[3], b[3]) - max(a[1], b[1]) < 1, things
    for name, o in things:
        assert (o[:2] >= canvas[:2]).all() and (o[2:] <= canvas[2:]).all(), name


def test_lines_and_bands():
    runs = four(3)
    fig = plot_errors(runs, 26)
    ax, = fig.axes
    assert len(ax.lines) == len(ax.collections) == 4
    errors = np.stack([r['top1'] for r in runs if r.meta['model'] == large[0]])
    assert (ax.lines[0].get_ydata() == np.median(errors, 0)).all()
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == errors.min() and band[:, 1].max() == errors.max()
    styles = [(l.get_color(), l.get_linestyle()) for l in ax.lines]
    assert len(set(styles)) == 4 and [s for _, s in styles] == ['--', '-'] * 2
    low, high = ax.get_ylim()
    every = np.concatenate([r['top1'] for r in runs])
    assert low < every.min() and every.max() < high  # the first evaluation is in the picture
    assert not plot_errors(four(1), 26).axes[0].collections


@pytest.mark.parametrize('top', [0, 100, 50])
def test_flat_curves(top):
    low, high = plot_errors([run(m, lambda t: top) for m in small]).axes[0].get_ylim()
    assert 0 <= low < high <= 100 and low <= top <= high


WHOLE = dict(classes=1000, train=1_281_167, valid=50_000)


@pytest.mark.parametrize('dataset, classes, data, imagenet', [
    ('imagenet', 1000, None, True), ('ImageNet-1k', 1000, None, True), ('imagenet', None, None, False),
    ('imagenet', 100, None, False),
    ('imagenet', 1000, WHOLE, True), ('ILSVRC2012', None, WHOLE, True),
    ('imagenet', None, WHOLE | dict(classes=3), False),
    ('imagenet', None, WHOLE | dict(train=500_000), False), ('imagenet', 1000, WHOLE | dict(train=10_000), False),
    ('tiny-imagenet-200', None, None, False), ('imagenette', None, None, False), ('imagenet-v2', 1000, WHOLE, False),
    ('photos', None, WHOLE, False), ('fractals', 1000, None, False)])
def test_table_2_for_imagenet_only(dataset, classes, data, imagenet):
    runs = four(dataset=dataset, classes=classes, data=data)
    for n in 21, 24:
        plot = figures[n]
        fig = plot_errors(runs, n)
        found = [l.get_ydata()[0] for l in fig.axes[0].lines if len(l.get_ydata()) == 2 and l.get_label() != '_chance']
        assert found == [table_2[m][plot.metric] for m in plot.models if imagenet]
        assert ('Table 2' in text(fig)) == imagenet and ("not the paper's ImageNet" in text(fig)) == (not imagenet)


def test_part_of_imagenet_is_not_it():
    "A record without counts whose recipe takes ten images of each class, or one that was begun with none"
    runs = four(dataset='imagenet', classes=1000)
    for r in runs: r.meta['data'] = None
    assert "not the paper's ImageNet" not in caption(runs)
    assert "not the paper's ImageNet" in caption(four(dataset='imagenet', classes=1000, per_class=10))


def test_table_2_beside_raw_errors():
    raw = plot_errors(four(dataset='imagenet', classes=1000), Plot(small, 'raw_top1', 'Raw.'))
    assert len(raw.axes[0].lines) == 2 and 'weights without averaging' in text(raw)


def test_captions():
    assert 'Synthetic records: no network was trained. Seeds 0, 1.' == text(plot_errors(four(2), 21))
    real = plot_errors([replace(r, meta={**r.meta, 'dataset': 'folder'}) for r in four(2)], 21)
    assert 'The quantities of Figure 21 of the paper, measured in our runs. Top-1 error evolution' in text(real)
    for words in ['Data: folder', "not the paper's ImageNet", '20 classes', '75×75 pixels', 'width 0.25', 'batch 32',
                  '10 epochs', 'RMSProp at learning rate 0.045', 'seeds 0, 1']: assert words in text(real)
    assert 'RMSProp at learning rate 0.045, decayed 4 times as fast' in caption(four(compress=4.))
    assert 'rate' not in caption(four(lr=None)) and 'width 1,' in caption(four(width=1.))
    uneven = [*four(), run(PURE, lambda t: 50, seed=7)]
    assert 'Inception-v3: seeds 0, 7; Inception-ResNet-v1: seed 0' in text(plot_errors(uneven, 21))
    assert 'Seed 0.' in text(plot_errors(uneven, 23)) and 'median' not in text(plot_errors(uneven, 23))


@pytest.mark.parametrize('kind', ['svg', 'png', 'pdf'])
def test_same_bytes_whatever_the_style(tmp_path, kind):
    plot_errors(four(2), 25, to=tmp_path / f'a.{kind}')
    mine = {'savefig.bbox': 'tight', 'text.color': 'red', 'font.size': 30, 'axes.facecolor': 'black',
            'lines.linewidth': 9}
    with matplotlib.rc_context(mine): plot_errors(four(2), 25, to=str(tmp_path / f'b.{kind}'))
    a, b = sorted(tmp_path.iterdir())
    assert a.read_bytes() == b.read_bytes() and a.stat().st_size < 150_000


def test_a_folder_of_records(tmp_path):
    runs = write(tmp_path, [run(m, lambda t: 90 - t) for m in large])
    said = []
    paths = draw_figures(runs, tmp_path / 'out', say=said.append)
    assert [p.name for p in paths] == [f'fig{n}.{k}' for n in (23, 24) for k in ('svg', 'png')]
    assert sorted(os.listdir(tmp_path / 'out')) == sorted(p.name for p in paths)
    assert [s.split(':')[0] for s in said] == [f'Figure {n} is left out' for n in (21, 22, 25, 26)]
    before = [p.read_bytes() for p in paths]
    assert [p.read_bytes() for p in draw_figures(str(runs), tmp_path / 'out', say=said.append)] == before
    out = write_summary(runs, tmp_path / 'out' / 'summary.md').read_text('utf-8')
    assert '| Inception-v4 | Inception-ResNet-v2 | top-1 | epochs | 1.00 |' in out
    assert out == write_summary(runs, tmp_path / 's.md').read_text('utf-8')
    with pytest.raises(FileNotFoundError, match='holds no records'): draw_figures(tmp_path / 'none', tmp_path / 'out')
    assert len(read_runs(runs)) == 2
