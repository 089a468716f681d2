"One run on several processes, connected by gloo. Not in a notebook: it starts processes."
import os
import signal
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import Conv2d

from inception_repro.training.fit import OutOfTime, fit
from inception_repro.training.learner import TrainingCallback
from inception_repro.training.recipe import replace, run_name
from inception_repro.training.records import read_run

from evaluation_fixtures import Reads
from process_fixtures import on_processes
from training_fixtures import ENV, Once, TINY, table

pytestmark = pytest.mark.usefixtures('one_thread')
TWO = replace(TINY, replicas=2)
FOUR = replace(TINY, replicas=4, epochs=1) # later, rounding is amplified


class Double(TrainingCallback):
    "Everything in float64"
    order = -30 # before the parameters are used
    def before_fit(self):
        old = torch.Tensor.float
        torch.Tensor.float = lambda t: t if t.dtype == torch.float64 else old(t) # the process ends with the test
        for o in self.learn.model, self.average.net:
            first = next(m for m in o.double().modules() if isinstance(m, Conv2d))
            first.register_forward_pre_hook(lambda m, xs: (xs[0].double(),))


class Kill(TrainingCallback):
    "One process dies at a step"
    order = 100
    def __init__(self, step, rank): self.at, self.rank = step, rank
    def after_backward(self):
        if self.count.step == self.at and os.environ.get('RANK') == str(self.rank): os.kill(os.getpid(), signal.SIGKILL)


class StopOne(TrainingCallback):
    "The time of one process is over"
    def __init__(self, step, rank): self.at, self.rank = step, rank
    def after_batch(self):
        if self.count.step == self.at and os.environ.get('RANK') == str(self.rank): self.time_limit.until = 0.


class Mutate(TrainingCallback):
    "A device computes wrongly: a weight of one process or of its running average changes"
    order = 45 # after the step, before the evaluation
    def __init__(self, step, rank, average): self.at, self.rank, self.average_too = step, rank, average
    def after_batch(self):
        if self.count.step != self.at or os.environ.get('RANK') != str(self.rank): return
        *_, bias = (self.average.net if self.average_too else self.learn.model).parameters()
        bias.data[1] += 1e-3


def run(todo, out):
    "Runs one after another; for each the number of warnings, or the error"
    found = []
    for recipe, name, kwargs in todo:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter('always')
            try:
                fit(recipe, out/name, device='cpu', env=ENV, progress=False, **kwargs)
                found.append([str(w.message).split(': ')[-1] for w in told if 'resumed' in str(w.message)])
            except Exception as e: found.append(f'{type(e).__name__} {str(e).split(": ")[-1]}')
    return found


def record(out, recipe=TWO): return read_run(out/recipe.dataset/f'{run_name(recipe)}-{recipe.seed}.csv')


@pytest.fixture(scope='module')
def two(tmp_path_factory, quiet):
    "The run of one process"
    return fit(TWO, tmp_path_factory.mktemp('two'), **quiet)


def test_tables_do_not_depend_on_the_number_of_processes(tmp_path, two, quiet):
    other = replace(TWO, scale=0., optimizer='adamw', lr=.002, clip=.5, precision='bf16')
    found = on_processes(2, run, [(TWO, 'two', {}), (other, 'other', {}), (TINY, 'many', {})], tmp_path)
    assert found[0] == found[1] == [[], [], 'UserError 2 processes share the replicas of a step, and the recipe has 1; '
                                            'use replicas=2 or a multiple of it, or fewer processes']
    assert record(tmp_path/'two').meta['finished'] and record(tmp_path/'two').meta['environment']['processes'] == 2
    assert 'processes' not in two.meta['environment']
    assert table(record(tmp_path/'two')) == table(two)
    one = fit(other, tmp_path/'one', **quiet)
    assert table(record(tmp_path/'other', other)) == table(one) and not list(tmp_path.rglob('checkpoints'))


@pytest.mark.slow
def test_resumed_with_another_number_of_processes(tmp_path, two, quiet):
    "A lone process stops all after the same step; the checkpoint serves any number of processes"
    stopped = 'OutOfTime the time limit is reached; the same command resumes at step {}'
    todo = [(TWO, '', dict(cbs=StopOne(2, 1))), (TWO, '', dict(cbs=StopOne(5, 0)))]
    assert on_processes(2, run, todo, tmp_path) == 2 * [[stopped.format(3), stopped.format(6)]]
    with pytest.warns(match='was started with 2 processes and is resumed with 1: last digits may differ'):
        with pytest.raises(OutOfTime): fit(TWO, tmp_path, **quiet, cbs=Once())
    assert on_processes(2, run, [(TWO, '', {})], tmp_path) == [[[]], [[]]]
    assert table(record(tmp_path)) == table(two)
    parts = [o['environment'].get('processes', 1) for o in record(tmp_path).meta['time']['resumed']]
    assert parts == [2, 1, 2]


