"""What a notebook keeps of a training run: the last state of its progress bar.

Not in a notebook: the notebook under test runs in a kernel of its own.
"""
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
FIT = '''
from inception_repro import fit, preset
recipe = preset('demo', 'inception_resnet_v1', width=1/16, classes=2, per_class=8, valid_per_class=4, bs=8, epochs=1)
run = fit(recipe, {out!r}, device='cpu')
'''
STOP = '''
from inception_repro.training.learner import TrainingCallback
class CtrlC(TrainingCallback):
    def after_backward(self): raise KeyboardInterrupt
try: fit(recipe, {out!r} + '/stopped', device='cpu', cbs=CtrlC())
except KeyboardInterrupt: pass
'''
GREEN, RED = '#729c1f', '#f92672'  # rich's colours of a bar that is complete, and of one that is not


@pytest.fixture(scope='module')
def cells(tmp_path_factory):
    "Both cells, executed in a kernel"
    out = str(tmp_path_factory.mktemp('runs'))
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(o.format(out=out)) for o in (FIT, STOP, 'run')])
    nb.metadata['kernelspec'] = dict(name='python3', display_name='python3', language='python')
    NotebookClient(nb, timeout=300).execute()
    return nb.cells


def bar(cell):
    "The HTML of the only bar"
    found = [o.data['text/html'] for o in cell.outputs if o.output_type == 'display_data']
    assert len(found) == 1
    return found[0]


@pytest.mark.slow
def test_a_finished_run_ends_with_a_full_green_bar(cells):
    html = bar(cells[0])
    assert '100 %' in html and GREEN in html and RED not in html and 'top-1 error' in html
    others = [o for o in cells[0].outputs if o.get('name') == 'stderr' and 'site-packages/torch/' not in o['text']]
    assert 'nterrupt' not in html and not others  # but warnings that a release of torch gives about itself


@pytest.mark.slow
def test_an_interrupted_run_keeps_its_bar_as_it_was(cells):
    html = bar(cells[1])
    assert '100 %' not in html and GREEN not in html


@pytest.mark.slow
def test_a_run_shows_its_curve(cells):
    data = cells[2].outputs[0].data
    assert '</svg>' in data['image/svg+xml'] and data['text/plain'].startswith('inception_resnet_v1 seed 0 on fractals')


@pytest.mark.skipif(not (ROOT / 'benchmarks').exists(), reason='needs a checkout')
def test_the_test_in_a_browser_is_skipped_without_one(tmp_path):
    env = {**os.environ, 'PATH': str(tmp_path), 'PYTHONPATH': str(ROOT)}
    done = subprocess.run([sys.executable, '-m', 'benchmarks.browser', '--out', str(tmp_path / 'browser.json')],
                          capture_output=True, text=True, env=env)
    assert (done.returncode, done.stdout) == (0, 'skipped: chromium and chromedriver are not installed\n')
    assert not list(tmp_path.iterdir())
