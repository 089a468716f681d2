"""The page with all figures. A click on a box of a network leads to its block and to the code that defines it."""
import json
import re
import sys
from html import escape
from pathlib import Path

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

root = Path(__file__).resolve().parents[1]
TITLES = {1: 'a residual connection', 2: 'a residual connection with a 1×1 convolution',
          3: 'the stem of Inception-v4 and Inception-ResNet-v2', 4: 'Inception-A of Inception-v4',
          5: 'Inception-B of Inception-v4', 6: 'Inception-C of Inception-v4', 7: 'Reduction-A of all three networks',
          8: 'Reduction-B of Inception-v4', 9: 'Inception-v4', 10: 'Inception-ResNet-A of Inception-ResNet-v1',
          11: 'Inception-ResNet-B of Inception-ResNet-v1', 12: 'Reduction-B of Inception-ResNet-v1',
          13: 'Inception-ResNet-C of Inception-ResNet-v1', 14: 'the stem of Inception-ResNet-v1',
          15: 'Inception-ResNet-v1 and Inception-ResNet-v2', 16: 'Inception-ResNet-A of Inception-ResNet-v2',
          17: 'Inception-ResNet-B of Inception-ResNet-v2', 18: 'Reduction-B of Inception-ResNet-v2',
          19: 'Inception-ResNet-C of Inception-ResNet-v2', 20: 'scaling of a residual branch'}
boxes = lambda *figures: dict(zip(('Stem', 'A', 'Reduction-A', 'B', 'Reduction-B', 'C'), figures))
NETWORKS = { # name → number of its figure, numbers of the figures that its boxes stand for, from bottom to top
    'inception_v4': (9, boxes(3, 4, 7, 5, 8, 6)), 'inception_resnet_v1': (15, boxes(14, 10, 7, 11, 12, 13)),
    'inception_resnet_v2': (15, boxes(3, 16, 7, 17, 18, 19))}
SMALL, LARGE = 'Inception-v3 and Inception-ResNet-v1', 'Inception-v4 and Inception-ResNet-v2'
CURVES = {21: f'top-1 error of {SMALL}', 22: f'top-5 error of {SMALL}', 23: f'top-1 error of {LARGE}',
          24: f'top-5 error of {LARGE}', 25: 'top-5 error of all four networks', 26: 'top-1 error of all four networks'}
DATA = {'plateau/tiny-imagenet-40': 'Forty classes of Tiny ImageNet, 107×107 pixels, longer training',
        'tiny-imagenet-40': 'Forty classes of Tiny ImageNet, 75×75 pixels',
        'fractals': 'Ten classes of generated images, 75×75 pixels',
        'fractals20/fractals': 'Twenty classes of generated images, 107×107 pixels',
        'fractals50/fractals': 'Fifty classes of generated images, 75×75 pixels'}
TEXT = """# Gallery

Every figure of the paper, drawn by this package. **Click a box of a network** to see the block that it stands for.
Below each block, *Definition* opens the code from which it is drawn, counted and built, and the caption leads to its
section.

## From the networks to their blocks

{networks}

## Figures 1 to 20

{figures}

## Figures 21 to 26

These figures are drawn from the records of our training runs, which are small. They are not the paper's runs on
ImageNet. [Curves](3_results/02_curves.ipynb) says how to read them, and what the thin lines are.

{curves}
"""


def cells(path): return json.loads(path.read_text(encoding='utf-8'))['cells']


def sections():
    "Number of a figure → (address of its section, the code that defines the figure)"
    found = {}
    for path in sorted((root / 'nbs/1_figures').glob('*.ipynb')):
        n = None
        for cell in cells(path):
            source = ''.join(cell['source'])
            if cell['cell_type'] == 'markdown':
                for heading in re.findall(r'^## (.*)$', source, flags=re.M):
                    figure = re.fullmatch(r'Figure (\d+)', heading)
                    n = int(figure[1]) if figure else None
                    if n: found[n] = f'1_figures/{path.stem}.html#Figure-{n}', ''
            elif n and not found[n][1] and source.startswith('#| exports\n'):
                found[n] = found[n][0], source.partition('\n')[2]
    return found