@pytest.mark.slow
def test_a_process_that_dies_ends_the_others(tmp_path, two):
    found = on_processes(2, run, [(TWO, '', dict(cbs=Kill(4, 1), save_every=0))], tmp_path)
    assert found[1] is None and found[0][0].startswith('RuntimeError')
    assert on_processes(2, run, [(TWO, '', {})], tmp_path) == [[[]], [[]]]
    assert table(record(tmp_path)) == table(two)


@pytest.mark.slow
def test_weights_that_differ_stop_the_run(tmp_path, two):
    "At the next evaluation, on all processes and before anything is written; the same command resumes"
    words = 'RuntimeError at step {} process 1 has other weights than process 0; the same command resumes at the last '
    for step, average in (3, False), (6, True):
        for text in on_processes(2, run, [(TWO, '', dict(cbs=Mutate(step, 1, average)))], tmp_path):
            assert text[0].startswith(words.format(2 * -(-step // 2)))
        assert record(tmp_path)['step'].tolist() == list(range(2, step, 2))
    assert on_processes(2, run, [(TWO, '', {})], tmp_path) == [[[]], [[]]]
    assert table(record(tmp_path)) == table(two)


@pytest.mark.slow
def test_four_replicas_in_float64(tmp_path):
    for n in 1, 2, 4: assert on_processes(n, run, [(FOUR, str(n), dict(cbs=Double()))], tmp_path) == n * [[[]]]
    one, *others = (record(tmp_path/n, FOUR) for n in '124')
    for o in others:
        for k in 'train_loss', 'loss', 'raw_loss': assert o[k] == pytest.approx(one[k], abs=1e-6)
        assert o.meta['finished'] and list(o['top1']) == list(one['top1'])


def evaluate(images, out):
    "Predict with 144 crops; the names of the bad images are warnings of the first process"
    from inception_repro.evaluation.predict import predict
    from inception_repro.evaluation.validation import valid_images
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        predict(Reads(5), valid_images(images), out, 144, 24, progress=False, workers=1)
    return [str(w.message) for w in told if 'bad' in str(w.message)]


def test_predictions_are_the_same_files(tmp_path):
    "Of 25 images, two of which cannot be read; one process is stopped, and two others go on"
    rng = np.random.default_rng(0)
    for c in range(5):
        (tmp_path/f'val/{c}').mkdir(parents=True)
        for i in range(5):
            x = rng.integers(0, 256, (30 + i, 40, 3), dtype=np.uint8)
            Image.fromarray(x).save(tmp_path/f'val/{c}/{i}.png')
    for name in '0/3', '4/4': (tmp_path/f'val/{name}.png').write_bytes(b'no image')
    out = {n: on_processes(n, evaluate, tmp_path, tmp_path/str(n)) for n in (1, 2, 3)}
    assert [len(o) for o in out[3]] == [1, 0, 0] and out[1][0] == out[3][0] and '2 of 25 images' in out[1][0][0]
    files = lambda n: {p.name: p.read_bytes() for p in (tmp_path/str(n)).iterdir()}
    assert files(1) == files(2) == files(3) and {'probabilities.f16', 'unreadable.json'} <= files(1).keys()
    rows = tmp_path/'1/probabilities.f16'
    rows.write_bytes(rows.read_bytes()[:7 * 5 * 2])
    on_processes(2, evaluate, tmp_path, tmp_path/'1')
    assert files(1) == files(2)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason='needs two GPUs')
def test_two_gpus(tmp_path):
    "Connected by NCCL: the run is that of one GPU, up to the order of sums on a GPU"
    for n in 1, 2: assert on_processes(n, run_on_gpus, tmp_path/str(n)) == n * [True]
    one, two = record(tmp_path/'1'), record(tmp_path/'2')
    assert two.meta['environment']['processes'] == 2
    assert two['train_loss'][0] == pytest.approx(one['train_loss'][0], rel=1e-3)


def run_on_gpus(out):
    return fit(TWO, out, device='cuda', env=ENV, progress=False).meta['finished']
