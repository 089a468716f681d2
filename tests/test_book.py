"""The notebooks are a book and the package has layers: numbers, order, links, imports and lengths.

Not in a notebook: it reads all of them.
"""
import ast
import json
import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

root = Path(__file__).parents[1]
nbs, lib = root / 'nbs', root / 'inception_repro'
if not nbs.exists(): pytest.skip('needs a checkout with the notebooks', allow_module_level=True)

WALK = '1_figures', '2_training', '3_results'  # the reading order
LAYERS = [{'support'}, {'architecture'}, {'rewrites', 'data'}, {'training'}, {'evaluation'}, {'results'}, {'lessons'},
          {'benchmarking'}, {'cli_options', 'cli_launch'}, {'cli_speed', 'cli_records', 'cli_run'}, {'cli_studies'},
          {'cli'}, {'__main__'}]
LEVEL = {name: i for i, names in enumerate(LAYERS) for name in names}
LINES, WIDTH = 350, 120

KNOWN = {}  # Rule → files that do not meet it yet


def check(rule, found):
    "`found` maps a file to what is wrong in it"
    new = {f: what for f, what in found.items() if f not in KNOWN.get(rule, '').split()}
    assert not new, '\n'.join([rule, *(f'  {f}: {what}' for f, what in sorted(new.items()))])


def name(path): return path.relative_to(root).as_posix()