def inline(svg, name, alt):
    "A drawing as a part of a page; its ids are unique there"
    svg = re.sub(r'<metadata>.*?</metadata>', '', svg[svg.index('<svg'):], flags=re.S)
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf'\g<1>{name}-', svg)
    return svg.replace('<svg ', f'<svg role="group" aria-label="{escape(alt)}" ', 1)


def frame(svg, x, y):
    "An invisible rectangle over the box around a point, so that the whole box can be clicked and not only its letters"
    for path in re.findall(r'<path d="([^"]*)"', svg.partition('text_1"')[0]):
        if 'Q' not in path: continue  # a box has round corners
        xy = [float(o) for o in re.findall(r'[-\d.]+', path)]
        left, right, top, bottom = min(xy[::2]), max(xy[::2]), min(xy[1::2]), max(xy[1::2])
        if left < x < right and top < y < bottom:
            return f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" fill-opacity="0"/>'


def linked(svg, name):
    "The drawing with a link from each box to the figure that it stands for"
    for label, to in NETWORKS[name][1].items():
        begin = rf'<g id="{name}-text_\d+">\s*<!-- (?:\d+ × )?(?:Inception-|Inception-ResNet-)?{label} -->'
        found = re.findall(rf'{begin}.*?\n   </g>', svg, flags=re.S)
        if len(found) != 1: sys.exit(f'{len(found)} boxes {label!r} in the drawing of {name}')
        x, y = map(float, re.search(r'translate\(([\d.]+) ([\d.]+)\)', found[0]).groups())
        title = f'<title>Figure {to}: {TITLES[to]}</title>'
        svg = svg.replace(found[0], f'<a href="#fig-{to}">{title}{found[0]}{frame(svg, x, y)}</a>')
    return svg


def card(key, picture, caption, to, code=''):
    "A figure with its caption, a link, and the code that can be opened"
    if code:
        block = highlight(code, PythonLexer(), HtmlFormatter(nowrap=True)).rstrip()
        code = f'<details><summary>Definition</summary><div class="highlight"><pre>{block}</pre></div></details>'
    caption = f'<figcaption><a href="{to}">{escape(caption)}</a></figcaption>'
    return f'<figure id="fig-{key}">\n{picture}\n{caption}\n{code}\n</figure>'


def grid(cards, kind='blocks'):
    inside = re.sub(r'\n\s*\n', '\n', '\n'.join(cards))  # a blank line would end the part of the page that is HTML
    return '\n'.join(['```{raw} html', f'<div class="diagrams {kind}">', inside, '</div>', '```'])


def image(path, alt): return f'<img src="_static/figures/{path}" alt="{escape(alt)}" loading="lazy">'


def networks(where, folder):
    "The networks, drawn here because Figure 15 stands for two of them"
    from inception_repro import draw, network
    from inception_repro.architecture.describe import describe
    made = []
    for name, (n, _) in NETWORKS.items():
        draw(network(name), to=folder / f'{name}.svg')
        svg = (folder / f'{name}.svg').read_text(encoding='utf-8')
        title = {'inception_v4': 'Inception-v4', 'inception_resnet_v1': 'Inception-ResNet-v1',
                 'inception_resnet_v2': 'Inception-ResNet-v2'}[name]
        svg = linked(inline(svg, name, describe(network(name))), name)
        made.append(card(name, svg, f'Figure {n}: {title}', where[n][0]))
    return grid(made, 'networks')


def figures(where):
    from inception_repro.architecture.by_number import figures_by_number
    from inception_repro.architecture.describe import describe
    return grid([card(n, image(f'architecture/fig{n:02}.svg', f'Figure {n}, {TITLES[n]}. {describe(figure)}'),
                      f'Figure {n}: {TITLES[n]}', *where[n]) for n, (figure, _) in figures_by_number().items()])


def curves():
    parts = []
    for folder, title in DATA.items():
        have = [n for n in CURVES if (root / f'figures/{folder}/fig{n}.svg').exists()]
        made = [card(f'{folder}-{n}', image(f'{folder}/fig{n}.svg', f'{CURVES[n]} against epochs. {title}.'),
                     f'Figure {n}: {CURVES[n]}', '3_results/02_curves.html') for n in have]
        parts += [f'### {title}', grid(made)] if made else []
    return '\n\n'.join(parts)


def gallery(folder):  # A folder for drawings that are part of the page
    "The text of the page"
    where = sections()
    return TEXT.format(networks=networks(where, folder), figures=figures(where), curves=curves())
