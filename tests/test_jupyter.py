"""What a user sees in Jupyter: values that show themselves, help, completion, and a network of one's own.

Not in a notebook: most of these need IPython's own machinery, or a kernel.
"""
import inspect
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

import inception_repro
from inception_repro import (
    Recipe, build, concat, create_model, fit, inception_a, inception_v3, inception_v4, network, plot_runs, preset,
    read_runs, rewrite)
from inception_repro._testing import four_runs, write_runs
from inception_repro.architecture.custom import definition
from inception_repro.training.fit import _check_recipe
from inception_repro.training.recipe import run_name
from inception_repro.training.records import as_json

SMALL = dict(width=1 / 16, classes=2, per_class=8, valid_per_class=4, bs=8, epochs=1, evals=1, px=75)


def mine(name='mine'):
    "Inception-v4 with another block in the place of Figure 4"
    block = concat(*inception_a.branches[:3], name='Mine')
    return replace(rewrite(inception_v4, lambda n: block if n == inception_a else n), name=name)


@pytest.fixture
def shell():
    "IPython without a terminal"
    from IPython.core.interactiveshell import InteractiveShell
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def shown(shell, value): return shell.display_formatter.format(value)[0]


@pytest.mark.parametrize('value, text', [
    (inception_a, 'Inception-A: 7 convolutions'),
    (inception_v4, 'inception_v4: 42,679,816 parameters, 12.25 GMACs at 299×299, 1,000 classes')])
def test_a_figure_shows_itself(shell, value, text):
    found = shown(shell, value)
    assert found['text/plain'] == text and found['image/svg+xml'].rstrip().endswith('</svg>')


def test_a_module_shows_its_cost(shell):
    net = create_model('inception_v4', width=1 / 16)
    n = sum(p.numel() for p in net.parameters())
    assert shown(shell, net)['text/plain'].startswith(f'inception_v4: {n:,} parameters, ')
    assert 'Trunk' in str(net)  # `print` still lists the layers


def test_a_recipe_is_a_table_with_sources(shell):
    assert '| `lr` | 0.045 | Learning rate (§4) |' in shown(shell, preset('demo'))['text/markdown']
    r = preset('demo', 'inception_v4', lr=.01)
    assert eval(repr(r)) == r and len(repr(r)) < 300


def test_runs_show_one_line_and_a_curve(shell, tmp_path):
    run = read_runs(write_runs(tmp_path, four_runs()))[0]
    found = shown(shell, run)
    assert found['text/plain'].startswith(f"{run.meta['model']} seed 0 on synthetic, top-1 error ")
    assert found['image/svg+xml'] and '\n' not in found['text/plain']
    begun = replace(run, rows=[], meta={**run.meta, 'finished': False})
    assert shown(shell, begun) == {'text/plain': f"{run.meta['model']} seed 0 on synthetic, not finished"}
    assert 'times the epochs of' in repr(inception_repro.speedup(four_runs()))


def test_a_group_takes_the_name_of_the_new_block():
    assert [n for n, _ in build(mine()).trunk.named_children()][1] == 'mine'
    old = replace(inception_v3, aux=inception_v4.trunk.nodes[0])  # any figure
    new = rewrite(old, lambda n: replace(n, name='Other') if getattr(n, 'name', '') == 'Inception-B' else n)
    assert new.aux_at == 'Other'


def test_names_of_your_own_networks():
    a, b = preset('demo', mine(), **SMALL), preset('demo', mine('inception_v4'), **SMALL)
    assert run_name(a).startswith('mine.') and run_name(b).startswith('inception_v4.')
    assert run_name(a)[5:] == run_name(b)[13:]  # one definition
    other = preset('demo', rewrite(mine(), lambda n: replace(n, nf=n.nf + 1) if hasattr(n, 'nf') else n), **SMALL)
    assert run_name(other)[:5] == 'mine.' and run_name(other) != run_name(a)
    assert preset('demo', inception_v4).model == 'inception_v4' == preset('demo', network('inception_v4')).model
    assert Recipe(**as_json(a)) == a == pickle.loads(pickle.dumps(a))
    assert '/' not in run_name(preset('demo', mine('../x y'), **SMALL))


