"""Write a presentation for every lesson: the sections begin slides, and long ones continue on the slides below.

    python nbs/_slides.py

What the slides need (reveal.js and others) is loaded from the network, or from `_slides/node_modules` if that exists.
"""
import re
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from nbconvert.preprocessors import TagRemovePreprocessor

nbs = Path(__file__).resolve().parent
LOCAL = dict(reveal_url_prefix='reveal.js', require_js_url='requirejs/require.js',  # paths in node_modules
             jquery_url='jquery/dist/jquery.min.js', mathjax_url='mathjax/MathJax.js?config=TeX-AMS_CHTML-full')
NETWORK = dict(reveal_url_prefix='https://unpkg.com/reveal.js@4')
FULL = 800  # characters of text that fit on a slide
PICTURE, LINE = 500, 50  # what a picture and a line of code take, in characters
STYLE = """<style>
.reveal .slides section {text-align: left; font-size: 26px}
.reveal .jp-Notebook, .reveal .jp-Cell {padding: 0}
.reveal .jp-InputPrompt, .reveal .jp-OutputPrompt {display: none}
.reveal .jp-RenderedHTMLCommon, .reveal .jp-RenderedMarkdown {font-size: 26px; line-height: 1.35}
.reveal .jp-InputArea-editor, .reveal .jp-OutputArea-output pre {font-size: 17px; line-height: 1.35}
.reveal .jp-OutputArea-output img {
  width: 860px; max-width: 100%; max-height: 470px; object-fit: contain; object-position: left}
.reveal h1, .reveal h2, .reveal h3 {text-transform: none; margin: .2em 0}
.reveal h1 {font-size: 54px !important} .reveal h2 {font-size: 42px !important} .reveal h3 {font-size: 34px !important}
.reveal table {font-size: 20px}
</style>"""


def pieces(cell):
    "The cell; Markdown in paragraphs, each with the heading above it"
    if cell.cell_type != 'markdown': return [cell]
    texts, heading, fence = [], '', False
    for o in re.split(r'\n\s*\n', cell.source.strip()):
        if fence: texts[-1] += f'\n\n{o}'
        elif re.match('#+ ', o): heading += f'{o}\n\n'
        else: texts, heading = [*texts, heading + o], ''
        fence ^= o.count('```') % 2
    texts += [heading.strip()] * bool(heading)
    return [nbformat.v4.new_markdown_cell(o) for o in texts if not o.startswith('Run it in ')]


def picture(cell):
    "Whether a cell has a picture among its outputs"
    return any(k.startswith('image/') for o in cell.get('outputs', ()) for k in o.get('data', ()))


def weight(cell):
    "The room that a cell takes on a slide, in characters"
    if cell.cell_type == 'markdown': return len(re.sub(r'\]\([^)]*\)', ']', cell.source))
    lines = 0 if 'remove-input' in cell.metadata.get('tags', ()) else len(cell.source.splitlines()) + 1
    lines += sum(len(o.get('text', '').splitlines()) + 1 for o in cell.outputs)
    return PICTURE * picture(cell) + LINE * lines


def tidy(cell):
    "The cell without nbdev's directives; one that only shows a picture is left with the picture"
    cell.source = re.sub(r'^#\|.*\n', '', cell.source, flags=re.M)
    if picture(cell) and re.match(r'(show|display)\(', cell.source): cell.metadata['tags'] = ['remove-input']
    return cell


def prepared(path):
    "The lesson as a notebook for slides; hidden cells are left out"
    nb = nbformat.read(path, as_version=4)
    shown = [c for c in nb.cells if not re.search(r'^#\|\s*hide', c.source, flags=re.M)]
    nb.cells, filled = [o for c in shown for o in pieces(tidy(c))], 0
    for c in nb.cells:
        heading = re.match(r'(#+) ', c.source) if c.cell_type == 'markdown' else None
        kind = '-' if filled + weight(c) <= FULL else 'subslide'
        if heading: kind = 'slide' if len(heading[1]) < 3 else 'subslide'
        filled = weight(c) + (filled if kind == '-' else 0)
        c.metadata['slideshow'] = dict(slide_type=kind)
    return nb


def presentation(path, local):
    "The page of a lesson's slides"
    urls = {k: f'node_modules/{v}' for k, v in LOCAL.items()} if local else NETWORK
    exporter = SlidesExporter(reveal_scroll=True, reveal_number='c/t', reveal_theme='white', **urls)
    exporter.register_preprocessor(TagRemovePreprocessor(remove_input_tags={'remove-input'}), enabled=True)
    html = exporter.from_notebook_node(prepared(path))[0]
    html = re.sub(r'<script type="module">\s*import mermaid.*?</script>', '', html, count=1, flags=re.S)  # not used
    return html.replace('</head>', f'{STYLE}</head>', 1)


def main():
    out = nbs.parent / '_slides'
    out.mkdir(exist_ok=True)
    for path in sorted((nbs / 'lessons').glob('0[1-9]_*.ipynb')):
        (out / f'{path.stem}.html').write_text(presentation(path, (out / 'node_modules').exists()), encoding='utf-8')
        print(out / f'{path.stem}.html')


if __name__ == '__main__': main()
