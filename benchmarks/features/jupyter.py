"""Features in a notebook"""
import inspect

from . import TINY, check, feature


def shown(value):
    "The kinds of output that a notebook gets"
    from IPython.core.formatters import DisplayFormatter
    return DisplayFormatter().format(value)[0]


@feature('Jupyter', 'a figure draws itself', 'inception_a')
def figure():
    from inception_repro import inception_a
    found = shown(inception_a)
    return check('</svg>' in found['image/svg+xml'], f"SVG, {found['text/plain']}")


@feature('Jupyter', 'a network shows its costs', "create_model('inception_v4')")
def module():
    from inception_repro import create_model
    text = shown(create_model('inception_v4'))['text/plain']
    return check('42,679,816 parameters' in text, text)


@feature('Jupyter', 'a recipe is a table with sources', "preset('demo')")
def recipe():
    from inception_repro import preset
    rows = shown(preset('demo'))['text/markdown'].splitlines()[2:]
    return check(any('(§4)' in r for r in rows), f'{len(rows)} rows')


@feature('Jupyter', 'a run shows one line and its curve', "read_run('….csv')")
def run_shown(tmp):
    from inception_repro import read_runs
    from inception_repro._testing import four_runs, write_runs
    found = shown(read_runs(write_runs(tmp, four_runs()))[0])
    return check('</svg>' in found['image/svg+xml'], f"SVG, {found['text/plain']}")


def changed():
    "Inception-v4 with a block of one's own"
    from inception_repro import concat, inception_a, inception_v4, rewrite
    block = concat(*inception_a.branches[:3], name='Mine')
    return rewrite(inception_v4, lambda n: block if n == inception_a else n)


@feature('Jupyter', 'a block of your own is trained', "fit(preset('demo', rewrite(inception_v4, f)))")
def own_block(tmp):
    from inception_repro import fit, inception_v4, plot_runs, preset
    runs = [fit(preset('demo', n, **TINY), tmp, progress=False, device='cpu') for n in (inception_v4, changed())]
    labels = [t.get_text() for t in plot_runs(*runs).axes[0].get_legend().texts]
    return check(len({*labels}) == 2 == len({r.path for r in runs}), ', '.join(labels))


@feature('Jupyter', 'two rates of one network in one picture', 'plot_runs(a, b, ax=ax)')
def two_rates():
    import matplotlib.pyplot as plt
    from inception_repro import plot_runs
    from inception_repro._testing import four_runs
    a, b = four_runs()[0], four_runs(lr=.01)[0]
    ax = plt.subplots()[1]
    labels = [t.get_text() for t in plot_runs(a, b, ax=ax).get_legend().texts]
    return check(labels == ['lr 0.045', 'lr 0.01'], ', '.join(labels))


@feature('Jupyter', 'help lists the parameters', 'help(fit)')
def help_lists():
    from inception_repro import fit
    lines = [o.strip() for o in fit.__doc__.splitlines() if o.startswith('    ')]
    return check(len(lines) == len(inspect.signature(fit).parameters) + 1, f'{len(lines)} lines, such as {lines[1]}')


@feature('Jupyter', 'Tab completes the fields of a recipe', 'preset(smo<Tab>')
def tab():
    from inception_repro import preset
    names = list(inspect.signature(preset).parameters)
    return check('smoothing' in names, ', '.join(n for n in names if n.startswith('smo')))


@feature('Jupyter', 'one import for an exploration', 'from inception_repro import *')
def star():
    found = {}
    exec('from inception_repro import *', found)
    want = 'conv', 'residual', 'draw', 'fit', 'preset', 'plot_runs', 'inception_a'
    return check(all(n in found for n in want), f'{len(found) - 1} names')
