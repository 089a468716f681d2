"Predictions: ensembles, ties, half precision, progress and kills. Not in a notebook: it kills processes."
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from inception_repro.evaluation.predict import predict
from inception_repro.evaluation.predictions import Errors, Predictions, ensemble, errors, load_predictions, ranks
from inception_repro.evaluation.validation import valid_images

from evaluation_fixtures import Reads


def test_processes_with_different_weights_are_refused(tmp_path, monkeypatch):
    from inception_repro.evaluation import predict as module
    class Two:
        gather = staticmethod(lambda mine: [mine, ('other weights', *mine[1:])])
    monkeypatch.setattr(module, 'join', lambda device: Two())
    with pytest.raises(ValueError, match='the processes have different weights or images'):
        module.predict(Reads(), valid_images('fractals', 4, 2, 16), tmp_path, 1, 16, progress=False)
    assert not list(tmp_path.iterdir())


# Ensembles

def made_up(name, n=40, classes=6, seed=0):
    p = np.random.default_rng(seed).dirichlet([.3] * classes, n).astype(np.float16).astype(np.float32)
    return Predictions(name, p, tuple(map(str, range(n))), np.arange(n) % classes, tuple('abcdef'[:classes]), 'x')


def test_ensembles_by_hand():
    three = [made_up(o, seed=i) for i, o in enumerate('abc')]
    assert (ensemble(three[:1]).p == three[0].p).all()
    assert (ensemble(three[:2]).p == (three[0].p.astype(float) + three[1].p) / 2).all()
    one = ensemble(three, [1, 2, 3])
    for order in (2, 1, 0), (1, 0, 2):
        again = ensemble([three[i] for i in order], [(1, 2, 3)[i] for i in order])
        assert (again.p == one.p).all() and errors(again) == errors(one)
        assert (ensemble([three[i] for i in order]).p == ensemble(three).p).all()


@pytest.mark.parametrize('change, words', [
    (dict(images=tuple('x' * i for i in range(40))), 'different images: 40, such as 0, and 40, such as '),
    (dict(stamp='y'), 'different images'), (dict(labels=np.zeros(40, int)), 'different images'),
    (dict(classes=tuple('ABCDEF')), 'different classes: 6, such as a, and 6, such as A')])
def test_predictions_of_different_sets_make_no_ensemble(change, words):
    with pytest.raises(ValueError, match=words): ensemble([made_up('a'), replace(made_up('b'), **change)])


def test_a_network_that_says_nothing_is_not_right():
    same = replace(made_up('a'), p=np.full((40, 6), 1 / 6, np.float32))
    assert errors(same) == Errors(40, 40, 40)


def test_half_precision_changes_no_error(tmp_path):
    "Probabilities down to 1e-9, where a half would be zero, keep their order on disk"
    class Sharp(nn.Module):
        def forward(self, x): return -20 * x.new_tensor([0., .2, .4, .5, .6, .7, 1.]).expand(len(x), 7)
    images = valid_images('fractals', 7, 2, 16)
    pred = predict(Sharp(), images, tmp_path / 'p', 1, 16, progress=False)
    assert pred.p[0, -1] < 3e-9 and ranks(pred).tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]


@pytest.mark.parametrize('terminal', [True, False])
def test_progress_of_what_is_left(terminal, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: terminal)
    images, folder = valid_images('fractals', 7, 2, 16), tmp_path / 'p'
    run = lambda: (predict(Reads(), images, folder, 1, 16, bs=4, name='reads'), capsys.readouterr().err)[1]
    bar = '14/14, ' if terminal else '14 of 14 images'
    for left in 14, 6, 0:  # of 14, the first time, after a kill, and when all is done
        if left < 14: os.truncate(folder / 'probabilities.f16', (14 - left) * 2 * 7)
        said = run()
        assert (bar in said and 'images/s' in said and '\n' in said[-9:]) == (left > 0), said


# Kills

CHILD = '''
import sys, time, torch
from pathlib import Path
from torch import nn
from inception_repro.evaluation.predict import predict
from inception_repro.evaluation.validation import valid_images
class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 4))
    def forward(self, x): time.sleep(PAUSE); return self.net(x)
def run(folder):
    return predict(Slow(), valid_images('fractals', 4, 30, 32), folder, 12, 32, bs=36, progress=False, workers=1)
'''


@pytest.mark.slow
def test_killed_at_random_nothing_is_counted_twice(tmp_path):
    scope = {}
    exec(CHILD.replace('PAUSE', '0'), scope)
    whole = scope['run'](tmp_path / 'whole')
    draw, rows = random.Random(0), tmp_path / 'killed/probabilities.f16'
    for aim in sorted(draw.randrange(8, 8 * 100) for _ in range(2)):  # bytes after which to kill
        p = subprocess.Popen([sys.executable, '-W', 'ignore', '-c',
                              CHILD.replace('PAUSE', '.01') + 'run(Path(sys.argv[1]))', tmp_path / 'killed'])
        end = time.monotonic() + 60
        while p.poll() is None and time.monotonic() < end and (not rows.exists() or rows.stat().st_size < aim):
            time.sleep(.001)
        assert p.poll() is None, 'it ended before it was killed'
        p.send_signal(signal.SIGKILL)
        p.wait()
        assert aim <= rows.stat().st_size < 8 * 120
        with open(rows, 'ab') as f: f.write(bytes(draw.randrange(30)))  # a torn row, as a crash may leave one
        with pytest.raises(ValueError, match='of 120 images; run the same evaluation again'):
            load_predictions(tmp_path / 'killed')
    again = scope['run'](tmp_path / 'killed')
    assert rows.read_bytes() == (tmp_path / 'whole/probabilities.f16').read_bytes() and (again.p == whole.p).all()
    assert errors(again) == errors(whole)
