"""Keep package, notebooks and README up to date.

    python nbs/_build.py execute [NOTEBOOK ...] [--flags gpu]   fresh outputs, in a real kernel
    python nbs/_build.py readme [--check]                       README.md from index.ipynb
    python nbs/_build.py fold                                   hidden cells are collapsed in JupyterLab
    python nbs/_build.py lessons                                lessons from the notebooks with solutions
    python nbs/_build.py sync                                   export, clean, fold, lessons, README, type stub
    python nbs/_build.py check                                  the same, and an error if that changes a file

nbdev's directives are respected: cells with `#| eval: false`, `#| gpu` or `#| slow` keep their outputs.
"""
import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from runpy import run_path

import nbformat
from nbclient import NotebookClient

nbs = Path(__file__).resolve().parent
root = nbs.parent
solutions = nbs / '_solutions'  # lessons with their solutions
SOLUTION = re.compile(r'^### BEGIN SOLUTION\n.*?^### END SOLUTION\n?', flags=re.M | re.S)


def notebooks():
    "All notebooks, sorted by folder and number"
    return sorted(p for p in nbs.rglob('*.ipynb') if not any(o[0] in '._' for o in p.relative_to(nbs).parts))


def directives(source): return re.findall(r'^\s*#\|\s*(.+?)\s*$', source, flags=re.M)


def fold(path):
    "Collapse the source of cells with `#| hide` in JupyterLab, and of no others"
    nb = json.loads(path.read_text(encoding='utf-8'))
    for cell in nb['cells']:
        cell['metadata'].pop('jupyter', None)
        if cell['cell_type'] == 'code' and 'hide' in directives(''.join(cell['source'])):
            cell['metadata']['jupyter'] = {'source_hidden': True}
    text = json.dumps(nb, sort_keys=True, indent=1, ensure_ascii=False) + '\n'  # as nbdev writes it
    if text != path.read_text(encoding='utf-8'): path.write_text(text, encoding='utf-8')


def lesson(path):
    "The text of a student's notebook: that of `path`, without what stands between the marks of a solution"
    nb = json.loads(path.read_text(encoding='utf-8'))
    for cell in nb['cells']:
        source = ''.join(cell['source'])
        if '### BEGIN SOLUTION' not in source: continue
        cell.update(source=SOLUTION.sub('', source).splitlines(keepends=True), outputs=[])
    return json.dumps(nb, sort_keys=True, indent=1, ensure_ascii=False) + '\n'


def lessons():
    "Clean the notebooks with solutions, and write the lessons"
    subprocess.run([Path(sys.executable).parent / 'nbdev_clean', '--fname', solutions], cwd=root, check=True)
    for p in sorted(solutions.glob('*.ipynb')):
        fold(p)
        (nbs / 'lessons' / p.name).write_text(lesson(p), encoding='utf-8')


def runnable(path):
    "The notebook to execute: of a lesson the one with solutions"
    twin = solutions / path.name
    return twin if path.parent.name == 'lessons' and twin.exists() else path


def skipped(cell, flags):
    "Whether a code cell is not run"
    off = {'eval: false', 'notest', 'gpu', 'slow'} - set(flags)
    return any(d in off for d in directives(cell.source)) or 'nbdev_export(' in cell.source


def execute(path, flags=()):
    "Run the notebook's cells in a kernel, in its own folder, and write their outputs back, atomically"
    nb = nbformat.read(path, as_version=4)
    client = NotebookClient(nb, timeout=1800, resources=dict(metadata=dict(path=str(path.parent))))
    with client.setup_kernel():
        for i, cell in enumerate(nb.cells):
            code = cell.cell_type == 'code' and cell.source.strip()
            if code and not skipped(cell, flags): client.execute_cell(cell, i)
    tmp = path.with_suffix('.tmp')
    nbformat.write(nb, tmp)
    os.replace(tmp, path)


