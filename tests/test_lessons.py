"""The lessons: each is generated from its notebook with solutions, and every exercise checks itself.

Not in a notebook: it reads all of them. An exercise may use what the hidden cells before the first one import and
define, so a check needs no training.
"""
import ast
import importlib.util
import json
import re
from functools import cache
from pathlib import Path

import pytest
from inception_repro.lessons import check, list_exercises

nbs = Path(__file__).parents[1] / 'nbs'
if not nbs.exists(): pytest.skip('needs a checkout with the notebooks', allow_module_level=True)

spec = importlib.util.spec_from_file_location('_build', nbs / '_build.py')
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)
SOLUTIONS = sorted(build.solutions.glob('*.ipynb'))


def sources(text): return [''.join(c['source']) for c in json.loads(text)['cells'] if c['cell_type'] == 'code']


INSTALL = sources(SOLUTIONS[0].read_text(encoding='utf-8'))[0] # the first cell of every lesson


def exercises(text): return [o for o in sources(text) if re.search(r'^check\(', o, flags=re.M)]


@cache
def hidden(path):
    "The names that the hidden cells before the first exercise define"
    space = {}
    for o in sources(path.read_text(encoding='utf-8')):
        if re.search(r'^check\(', o, flags=re.M): return space
        if 'hide' in build.directives(o) and o != INSTALL: exec(o, space)


def result(source, space):
    "Run a cell, and return the value of its last line"
    *rest, last = ast.parse(source).body
    space = dict(space)
    exec(compile(ast.Module(rest, []), 'cell', 'exec'), space)
    return eval(compile(ast.Expression(last.value), 'cell', 'eval'), space)


CASES = [(p, i) for p in SOLUTIONS for i in range(len(exercises(p.read_text(encoding='utf-8'))))]
ids = [f'{p.stem}-{i}' for p, i in CASES]


@pytest.mark.parametrize('path', SOLUTIONS, ids=lambda p: p.stem)
def test_a_lesson_is_its_solution_without_the_answers(path):
    student = (nbs / 'lessons' / path.name).read_text(encoding='utf-8')
    assert student == build.lesson(path), 'run `make sync`'
    assert 'SOLUTION' not in student
    assert len(exercises(student)) == len(exercises(path.read_text(encoding='utf-8')))


@pytest.mark.parametrize('path, i', CASES, ids=ids)
def test_the_untouched_exercise_fails(path, i):
    feedback = result(exercises(build.lesson(path))[i], hidden(path))
    assert not feedback and 'No answer yet' in feedback.hint


@pytest.mark.parametrize('path, i', CASES, ids=ids)
def test_the_solution_passes(path, i):
    feedback = result(exercises(path.read_text(encoding='utf-8'))[i], hidden(path))
    assert feedback, feedback


@pytest.mark.parametrize('path', SOLUTIONS, ids=lambda p: p.stem)
def test_a_lesson_can_be_launched(path):
    "Its links to Colab and Binder open this notebook, and the first cell is the one that installs the package"
    nb = json.loads(path.read_text(encoding='utf-8'))
    first, install = (''.join(c['source']) for c in nb['cells'][:2])
    assert first.count(f'nbs/lessons/{path.name}') == 2
    assert install == INSTALL


@pytest.mark.parametrize('here, installed, calls', [
    ('nbs/lessons', True, []), ('nbs/lessons', False, ['pip']), ('nbs/_solutions', True, []),
    ('elsewhere', False, ['git', 'pip']), ('elsewhere', True, ['git'])])
def test_the_first_cell_gets_what_is_missing(here, installed, calls, tmp_path, monkeypatch):
    "In a clone nothing, on a clean machine the project and the package; run again, it does nothing"
    for o in 'nbs/lessons', 'nbs/_solutions', 'elsewhere': (tmp_path / o).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(tmp_path / here)
    found, done = [installed], []

    def run(command, check):
        done.append('pip' if 'pip' in command else command[0])
        if done[-1] == 'git': Path('inception-repro/nbs/lessons').mkdir(parents=True)
        else: found[0] = Path(command[-1]).resolve() in {tmp_path, tmp_path / 'elsewhere/inception-repro'}

    monkeypatch.setattr('subprocess.run', run)
    monkeypatch.setattr('importlib.util.find_spec', lambda name: found[0])
    for _ in range(2): exec(INSTALL, {})
    assert done == calls and found[0] and Path('../lessons').exists()


def test_every_exercise_is_in_one_lesson():
    text = '\n'.join(o for p in SOLUTIONS for o in exercises(p.read_text(encoding='utf-8')))
    assert sorted(re.findall(r"^check\('(\w+)'", text, flags=re.M)) == sorted(list_exercises())


def test_slides():
    pytest.importorskip('nbconvert')
    spec = importlib.util.spec_from_file_location('_slides', nbs / '_slides.py')
    slides = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(slides)
    nb = slides.prepared(nbs / 'lessons/04_scaling.ipynb')
    kinds = {c.source.splitlines()[0]: c.metadata.slideshow.slide_type for c in nb.cells}
    assert (kinds['# Scaling'], kinds['## The problem'], kinds['### Exercise 1']) == ('slide', 'slide', 'subslide')
    assert not any('subprocess' in c.source or '#|' in c.source or 'Run it in' in c.source for c in nb.cells)
    filled = 0
    for c in nb.cells:
        filled = slides.weight(c) + (filled if c.metadata.slideshow.slide_type == '-' else 0)
        assert filled <= max(slides.FULL, slides.weight(c)), c.source # several cells on a slide fit on it
    html = slides.presentation(nbs / 'lessons/04_scaling.ipynb', local=True)
    loaded = re.findall(r'(?:src|href)="([^"]+\.(?:js|css)[^"]*)"', html)
    assert len(loaded) > 3 and all(o.startswith('node_modules/') for o in loaded)


WRONG = [  # exercise, answer, part of the hint
    ('gradient_factors', (.1**20, 2), 'multiplied, not added'), ('gradient_factors', (.1, 1.1**20), 'first number'),
    ('gradient_factors', (.1**20, .1**20), 'derivative of x'), ('gradient_factors', 3, 'not a tuple of 2 numbers'),
    ('identity_block', lambda block: None, 'still differs'),
    ('identity_block', lambda block: setattr(block, 'scale', 0), 'able to learn'),
    ('identity_block', lambda block: block.nothing, 'AttributeError'),
    ('receptive_field', (1, 14), 'overlap'), ('receptive_field', (3, 3), 'back through both'),
    ('misprints', (1154, 2144), 'is what Figure 17 prints'), ('misprints', (1152, 2048), 'is what Figure 19 prints'),
    ('misprints', (1152, 1152), 'Figure 19: add up'),
    ('equal_cost', ('inception_v3', 'inception_v4'), 'pure network'),
    ('equal_cost', ('vgg', 'inception_v4'), 'unknown'),
    ('variance', .34 + 6, 'squared'), ('variance', 1.8, 'before the first block'), ('variance', 7., 'add up'),
    ('largest_scale', 1., 'multiply the variance'), ('control', 'shortcut', 'blocks'), ('control', 'luck', 'none of'),
    ('rmsprop', (.045 * 2 / 1.4 ** .5, 0), 'starts at one'), ('cost_claim', 32.4, 'as 100 %'),
    ('cost_claim', 24., 'Less is negative')]


@pytest.mark.parametrize('name, answer, hint', WRONG)
def test_hints(name, answer, hint):
    feedback = check(name, answer)
    assert not feedback and hint in feedback.hint
