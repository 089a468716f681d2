"""Build the documentation site from the committed notebooks, without executing them, and check its links.

    python site/build.py [--out _docs]
"""
import argparse
import json
import re
import shutil
import sys
from html import escape
from pathlib import Path

from crawl import broken_links, without_alt
from sphinx.cmd.build import main as sphinx

here = Path(__file__).resolve().parent
root = here.parent
CHAPTERS = {'lessons': 'Lessons', '1_figures': 'Figures 1 to 20', '2_training': 'Training (§4)',
            '3_results': 'Results (§5)', 'library': 'Library'}
PAGES = ['glossary', 'gallery', 'benchmarks', 'api/index']
GALLERY = ('Every figure of the paper, drawn by this package. Click a box of Figure 9 or 15 to see what it contains, '
           'and a caption to read how the figure is defined.')
CURVES = ("Drawn from the records of our training runs, which are small. They are not the paper's runs on ImageNet: "
          'see [the curves](3_results/02_curves.ipynb).')
API = ('# API\n\nThe package by sub-package. What most users need is in `inception_repro` itself: see '
       '[the front page](../index.ipynb).\n')
BOXES = { # a box of a network's drawing → the figure that it stands for
    9: {'Stem': 3, 'Inception-A': 4, 'Inception-B': 5, 'Inception-C': 6, 'Reduction-A': 7, 'Reduction-B': 8},
    15: {'Stem': 14, 'Inception-ResNet-A': 10, 'Inception-ResNet-B': 11, 'Inception-ResNet-C': 13, 'Reduction-A': 7,
         'Reduction-B': 12}}


def toctree(caption, entries):
    return '\n'.join(['```{toctree}', ':hidden:', f':caption: {caption}', '', *entries, '```', ''])


def toc(src):
    "The chapters follow the folders"
    listed = lambda folder: sorted(f'{folder}/{p.stem}' for p in (src / folder).glob('[0-9]*.ipynb'))
    chapters = [toctree(title, listed(folder)) for folder, title in CHAPTERS.items()]
    return '\n'.join([*chapters, toctree('Reference', PAGES)])


def sections():
    "Number of a figure → address of its section"
    found = {}
    for path in sorted((root / 'nbs/1_figures').glob('*.ipynb')):
        for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
            for n in re.findall(r'^## Figure (\d+)$', ''.join(cell['source']), flags=re.M):
                found.setdefault(int(n), f'1_figures/{path.stem}.html#figure-{n}')
    return found


def linked(svg, number):
    "The drawing of a network as a part of a page, with a link from each box to its figure"
    svg = re.sub(r'<metadata>.*?</metadata>', '', svg[svg.index('<svg'):], flags=re.S)
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf'\g<1>f{number}-', svg) # ids are unique within a page
    for label, to in BOXES[number].items():
        box = rf'(<g id="f{number}-text_\d+">\s*<!-- (?:\d+ × )?{re.escape(label)} -->.*?\n   </g>)'
        svg = re.sub(box, rf'<a href="#fig-{to}"><title>Figure {to}</title>\1</a>', svg, flags=re.S)
    return svg


def card(number, picture, alt, to):
    caption = f'<figcaption><a href="{to}">{escape(alt)}</a></figcaption>'
    return f'<figure id="fig-{number}">{picture}{caption}</figure>'


def gallery(src):
    "All figures, each with a link to its section; the boxes of the networks lead to their blocks"
    where, cards = sections(), []
    for n in range(1, 21):
        svg = (root / f'figures/architecture/fig{n:02}.svg').read_text(encoding='utf-8')
        image = f'<a href="{where[n]}"><img src="_static/figures/architecture/fig{n:02}.svg" alt="Figure {n}"></a>'
        cards.append(card(n, linked(svg, n) if n in BOXES else image, f'Figure {n}', where[n]))
    curves = [card(f'{data}-{n}', f'<img src="_static/figures/{data}/fig{n}.svg" alt="Figure {n} on {data}">',
                   f'Figure {n}, {data}', '3_results/02_curves.html')
              for data in ('fractals', 'tiny-imagenet-40') for n in range(21, 27)
              if (root / f'figures/{data}/fig{n}.svg').exists()]
    grid = lambda o: '```{raw} html\n<div class="diagrams">\n' + '\n'.join(o) + '\n</div>\n```'
    text = ['# Gallery', GALLERY, '## Figures 1 to 20', grid(cards), '## Figures 21 to 26', CURVES, grid(curves)]
    (src / 'gallery.md').write_text('\n\n'.join(text) + '\n', encoding='utf-8')


def api(src):
    "A page for each sub-package"
    lib, pages = root / 'inception_repro', {}
    for p in sorted(lib.rglob('*.py')):
        module = p.relative_to(lib).with_suffix('').parts
        if not module[-1].startswith('_'): pages.setdefault(module[0], []).append('.'.join(module))
    (src / 'api').mkdir()
    for name, modules in pages.items():
        members = lambda m: f'```{{eval-rst}}\n.. automodule:: inception_repro.{m}\n   :members:\n```\n'
        parts = [f'## {m}\n\n{members(m)}' for m in modules]
        (src / f'api/{name}.md').write_text('\n'.join([f'# {name}\n', *parts]), encoding='utf-8')
    listed = '\n'.join(['```{toctree}', ':maxdepth: 1', '', *pages, '```'])
    (src / 'api/index.md').write_text(f'{API}\n{listed}\n', encoding='utf-8')


def prepare(work):
    "Sources for Sphinx: the notebooks, the pages of this folder, the figures beside them"
    shutil.rmtree(work, ignore_errors=True)
    src = work / 'nbs'
    shutil.copytree(root / 'nbs', src, ignore=shutil.ignore_patterns('_*', '.*'))
    shutil.copytree(root / 'figures', work / 'figures', ignore=shutil.ignore_patterns('runs'))
    for p in here.glob('*.md'): shutil.copy(p, src)
    (static := work / 'static').mkdir()
    shutil.copy(here / 'own.css', static)
    shutil.copytree(work / 'figures', static / 'figures', ignore=shutil.ignore_patterns('*.png', '*.md', '*.json'))
    gallery(src)
    api(src)
    index = json.loads((src / 'index.ipynb').read_text(encoding='utf-8'))
    index['cells'].append(dict(cell_type='markdown', id='chapters', metadata={}, source=toc(src)))
    (src / 'index.ipynb').write_text(json.dumps(index), encoding='utf-8')
    return src, static


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=root / '_docs', help='folder of the site')
    args = parser.parse_args()
    sys.path.insert(0, str(root)) # the package, for the API
    work = root / 'build/site' # myst-nb writes a folder beside its output, too
    src, static = prepare(work)
    options = ['-b', 'html', '-W', '--keep-going', '-q', '-c', str(here), '-D', f'html_static_path={static}']
    if sphinx([*options, str(src), str(work / 'html')]): sys.exit('the site has warnings; see above')
    if lost := broken_links(work / 'html'): sys.exit('broken links:\n' + '\n'.join(lost))
    for name, n in without_alt(work / 'html').items(): print(f'{name}: {n} picture(s) without alt text')
    shutil.rmtree(args.out, ignore_errors=True)
    shutil.move(work / 'html', args.out)
    print(f'{args.out}/index.html')


if __name__ == '__main__': main()
