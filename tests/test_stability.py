"""The experiment of §3.3 from a shell, and the committed pictures and verdicts against the committed records.

Not in a notebook: processes, and files in the repository.
"""
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from inception_repro._testing import SMALL as small
from inception_repro.results.stability import draw_stability, verdicts
from inception_repro.results.stability_plots import plot_activity, plot_phase
from inception_repro.results.trials import Trial, outcome, read_results, run_trial, run_trials, trials

root = Path(__file__).parents[1]
records = root / 'figures/runs/stability/fractals'


@pytest.mark.parametrize('dataset', [p.name for p in records.parent.iterdir()])
def test_committed_pictures_are_their_records(tmp_path, dataset):
    import matplotlib
    draw_stability(records.parent / dataset, tmp_path, say=lambda line: None)
    pinned = re.search(r'^matplotlib==(.+)$', (root / 'constraints.txt').read_text(), flags=re.M)[1]
    at = root / 'figures/stability' / (dataset if dataset != 'fractals' else '')
    drawn, committed = ({p.name: p for p in o.iterdir() if p.is_file()} for o in (tmp_path, at))
    assert drawn.keys() == committed.keys()
    assert drawn['verdicts.md'].read_text('utf-8') == committed['verdicts.md'].read_text('utf-8')
    for name, p in drawn.items():
        if matplotlib.__version__ == pinned and p.suffix == '.svg':
            assert p.read_bytes() == committed[name].read_bytes(), name


def test_committed_records_are_trials_of_the_experiment():
    found = read_results(records)
    assert found and all(r.trial in trials(3) for r in found)
    for r in found:
        assert r.meta['time']['steps'] == r.trial.steps or outcome(r) == 'unstable'
        assert {k: r.meta['recipe'][k] for k in ('width', 'scale', 'lr', 'clip')} == {
            k: getattr(r.trial, k) for k in ('width', 'scale', 'lr', 'clip')}


def test_a_loss_that_is_not_finite_is_a_result(tmp_path):
    r = run_trial(Trial(1/16, lr=1e18, steps=30), tmp_path, **small)
    assert r.meta['time']['steps'] < 30 and outcome(r) == 'unstable' and not r.evals
    path, = (tmp_path / 'fractals').iterdir()
    assert json.loads(path.read_text())['samples'][-1]['loss'] is None
    again, = read_results(tmp_path / 'fractals')
    assert outcome(again) == 'unstable'
    for picture in (lambda: plot_phase([replace(again, trial=Trial())]),
                    lambda: plot_activity([replace(again, trial=Trial())])): picture()
    verdicts([replace(again, trial=Trial())])._repr_markdown_()


def test_the_seed_counts(tmp_path):
    a, b = (run_trial(Trial(1/16, steps=3, seed=s), tmp_path, **small)['loss'] for s in (0, 1))
    assert (a != b).all()


@pytest.mark.slow
def test_an_error_in_a_process_is_told(tmp_path):
    with pytest.raises(ValueError, match="bn is 'all'"):
        run_trials([Trial(1/16, steps=3, bn='all')], tmp_path, say=lambda line: None, **small)


@pytest.mark.slow
def test_command(tmp_path):
    def run(*args):
        return subprocess.run([sys.executable, '-m', 'inception_repro.results.stability', *map(str, args)],
                              capture_output=True, text=True)
    p = run('--draw', '--runs', records.parent, '--out', tmp_path)
    assert p.returncode == 0 and (tmp_path / 'phase-width.svg').exists() and 'verdicts.md' in p.stdout, p.stderr
    p = run('--draw', '--runs', tmp_path, '--out', tmp_path)
    assert p.returncode == 1 and 'has a record; run some first' in p.stderr and 'Traceback' not in p.stderr


@pytest.mark.slow
def test_a_folder_of_images(tmp_path):
    import numpy as np
    from PIL import Image
    rng = np.random.default_rng(0)
    for split, label, i in ((s, c, i) for s, n in (('train', 9), ('val', 2)) for c in 'ab' for i in range(n)):
        (folder := tmp_path / 'pets' / split / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / f'{i}.png')
    own = dict(dataset='pets', classes=2, per_class=None, valid_per_class=None, bs=8)
    r, = run_trials([Trial(1/16, steps=3)], tmp_path / 'runs', say=lambda line: None, source=str(tmp_path / 'pets'),
                    **own)
    assert r.meta['dataset'] == 'pets' and len(r.samples) == 3
    draw_stability(tmp_path / 'runs/pets', tmp_path / 'out', say=lambda line: None)
    assert (tmp_path / 'out/phase-width.svg').exists()