def notebooks(*folders):
    found = (p for p in nbs.rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
    return sorted(p for p in found if not folders or p.parent.name in folders)


@cache
def cells(path):
    return [(c['cell_type'], ''.join(c['source'])) for c in json.loads(path.read_text(encoding='utf-8'))['cells']]


def prose(path): return [text for kind, text in cells(path) if kind == 'markdown']


def outputs(path):
    "Markdown that cells printed"
    found = (o.get('data', {}).get('text/markdown', '') for c in json.loads(path.read_text(encoding='utf-8'))['cells']
             for o in c.get('outputs', []))
    return [''.join(o) for o in found]


def code(path):
    "Code cells without the lines that only IPython reads"
    texts = [text for kind, text in cells(path) if kind == 'code' and not text.startswith('%%')]
    return [re.sub(r'^[ \t]*[%!].*$', '', text, flags=re.M) for text in texts]


@cache
def modules():
    "Dotted name within the package → file"
    files = [p for p in lib.rglob('*.py') if p.stem not in ('__init__', '_modidx')]
    found = {'.'.join(p.relative_to(lib).with_suffix('').parts): p for p in files}
    return found | {p.parent.relative_to(lib).as_posix(): p for p in lib.glob('*/__init__.py')}


def imports(text, package=''):
    "(module of the package, names) of every import in some code, also in functions"
    for n in ast.walk(ast.parse(text)):
        if isinstance(n, ast.Import): found = [(a.name, []) for a in n.names]
        elif isinstance(n, ast.ImportFrom):
            parts = ['inception_repro', *package.split('.')] if package else ['inception_repro']
            base = '.'.join(parts[:len(parts) - n.level + 1]) if n.level else ''
            whole = '.'.join(o for o in (base, n.module) if o)
            inside = whole.removeprefix('inception_repro').lstrip('.')
            subs = [a.name for a in n.names if '.'.join(o for o in (inside, a.name) if o) in modules()]
            found = [(f'{whole}.{s}', []) for s in subs] + [(whole, [a.name for a in n.names if a.name not in subs])]
        else: continue
        for m, names in found:
            if m.split('.')[0] == 'inception_repro': yield m.removeprefix('inception_repro').lstrip('.'), names


@cache
def graph():
    "Module → the modules that it imports, with the names"
    found = {}
    for m, p in modules().items():
        package = m if p.stem == '__init__' else m.rpartition('.')[0]
        found[m] = [(to, names) for to, names in imports(p.read_text(encoding='utf-8'), package) if to and to != m]
    return found


@cache
def exporter():
    "Module → the notebook that exports it"
    pattern = re.compile(r'^#\|\s*default_exp\s+([\w.]+)', flags=re.M)
    return {m[1]: p for p in notebooks() for text in code(p) if (m := pattern.search(text))}


def links(text, own=lambda o: not re.match(r'[a-z]+:|#|//', o)):
    "Relative links of Markdown and of its HTML"
    text = re.sub(r'```.*?```|`[^`\n]*`', '', text, flags=re.S)
    found = re.findall(r'\]\(<?([^)\s>]+)', text) + re.findall(r'\b(?:src|href)="([^"]+)"', text)
    return [unquote(o.split('#')[0]) for o in found if own(o)]


@pytest.mark.parametrize('folder', [*WALK, 'library', 'lessons'])
def test_numbers_are_unique(folder):
    numbers = {}
    for p in notebooks(folder):
        assert re.match(r'\d\d_[a-z0-9_]+$', p.stem), f'{name(p)} has no number'
        numbers.setdefault(p.stem[:2], []).append(p.stem)
    twice = {f'nbs/{folder}/{o}.ipynb': f'has the number of {same[0]}' for same in numbers.values() for o in same[1:]}
    check('unique numbers', twice)


def test_the_walk_is_short(): assert 15 < len(notebooks(*WALK)) < 30


def test_links_go_backwards():
    "A notebook of the walk does not rely on a later one, but its last cell points to the next"
    order, found = {p: i for i, p in enumerate(notebooks(*WALK))}, {}
    for p, i in order.items():
        for text in prose(p)[:-1]:
            for o in links(text):
                if order.get((p.parent / o).resolve(), -1) > i: found[name(p)] = f'links to {o}'
    check('no forward links in the walk', found)


def test_imports_go_backwards():
    "A notebook of the walk imports nothing that a later one exports"
    order, found = {p: i for i, p in enumerate(notebooks(*WALK))}, {}
    for p, i in order.items():
        for m, _ in (o for text in code(p) for o in imports(text)):
            source = exporter().get(m)
            if order.get(source, -1) > i: found[name(p)] = f'imports {m}, which {name(source)} exports'
    check('no forward imports in the walk', found)


def test_layers():
    found = {}
    for m, others in graph().items():
        if m == '_testing': continue
        for to, _ in others:
            a, b = (LEVEL.get(o.split('.')[0]) for o in (m, to))
            assert a is not None, f'{m} is in no layer'
            same = m.split('.')[0] == to.split('.')[0]
            if b is None or b > a or (b == a and not same): found[m] = f'imports {to}'
    check('imports go one way', found)


def test_no_cycles():
    left = {m: {to for to, _ in others} for m, others in graph().items()}
    while free := [m for m, others in left.items() if not others & left.keys()]:
        for m in free: del left[m]
    assert not left, f"in cycles, or importing some: {', '.join(left)}"


def test_private_names_stay_in_their_module():
    private = lambda names: ', '.join(n for n in names if n.startswith('_') and not n.startswith('__'))
    every = [(m, *o) for m, others in graph().items() for o in others]
    found = {m: f'imports {private(names)} of {to}' for m, to, names in every if private(names)}
    for p in [*notebooks(), *root.glob('benchmarks/*.py')]:
        for text in code(p) if p.suffix == '.ipynb' else [p.read_text(encoding='utf-8')]:
            if re.search(r'^#\|\s*exports?\b', text, flags=re.M): continue
            for to, names in imports(text):
                if private(names) and exporter().get(to) != p: found[name(p)] = f'imports {private(names)} of {to}'
    check('private names', found)


def scripts():
    "Python files that no notebook exports"
    return [root / 'setup.py', *(p for folder in ('tests', 'benchmarks', 'nbs') for p in (root / folder).rglob('*.py'))]


def test_files_are_short():
    "All of Python but `_modidx.py`, the index that nbdev writes"
    files = [*(p for p in lib.rglob('*.py') if p.stem != '_modidx'), *scripts()]
    lines = {name(p): p.read_text(encoding='utf-8').count('\n') for p in files}
    check(f'at most {LINES} lines', {f: f'{n} lines' for f, n in lines.items() if n > LINES})


def test_lines_are_short():
    texts = {p: code(p) for p in notebooks()}  # with all of the package, but what nbdev writes into modules itself
    for p in scripts(): texts[p] = [p.read_text(encoding='utf-8')]
    long = {name(p): [o for text in ts for o in text.splitlines() if len(o) > WIDTH] for p, ts in texts.items()}
    check(f'at most {WIDTH} characters', {f: f'{len(o)} lines, such as {o[0][:60]!r}' for f, o in long.items() if o})


PAGES = [*notebooks(), *(root / f'{o}.md' for o in ('README', 'CONTRIBUTING', 'CHANGELOG'))]


@pytest.mark.parametrize('path', PAGES, ids=name)
def test_links_exist(path):
    texts = prose(path) + outputs(path) if path.suffix == '.ipynb' else [path.read_text(encoding='utf-8')]
    lost = [o for text in texts for o in links(text) if not (path.parent / o).exists()]
    check('links exist', {name(path): ', '.join(lost)} if lost else {})


def anchors(path):
    "Fragments of a notebook's headings, as Jupyter makes them"
    heads = (h for text in prose(path) for h in re.findall(r'^#+ +(.+?) *$', text, flags=re.M))
    return {re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', h).replace('`', '').replace(' ', '-') for h in heads}


@pytest.mark.parametrize('path', PAGES, ids=name)
def test_anchors_exist(path):
    texts = prose(path) + outputs(path) if path.suffix == '.ipynb' else [path.read_text(encoding='utf-8')]
    found = [o for text in texts for o in re.findall(r'\]\(([^)\s:]*(?:\.ipynb)?)#([^)\s]+)\)', text)]
    found = [(path.parent / page if page else path, unquote(anchor)) for page, anchor in found]
    lost = [f'{p.name}#{a}' for p, a in found if p.suffix == '.ipynb' and a not in anchors(p.resolve())]
    check('anchors exist', {name(path): ', '.join(lost)} if lost else {})


def test_the_glossary_has_each_term_once():
    terms = [o[1] for text in prose(nbs / 'glossary.ipynb') if (o := re.match(r'### (.+)', text))]
    assert len(terms) > 50 and len({o.lower() for o in terms}) == len(terms)


def test_the_start_page_lists_all_notebooks():
    "If not, run nbs/lessons/00_start.ipynb again"
    start = nbs / 'lessons/00_start.ipynb'
    listed = {(start.parent / o).resolve() for text in outputs(start) for o in links(text)}
    assert listed == {p.resolve() for p in notebooks(*WALK, 'library')}


LESSONS = [p for p in notebooks('lessons') if re.match(r'0[1-9]_', p.stem)]


@pytest.mark.parametrize('path', [*notebooks(*WALK), *LESSONS], ids=name)
def test_a_walk_notebook_has_a_beginning_and_an_end(path):
    kind, first = cells(path)[0]
    last, lacks = prose(path)[-1], []
    if not (kind == 'markdown' and re.match(r'# \S.*\n\n> \S', first)): lacks.append('a title with a subtitle')
    if not any(re.search(r'^## Summary', text, flags=re.M) for text in prose(path)): lacks.append('a summary')
    if not [o for o in links(last) if o.endswith('.ipynb')]: lacks.append('a pointer to another notebook at the end')
    check('beginning and end', {name(path): f"lacks {', '.join(lacks)}"} if lacks else {})


def test_lessons_are_in_order():
    "The start page lists them, and each ends with a link to the next"
    start = dict.fromkeys(o for text in prose(nbs / 'lessons/00_start.ipynb') for o in links(text))
    assert [o for o in start if o in {p.name for p in LESSONS}] == [p.name for p in LESSONS]
    found = {name(p): f'does not end with a link to {to.name}'
             for p, to in zip(LESSONS, LESSONS[1:]) if to.name not in links(prose(p)[-1])}
    check('lessons are in order', found)


@pytest.mark.parametrize('text, found', [
    ('[a](b.ipynb#c) ![d](../e%20f.svg) <img src="g.png"> [h](https://i.j) `[k](l)`',
     ['b.ipynb', '../e f.svg', 'g.png']),
    ('```sh\n[a](b)\n```', []), ('[a](#b)', [])])
def test_links_are_found(text, found): assert links(text) == found


def test_imports_are_found():
    late = 'def f():\n    from inception_repro.data import load as l\n'
    text = f'from ..support.tables import table_cell\nfrom . import records\n{late}'
    assert [*imports(text, 'training')] == [
        ('support.tables', ['table_cell']), ('training.records', []), ('training', []), ('data.load', []), ('data', [])]
