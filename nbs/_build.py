"""Keep notebooks and README in step with their sources.

    python nbs/_build.py execute [NOTEBOOK ...] [--flags gpu]   fresh outputs, in a real kernel
    python nbs/_build.py readme [--check]                       README.md from index.ipynb
    python nbs/_build.py check                                  export, cleaning and README leave no diff

nbdev's directives are honoured: `#| eval: false` cells and flagged ones (`#| gpu`, `#| slow`) keep the outputs they have.
"""
import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

nbs = Path(__file__).resolve().parent
root = nbs.parent


def notebooks():
    "All of them, in the order of a reader who goes through the folders"
    return sorted(p for p in nbs.rglob('*.ipynb') if not any(o[0] in '._' for o in p.relative_to(nbs).parts))


def skipped(cell, flags):
    "Whether a code cell stays as it is"
    directives = re.findall(r'^\s*#\|\s*(.+?)\s*$', cell.source, flags=re.M)
    off = {'eval: false', 'notest', 'gpu', 'slow'} - set(flags)
    return any(d in off for d in directives) or 'nbdev_export(' in cell.source


def execute(path, flags=()):
    "Run the notebook's cells in a kernel, in its own folder, and write their outputs back, atomically"
    nb = nbformat.read(path, as_version=4)
    client = NotebookClient(nb, timeout=1800, resources=dict(metadata=dict(path=str(path.parent))))
    with client.setup_kernel():
        for i, cell in enumerate(nb.cells):
            if cell.cell_type == 'code' and cell.source.strip() and not skipped(cell, flags): client.execute_cell(cell, i)
    tmp = path.with_suffix('.tmp')
    nbformat.write(nb, tmp)
    os.replace(tmp, path)


def shown(cell):
    "A cell as the README has it: `#| echo: false` leaves only its Markdown output"
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


def sources():
    "What export, cleaning and the README depend on, as it stands on disk"
    return {p: p.read_bytes() for p in [*notebooks(), *(root / 'inception_repro').rglob('*.py'), root / 'README.md']
            if p.exists()}


def check():
    "Export, clean and render; restore nothing, report what changed"
    before = sources()
    for cmd in 'nbdev_export', 'nbdev_clean': subprocess.run([Path(sys.executable).parent / cmd], cwd=root, check=True)
    (root / 'README.md').write_text(readme(), encoding='utf-8')
    after = sources()
    stale = sorted(str(p.relative_to(root)) for p in before.keys() | after.keys() if before.get(p) != after.get(p))
    big = [p.name for p in notebooks() if p.stat().st_size > 300_000]
    if stale: sys.exit(f"out of step, now rewritten: {', '.join(stale)}; edit nbs/, run `make sync`, commit")
    if big: sys.exit(f"over 300 KB: {', '.join(big)}; draw smaller figures")
    print('export, notebooks and README are in step')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('task', choices=['execute', 'readme', 'check'])
    parser.add_argument('notebooks', nargs='*', type=Path)
    parser.add_argument('--flags', nargs='*', default=[])
    parser.add_argument('--check', action='store_true')
    args = parser.parse_args()
    if args.task == 'execute':
        for p in args.notebooks or notebooks():
            print(p, flush=True)
            execute(p.resolve(), args.flags)
        subprocess.run([Path(sys.executable).parent / 'nbdev_clean'], cwd=root, check=True)
    elif args.task == 'check': check()
    else:
        text, target = readme(), root / 'README.md'
        if args.check and target.read_text(encoding='utf-8') != text: sys.exit('README.md is stale: run `make sync`')
        if not args.check: target.write_text(text, encoding='utf-8')


if __name__ == '__main__': main()
