"The committed figures are those of their definitions and records. Not in a notebook: it draws all of them again."
import re
from pathlib import Path

import pytest

root = Path(__file__).parents[1]


@pytest.mark.parametrize('n', range(1, 21))
def test_committed_figures_are_their_definitions(n, tmp_path):
    from inception_repro.cli import draw_figure
    committed = root / f'figures/architecture/fig{n:02}.svg'
    draw_figure(f'fig{n:02}', to=tmp_path / 'f.svg')
    import matplotlib
    pinned = re.search(r'^matplotlib==(.+)$', (root / 'constraints.txt').read_text(), flags=re.M)[1]
    if matplotlib.__version__ == pinned: assert (tmp_path / 'f.svg').read_bytes() == committed.read_bytes()
    assert abs((tmp_path / 'f.svg').stat().st_size / committed.stat().st_size - 1) < .2


def same_files(made, committed):
    "What was made is what is committed; pictures where matplotlib is the version that drew them"
    import matplotlib
    pinned = re.search(r'^matplotlib==(.+)$', (root / 'constraints.txt').read_text(), flags=re.M)[1]
    files = lambda folder: {p.name for p in folder.iterdir() if p.is_file()}
    assert files(made) == files(committed)
    for p in made.iterdir():
        if p.suffix == '.md' or p.suffix == '.svg' and matplotlib.__version__ == pinned:
            assert p.read_bytes() == (committed / p.name).read_bytes(), p.name


@pytest.mark.parametrize('dataset', [
    'fractals', 'tiny-imagenet-40', 'fractals20/fractals', 'fractals50/fractals', 'plateau/tiny-imagenet-40'])
def test_committed_curves_are_their_records(dataset, tmp_path):
    from inception_repro.cli import figures
    figures(root / 'figures/runs' / dataset, tmp_path)
    same_files(tmp_path, root / 'figures' / dataset)


def test_committed_rates_are_their_records(tmp_path):
    from inception_repro.results.rates import write_rates
    write_rates(root / 'figures/runs/rates', tmp_path)
    same_files(tmp_path, root / 'figures/rates')


@pytest.mark.parametrize('dataset, where', [('fractals', ''), ('tiny-imagenet-40', 'tiny-imagenet-40')])
def test_committed_pictures_of_stability_are_their_records(dataset, where, tmp_path):
    from inception_repro.results.stability import draw_stability
    draw_stability(root / 'figures/runs/stability' / dataset, tmp_path)
    same_files(tmp_path, root / 'figures/stability' / where)


@pytest.mark.parametrize('name', sorted(p.name for p in (root / 'figures/shortcut').glob('*px-*')))
def test_committed_pictures_of_the_shortcut_study_are_their_records(name, tmp_path):
    from inception_repro.results.shortcut_plots import write_shortcut
    write_shortcut(root / 'figures/runs/shortcut' / name.replace('-', '/', 1), tmp_path)
    same_files(tmp_path, root / 'figures/shortcut' / name)


def test_the_committed_answer_is_its_records(tmp_path):
    from inception_repro.results.shortcut_plots import write_answer
    made = write_answer(root / 'figures/runs/shortcut', tmp_path)
    assert made.read_bytes() == (root / 'figures/shortcut/answer.md').read_bytes()