def test_a_network_of_your_own_is_trained(tmp_path):
    recipe = preset('demo', mine(), **SMALL)
    run = fit(recipe, tmp_path, progress=False)
    assert run.path.name == f'{run_name(recipe)}-0.csv' and network(run.meta['recipe']['model']).trunk == mine().trunk
    assert len(fit(recipe, tmp_path, progress=False)) == len(run)  # finished, so nothing is trained
    changed = replace(recipe, model=rewrite(mine(), lambda n: replace(n, nf=n.nf + 1) if hasattr(n, 'nf') else n))
    with pytest.raises(ValueError, match="model: 'mine.*' -> 'mine.*'; choose another out"):
        _check_recipe(run, changed)  # as if the file had been renamed
    paths = inception_repro.reproduce(recipe, models=[inception_v4, mine()], out=tmp_path / 'r', runs=tmp_path, jobs=1,
                                      controls=False, progress=False, say=lambda _: None)
    table = paths[-1].read_text(encoding='utf-8')
    assert '| mine |' in table and '| Inception-v4 |' in table


def test_what_is_no_network():
    net = build(inception_v4)
    for o, text in [(net, 'inception_v4 is given as a module; give the value'), (None, 'None is no network'),
                    (inception_a, 'is no network; give a name'), ('inception_v5', "did you mean 'inception_v4'")]:
        with pytest.raises(ValueError, match=text): fit(o)
    with pytest.raises(ValueError, match='defines no figure'): network(dict(definition(mine()), trunk='print(1)'))
    with pytest.raises(ValueError, match='is defined by name and trunk'): network(dict(name='x'))


def test_two_rates_in_one_picture(tmp_path):
    one = read_runs(write_runs(tmp_path, four_runs()))[0]
    slow = replace(one, meta={**one.meta, 'recipe': {**one.meta['recipe'], 'lr': .01}})
    fig = plot_runs(one, [slow], to=tmp_path / 'x.svg')
    assert [t.get_text() for t in fig.axes[0].get_legend().texts] == ['lr 0.045', 'lr 0.01']
    assert (tmp_path / 'x.svg').stat().st_size > 1000
    assert len(plot_runs(str(one.path), one.path.parent).axes[0].get_legend().texts) == 4


def test_a_limit_that_is_set_stays(tmp_path):
    from matplotlib.figure import Figure
    runs = read_runs(write_runs(tmp_path, four_runs()))
    free, own = (Figure().subplots() for _ in range(2))
    own.set_ylim(0, 100)
    for ax in free, own: plot_runs(runs, ax=ax)
    assert own.get_ylim() == (0, 100) != free.get_ylim()


def test_star_import():
    found = {}
    exec('from inception_repro import *', found)
    for name in 'conv maxpool avgpool seq concat residual inception_a draw fit preset plot_runs plot_errors'.split():
        assert name in found
    assert not [n for n in found if n.startswith('_') and n != '__builtins__']


PUBLIC = [n for n in inception_repro.__all__ if inspect.isfunction(getattr(inception_repro, n)) and n != 'replace']


@pytest.mark.parametrize('name', PUBLIC)
def test_public_functions_are_documented(name):
    f = getattr(inception_repro, name)
    sig = inspect.signature(f)
    assert sig.return_annotation is not sig.empty
    for p in sig.parameters.values():
        assert p.annotation is not p.empty, p.name
        if not (name == 'preset' and p.kind is p.KEYWORD_ONLY): assert f'    {p.name}: ' in f.__doc__
    assert inspect.getdoc(f).count('Parameters') == 1


def test_tab_completes_the_fields_of_a_recipe(shell):
    from IPython.core.completer import provisionalcompleter
    shell.user_ns['preset'] = preset
    text = 'preset("demo", smo'
    with provisionalcompleter(): found = [c.text for c in shell.Completer.completions(text, len(text))]
    assert 'smoothing=' in found


def test_editors_know_the_names():
    folder = Path(inception_repro.__file__).parent
    assert (folder / 'py.typed').exists()
    stub = (folder / '__init__.pyi').read_text(encoding='utf-8')
    assert all(f'{n} as {n}' in stub for n in inception_repro.__all__)
