"""Write a presentation for every lesson: a slide per section, without the cells that only prepare.

    python nbs/_slides.py [--reveal URL]    reveal.js from the network, or from a folder beside the slides
"""
import argparse
import re
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter

nbs = Path(__file__).resolve().parent


def prepared(path):
    "The lesson as a notebook for slides: sections begin slides, subsections go below them, hidden cells are left out"
    nb = nbformat.read(path, as_version=4)
    nb.cells = [o for c in nb.cells for o in parts(c) if not re.search(r'^#\|\s*hide', o.source, flags=re.M)]
    for c in nb.cells:
        c.source = re.sub(r'^#\|.*\n', '', c.source, flags=re.M)
        heading = re.match(r'(#+) ', c.source) if c.cell_type == 'markdown' else None
        kind = '-' if not heading else 'slide' if len(heading[1]) < 3 else 'subslide'
        c.metadata['slideshow'] = dict(slide_type=kind)
    return nb


def parts(cell):
    "The cell; Markdown with several headings in pieces that begin with one"
    if cell.cell_type != 'markdown': return [cell]
    texts = re.split(r'^(?=#{1,3} )', cell.source, flags=re.M)
    return [nbformat.v4.new_markdown_cell(o.strip()) for o in texts if o.strip()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--reveal', default='https://unpkg.com/reveal.js@4', help='where reveal.js is')
    args = parser.parse_args()
    out = nbs.parent / '_slides'
    out.mkdir(exist_ok=True)
    for path in sorted((nbs / 'lessons').glob('0[1-9]_*.ipynb')):
        exporter = SlidesExporter(reveal_url_prefix=args.reveal, reveal_scroll=True)
        (out / f'{path.stem}.html').write_text(exporter.from_notebook_node(prepared(path))[0], encoding='utf-8')
        print(out / f'{path.stem}.html')


if __name__ == '__main__': main()
