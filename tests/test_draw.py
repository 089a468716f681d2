"""Geometry of drawn figures: there are too many random figures to look at, so the artists themselves are measured."""
import random
import subprocess
import sys
from itertools import combinations, count

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from inception_repro.architecture.draw import draw
from inception_repro.architecture.graph import Network, Residual, Seq, avgpool, concat, conv, maxpool, residual, seq
from inception_repro.architecture.residuals import figure_1, figure_2
from inception_repro.architecture.variants import rescale

half = dict(ks=3, stride=2, valid=True)
fork = concat([conv(256, (1, 3))], [conv(256, (3, 1))])
stem = seq(conv(32, **half), conv(32, 3, valid=True), conv(64, 3), concat([maxpool()], [conv(96, **half)]),
           concat([conv(64), conv(96, 3, valid=True)],
                  [conv(64), conv(64, (7, 1)), conv(64, (1, 7)), conv(96, 3, valid=True)]),
           concat([conv(192, **half)], [maxpool()]), name='Stem')
block_a = concat([avgpool(), conv(96)], [conv(96)], [conv(64), conv(96, 3)], [conv(64), conv(96, 3), conv(96, 3)],
                 name='Inception-A')
block_c = concat([avgpool(), conv(256)], [conv(256)], [conv(384), fork],
                 [conv(384), conv(448, (1, 3)), conv(512, (3, 1)), fork], name='Inception-C')
reduction = concat([maxpool()], [conv(256), conv(384, **half)], [conv(256), conv(256, **half)],
                   [conv(256), conv(256, 3), conv(256, **half)], name='Reduction-B')
resnet = residual([conv(192)], [conv(192), conv(224, (1, 3)), conv(256, (3, 1))], scale=.17, name='Inception-ResNet-C')
scaled = Residual(Seq((conv(32), conv(32, 3)), 'Inception'), scale=.1)
network = Network('network', seq(stem, [block_a] * 4, reduction, [resnet] * 20, conv(1536)))

figures = dict(
    figure_1=(figure_1, dict(counts=False)), figure_2=(figure_2, dict(counts=False, title='Figure 2')), stem=(stem, {}),
    block_a=(block_a, dict(size=(35, 35, 384))), block_c=(block_c, dict(size=(8, 8, 1536), title='Figure 6. ' * 40)),
    reduction=(reduction, dict(size=(17, 17, 896), below='Previous Layer')), resnet=(resnet, dict(size=(8, 8, 2144))),
    scaled=(scaled, dict(counts=False)), opened=(scaled, dict(depth=1)), network=(network, {}),
    network_opened=(network, dict(depth=2)), one=(conv(8), {}), none=(seq(), {}),
    skip=(concat([], [conv(8)]), dict(size=(9, 9, 8))),
    noted=(stem, dict(notes={'3x3 Conv (192 stride 2 V)': 'printed without stride',
                             ('3x3 MaxPool (stride 2 V)', 2): 'a note'})),
    linear_noted=(resnet, dict(size=(8, 8, 2144), notes={'1x1 Conv (2144 Linear)': 'printed 2048, corrected to 2144'})),
    letters=(reduction, dict(size=(17, 17, 896), letters=dict(k=256, l=384))),
    removed=(rescale(network.trunk, 0), {}), removed_block=(rescale(resnet, 0), dict(size=(8, 8, 2144))))


def some(rng, depth, names):
    "A random figure that keeps the grid"
    kind = rng.choice(['conv', 'conv', 'pool', 'seq', 'concat', 'residual'] if depth else ['conv', 'pool'])
    inner = lambda low=1: [some(rng, depth - 1, names) for _ in range(rng.randint(low, 3))]
    name = f'Block-{next(names)}' if rng.random() < .2 else ''
    if kind == 'pool': return rng.choice([avgpool(), maxpool(3, 1, valid=False)])
    if kind == 'conv': return conv(rng.choice([8, 96, 1792]), rng.choice([1, 3, (1, 7)]))
    if kind == 'seq': return seq(*inner(0), name=name)
    if kind == 'concat': return concat(*[inner(0) for _ in range(rng.randint(2, 4))], name=name)
    branches = [inner(0) for _ in range(rng.randint(1, 3))]
    return residual(*branches, scale=rng.choice([1, .1]), act=rng.random() < .7, name=name)


def overlap(a, b, slack=.5):
    "Whether two rectangles (left, bottom, right, top) share more than a line"
    return min(a[2], b[2]) - max(a[0], b[0]) > slack and min(a[3], b[3]) - max(a[1], b[1]) > slack


def within(a, b, slack=.01):
    return a[0] >= b[0] - slack and a[1] >= b[1] - slack and a[2] <= b[2] + slack and a[3] <= b[3] + slack


def check(fig):
    "Boxes apart, words in their boxes or apart from everything, lines outside boxes, all on the canvas; in points"
    fig.set_dpi(72)
    renderer = FigureCanvasAgg(fig).get_renderer()
    fig.draw(renderer)
    extent = lambda o: o.get_window_extent(renderer).extents
    ax, = fig.axes
    boxes = [extent(o) for o in ax.patches if isinstance(o, FancyBboxPatch)]
    words = [extent(o) for o in ax.texts]
    wires = [o.get_transform().transform_path(o.get_path()).interpolated(8).vertices
             for o in ax.patches if isinstance(o, FancyArrowPatch)]
    assert not [(a, b) for a, b in combinations(boxes, 2) if overlap(a, b)]
    assert not [(a, b) for a, b in combinations(words, 2) if overlap(a, b)]
    inside = [w for w in words if any(within(w, b) for b in boxes)]
    assert len(inside) == len(boxes)
    outside = [w for w in words if not any(w is i for i in inside)]
    assert not [(w, b) for w in outside for b in boxes if overlap(w, b)]
    for xy in wires:
        for a, b, c, d in boxes: assert not ((xy > (a + 1, b + 1)) & (xy < (c - 1, d - 1))).all(1).any()
        for a, b, c, d in outside: assert not ((xy > (a, b)) & (xy < (c, d))).all(1).any()
    canvas = fig.bbox.extents
    assert all(within(o, canvas, slack=-2) for o in [*boxes, *words])
    assert all(within((*xy.min(0), *xy.max(0)), canvas, slack=-2) for xy in wires)


