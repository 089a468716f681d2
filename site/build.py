"""Build the documentation site from the committed notebooks, without executing them, and check its links.

    python site/build.py [--out _docs]
"""
import argparse
import json
import re
import shutil
import sys
from pathlib import Path

from crawl import broken_links, without_alt
from gallery import gallery
from sphinx.cmd.build import main as sphinx

here = Path(__file__).resolve().parent
root = here.parent
CHAPTERS = {'lessons': 'Lessons', '1_figures': 'Figures 1 to 20', '2_training': 'Training (§4)',
            '3_results': 'Results (§5)', 'library': 'Library'}
PAGES = ['glossary', 'gallery', 'benchmarks', 'api/index']
API = ('# API\n\nThe package by sub-package. What most users need is in `inception_repro` itself: see '
       '[the front page](../index.ipynb).\n')


def toctree(caption, entries):
    return '\n'.join(['```{toctree}', ':hidden:', f':caption: {caption}', '', *entries, '```', ''])


def toc(src):
    "The chapters follow the folders"
    listed = lambda folder: sorted(f'{folder}/{p.stem}' for p in (src / folder).glob('[0-9]*.ipynb'))
    chapters = [toctree(title, listed(folder)) for folder, title in CHAPTERS.items()]
    return '\n'.join([*chapters, toctree('Reference', PAGES)])


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


def benchmarks(src):
    "The page with the tables of the records; its sections are one level lower than in the file"
    text = re.sub(r'^#', '##', (root / 'benchmarks/records/README.md').read_text(encoding='utf-8'), flags=re.M)
    text = re.sub(r'\]\(([^)/]+\.json)\)', r'](../benchmarks/records/\1)', text)
    intro = (here / 'benchmarks.md').read_text(encoding='utf-8')
    (src / 'benchmarks.md').write_text(f'{intro}\n{text}', encoding='utf-8')


def prepare(work):
    "Sources for Sphinx: the notebooks, the pages of this folder, the figures beside them"
    shutil.rmtree(work, ignore_errors=True)
    src = work / 'nbs'
    shutil.copytree(root / 'nbs', src, ignore=shutil.ignore_patterns('_*', '.*'))
    shutil.copytree(root / 'figures', work / 'figures', ignore=shutil.ignore_patterns('runs'))
    benchmarks(src)
    (static := work / 'static').mkdir()
    for name in 'own.css', 'favicon.svg': shutil.copy(here / name, static)
    shutil.copytree(work / 'figures', static / 'figures', ignore=shutil.ignore_patterns('*.png', '*.md', '*.json'))
    (src / 'gallery.md').write_text(gallery(work), encoding='utf-8')
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
    if lacks := without_alt(work / 'html'):
        sys.exit('\n'.join(f'{name}: {n} picture(s) without alt text' for name, n in lacks.items()))
    shutil.rmtree(args.out, ignore_errors=True)
    shutil.move(work / 'html', args.out)
    print(f'{args.out}/index.html')


if __name__ == '__main__': main()