def shown(cell):
    "A cell for the README: with `#| echo: false`, only its Markdown output"
    if re.search(r'^\s*#\|\s*echo:\s*false', cell.source, flags=re.M):
        return nbformat.v4.new_markdown_cell('\n'.join(''.join(o.data['text/markdown']) for o in cell.outputs))
    cell.source = re.sub(r'^\s*#\|.*\n', '', cell.source, flags=re.M)
    return cell


def readme():
    "The README's text: index.ipynb without its hidden cells"
    from nbconvert import MarkdownExporter
    nb = nbformat.read(nbs / 'index.ipynb', as_version=4)
    nb.metadata['language_info'] = dict(name='python')
    nb.cells = [c for c in nb.cells if not re.search(r'^\s*#\|\s*hide', c.source, flags=re.M)]
    nb.cells = [shown(c) for c in nb.cells]
    text = MarkdownExporter().from_notebook_node(nb)[0].strip() + '\n'
    text = re.sub(r'\]\(([\w/]+\.ipynb)', r'](nbs/\1', text)  # links are written for nbs/
    return re.sub(r'\n{3,}', '\n\n', re.sub(r'(\]\(|src="|href=")\.\./', r'\1', text))


def stub():
    "`__init__.pyi`, from which editors and type checkers know the names that the package imports lazily"
    names = run_path(str(root / 'inception_repro/__init__.py'))['_names']
    lines = [f"from .{m} import {', '.join(f'{n} as {n}' for n in found.split())}" for m, found in names.items()]
    return '\n'.join(['# Written by nbs/_build.py from `_names` in __init__.py', *lines, '__version__: str']) + '\n'


def sources():
    "Content of the files that `sync` may write"
    return {p: p.read_bytes() for p in [*notebooks(), *solutions.glob('*.ipynb'),
                                        *(root / 'inception_repro').rglob('*.py*'), root / 'README.md']
            if p.suffix != '.pyc' and p.exists()}


def sync():
    "Export, clean, fold, write the lessons, render the README, write the stub"
    lessons()
    for cmd in 'nbdev_export', 'nbdev_clean': subprocess.run([Path(sys.executable).parent / cmd], cwd=root, check=True)
    for p in notebooks(): fold(p)
    (root / 'README.md').write_text(readme(), encoding='utf-8')
    (root / 'inception_repro/__init__.pyi').write_text(stub(), encoding='utf-8')


def check():
    "Synchronise, and report what changed"
    before = sources()
    sync()
    after = sources()
    stale = sorted(str(p.relative_to(root)) for p in before.keys() | after.keys() if before.get(p) != after.get(p))
    big = [p.name for p in notebooks() if p.stat().st_size > 300_000]
    if stale: sys.exit(f"not up to date, now rewritten: {', '.join(stale)}; edit nbs/, run `make sync`, commit")
    if big: sys.exit(f"over 300 KB: {', '.join(big)}; draw smaller figures")
    print('package, notebooks and README are up to date')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('task', choices=['execute', 'readme', 'fold', 'lessons', 'sync', 'check'])
    parser.add_argument('notebooks', nargs='*', type=Path)
    parser.add_argument('--flags', nargs='*', default=[])
    parser.add_argument('--check', action='store_true')
    args = parser.parse_args()
    if args.task == 'execute':
        for p in args.notebooks or notebooks():
            print(p, flush=True)
            execute(runnable(p.resolve()), args.flags)
        lessons()
        subprocess.run([Path(sys.executable).parent / 'nbdev_clean'], cwd=root, check=True)
        for p in args.notebooks or notebooks(): fold(p.resolve())
    elif args.task == 'fold':
        for p in args.notebooks or notebooks(): fold(p.resolve())
    elif args.task == 'lessons': lessons()
    elif args.task == 'sync': sync()
    elif args.task == 'check': check()
    else:
        text, target = readme(), root / 'README.md'
        if args.check and target.read_text(encoding='utf-8') != text:
            sys.exit('README.md is not up to date: run `make sync`')
        if not args.check: target.write_text(text, encoding='utf-8')


if __name__ == '__main__': main()