@pytest.mark.parametrize('name', figures)
def test_figures(name):
    figure, options = figures[name]
    check(draw(figure, **options))


@pytest.mark.parametrize('seed', range(40))
def test_random_figures(seed):
    rng = random.Random(seed)
    check(draw(some(rng, 3, count()), (35, 35, 64), depth=rng.choice([0, 1, 9]), counts=rng.random() < .8))


def test_every_box_is_there():
    words = [t.get_text() for t in draw(block_c, (8, 8, 1536)).axes[0].texts]
    assert words.count('Filter concat') == 2 and words.count('1x3 Conv (256)') == 2 and words[-1] == '8x8x1536'
    words = [t.get_text() for t in draw(network).axes[0].texts]
    assert words[:4] == ['Input (299x299x3)', 'Stem', 'Output: 35x35x384', '4 × Inception-A']
    assert words[-5:] == ['Output: 1536', 'Dropout (keep 0.8)', 'Output: 1536', 'Softmax', 'Output: 1000']
    words = [t.get_text() for t in draw(scaled, counts=False).axes[0].texts]
    assert words == ['Relu activation', 'Inception', 'Activation Scaling (× 0.1)', '+', 'Relu activation']


@pytest.mark.parametrize('kind', ['svg', 'png', 'pdf'])
def test_same_bytes_whatever_the_style(tmp_path, kind):
    draw(stem, to=tmp_path/f'a.{kind}')
    mine = {'savefig.bbox': 'tight', 'text.color': 'red', 'font.size': 30, 'svg.fonttype': 'none',
            'axes.facecolor': 'black'}
    with matplotlib.rc_context(mine):
        before = dict(matplotlib.rcParams)
        draw(stem, to=str(tmp_path/f'b.{kind}'))
        assert dict(matplotlib.rcParams) == before
    a, b = sorted(tmp_path.iterdir())  # and no temporary file
    assert a.read_bytes() == b.read_bytes()
    assert a.stat().st_size < 100_000


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path/'a.svg').write_text('old')
    monkeypatch.setattr('inception_repro.architecture.draw.picture_bytes', lambda *_: 1/0)
    with pytest.raises(ZeroDivisionError): draw(conv(8), to=tmp_path/'a.svg')
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [('a.svg', 'old')]


@pytest.mark.parametrize('name', ['figure.jpeg', 'figure', 'svg'])
def test_endings(name):
    message = f'cannot write .{name}.; end its name in one of .svg, .png, .pdf'
    with pytest.raises(ValueError, match=message): draw(stem, to=name)


def test_size_that_does_not_fit():
    with pytest.raises(ValueError, match='too small'): draw(stem, (9, 9, 3))


@pytest.mark.parametrize('before', ['', 'import matplotlib.pyplot', '%matplotlib inline'])
def test_shown_once_as_one_small_image(before):
    pytest.importorskip('ipykernel')
    nbformat, nbclient = pytest.importorskip('nbformat'), pytest.importorskip('nbclient')
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(
        f'{before}\nfrom inception_repro.architecture.draw import draw\n'
        'from inception_repro.architecture.residuals import figure_1\ndraw(figure_1)')])
    nbclient.NotebookClient(nb).execute()
    output, = nb.cells[0].outputs
    assert sorted(output.data) == ['image/png', 'text/plain']
    assert output.data['image/png'].startswith('iVBORw0KGgo') and len(output.data['image/png']) < 20_000
    assert output.metadata['image/png']['width'] < 400


def test_light_imports():
    code = ("import sys, inception_repro.architecture.draw as d; d.draw(d.Conv(8)); "
            "sys.exit(', '.join({'torch', 'fastai', 'matplotlib.pyplot', 'IPython'} & set(sys.modules)) or 0)")
    subprocess.run([sys.executable, '-c', code], check=True)


def test_notes_and_letters():
    fig = draw(resnet, (8, 8, 2144), notes={'1x1 Conv (2144 Linear)': 'printed 2048'})
    words = [t.get_text() for t in fig.axes[0].texts]
    assert '1x1 Conv (2144 Linear)\nprinted 2048' in words
    words = [t.get_text() for t in draw(reduction, (17, 17, 896), letters=dict(k=256, l=384)).axes[0].texts]
    assert words[0] == 'Filter concat' and words[1] == '17x17' and words[-1] == '8x8'
    assert words.count('1x1 Conv (k)') == 3
    with pytest.raises(ValueError, match='no box for the note on'):
        draw(resnet, (8, 8, 2144), notes={'1x1 Conv (9)': 'x'})
    with pytest.raises(ValueError, match='another number of filters'):
        draw(reduction, (17, 17, 896), letters=dict(k=1, l=1))


def test_removed_blocks_are_dashed():
    fig = draw(rescale(network.trunk, 0))
    dashed = [b for b in fig.axes[0].patches if isinstance(b, FancyBboxPatch) and b.get_linestyle() != '-']
    assert len(dashed) == 1
