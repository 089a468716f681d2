"""Everything that would run on a GPU, with tensors that have no values; and mistakes that must be found.

Not in a notebook: it goes through the whole package. nbs/library/55_dry_run.ipynb lists what a dry run cannot find.
"""
import inspect
import textwrap
from dataclasses import replace

import pytest
import torch

from inception_repro._testing import noise_tiny_imagenet
from inception_repro.architecture.build import build
from inception_repro.architecture.graph import Seq
from inception_repro.architecture.networks import network
from inception_repro.benchmarking import bench
from inception_repro.data import augment, batches
from inception_repro.data.load import load
from inception_repro.evaluation.predict import predict
from inception_repro.evaluation.validation import valid_images
from inception_repro.results import train_many
from inception_repro.results.plan import plan
from inception_repro.rewrites.fast import fast
from inception_repro.support import dry_run
from inception_repro.support.dry_run import WaitsForGPU, fake_gpu
from inception_repro.training import learner as learners
from inception_repro.training.fit import find_device, fit
from inception_repro.training.learner import evaluate, learner, profile_step
from inception_repro.training.recipe import network_of, run_name
from inception_repro.training.records import read_run, run_path
from slow_cases import slow
from training_fixtures import TINY, Raise

pytestmark = pytest.mark.usefixtures('one_thread')
TINY = replace(TINY, bs=32, epochs=1, evals=1) # two steps
BARE = replace(TINY, scale=0.) # stem and reductions alone
MUTATED = replace(BARE, optimizer='adamw', lr=.002)


def train(recipe, data, **kwargs):
    "A learner that has trained an epoch on a GPU that is not there; nothing has waited for it"
    with fake_gpu() as gpu:
        learn = learner(recipe, data, 'cuda', bare=True, **kwargs) # as `fit` does
        learn.dls.train.one_batch() # copies constants to the GPU, once
        try:
            with gpu.no_waiting(): learn.fit(1)
        finally: learn.cast.leave()
    assert learn.count.step == len(learn.dls.train) == learn.average.net.n_averaged > 0
    return learn


def short(name):
    "The network with one block of each kind: the same operations, less often"
    net, one = network(name), lambda n: replace(n, nodes=n.nodes[:1]) if isinstance(n, Seq) and n.repeats else n
    return replace(net, trunk=replace(net.trunk, nodes=tuple(map(one, net.trunk.nodes))))


def devices(*nets): return {str(t.device) for net in nets for t in (*net.parameters(), *net.buffers()) if t.ndim}


@pytest.mark.parametrize('changes', [
    dict(model='inception_v4', optimizer='adamw', lr=.002, wd=.05, hue=.2, merge=True),
    dict(model='inception_resnet_v1', channels_last=False, clip=None, compile=True, precision='fp16', replicas=3),
    *slow(dict(model='inception_v3', px=299, aux=.4, precision='bf16', replicas=2),
          dict(model='inception_resnet_v2', precision='bf16', merge=True),
          dict(model='inception_v3', merge=True),
          dict(model='inception_v4', replicas=2, precision='fp16'),
          dict(model='inception_resnet_v1', merge=True, precision='bf16'),
          dict(model='inception_resnet_v2', replicas=2, optimizer='adamw', clip=None))], ids=str)
def test_a_step_never_waits(data, monkeypatch, changes):
    "Each network with and without merging, and with and without replicas; every part of the learner in one of them"
    # in float16 one number is read in each step: whether a gradient has overflowed
    monkeypatch.setattr(torch.amp.GradScaler, '_maybe_opt_step', lambda self, opt, *args, **kwargs: opt.step())
    learn = train(replace(TINY, bs=66, **changes | dict(model=short(changes['model']))), data)
    assert devices(learn.model, learn.average.net.module) == {'cuda:0'} == {str(learn.count.total.device)}


def test_images_from_files(tmp_path):
    folder = noise_tiny_imagenet(tmp_path/'noise', classes=32)
    recipe = replace(BARE, dataset='noise', classes=32, per_class=None, valid_per_class=None)
    data = load(folder, 64, max_bytes=0, progress=False)
    assert not torch.is_tensor(data.train.x)
    train(recipe, data, workers=1)


def mutate(monkeypatch, owner, name, old, new):
    "Replace a piece of a function's text"
    text, places = textwrap.dedent(inspect.getsource(getattr(owner, name))), {}
    assert text.count(old) == 1
    exec(text.replace(old, new), vars(inspect.getmodule(owner)), places)
    monkeypatch.setattr(owner, name, places[name])


DEVICES = 'different devices|same device'  # as torch says it: 2.11, 2.14
MISTAKES = {
    'a number is read': (
        learners.Count, 'after_step', 'self.loss.detach()', 'self.loss.item()', 'a value is read'),
    'an index is on the CPU': (
        augment, 'crop_box', 'torch.arange(len(u), device=u.device)', 'torch.arange(len(u))',
        'the index is on the CPU'),
    'the labels are indexed on the CPU': (
        learners.RecipeLoss, '__call__', 'cross_entropy(o, y,', 'cross_entropy(o, y[torch.arange(len(y))],',
        'the index is on the CPU'),
    'all work is waited for': (
        learners.Average, 'after_step', 'if not', 'torch.cuda.synchronize()\n    if not', 'is waited for'),
    'a condition on a value': (
        learners.Clip, 'before_step', 'clip_norm(', 'self.norm < 0 or self.learn.loss < 9 and clip_norm(',
        'a value is read'),
    'memory is not pinned': (batches, '_send', 't.pin_memory()', 't', 'not pinned'),
    'a tensor is on the CPU': (
        augment, 'distort', 'torch.eye(3, device=x.device)', 'torch.eye(3)', DEVICES)}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_a_mistake_is_found(data, monkeypatch, mistake):
    "The same step as above, with one mistake in it"
    owner, name, old, new, words = MISTAKES[mistake]
    mutate(monkeypatch, owner, name, old, new)
    with pytest.raises(RuntimeError, match=words) as e: train(MUTATED, data)
    assert isinstance(e.value, WaitsForGPU) == (words != DEVICES)


def test_the_step_without_a_mistake(data): train(MUTATED, data)


def test_an_evaluation_waits_once(data, monkeypatch):
    "For its result, at the end"
    waits, why = [], dry_run._wait
    monkeypatch.setattr(dry_run, '_wait', lambda *op: waits.append(why(*op)))
    with fake_gpu() as gpu:
        learn = learner(replace(BARE, precision='bf16'), data, 'cuda', bare=True)
        with gpu.no_waiting():
            found = evaluate([learn.average.net.module, learn.model], learn.dls.valid.seek(0), learn.cast)
    assert len(found) == 2 and [o for o in waits if o] == ['values are copied to the CPU']


def test_fastai_s_own_loop(data):
    "Its validation and its search for a learning rate, which saves and restores the network"
    with fake_gpu():
        learn = learner(BARE, data, 'cuda')
        with learn.no_bar(), learn.no_logging():
            learn.lr_find(num_it=2, show_plot=False, suggest_funcs=None)
            learn.fit(1)
        assert learn.get_preds()[0].shape == (len(data.valid), 3)
    assert devices(learn.model) == {'cuda:0'}


def test_a_run_in_pieces(tmp_path, data):
    "Rows, checkpoints, an interruption, the resumed run, weights; in the record is the GPU"
    recipe, place = replace(BARE, precision='bf16', epochs=2), dict(data=data, device='cuda', progress=False)
    weights = tmp_path/'w.safetensors'
    with fake_gpu():
        with pytest.raises(KeyboardInterrupt, match='resumes at step 3'):
            fit(recipe, tmp_path, save_every=0, cbs=[Raise(3, 'after_batch')], activity_every=2, **place)
        run = fit(recipe, tmp_path, save_weights=weights, **place)
    assert run['step'].tolist() == [2, 4] and run.meta['finished'] and weights.exists()
    assert [p['step'] for p in run.meta['time']['resumed']] == [3]
    assert run.meta['environment']['device'] == 'no GPU, dry run' and 'cuda' in run.meta['environment']


@pytest.mark.slow
def test_a_run_in_a_process_of_its_own(tmp_path, monkeypatch):
    import dry_worker
    monkeypatch.setattr(train_many, 'start_worker', dry_worker.start_worker) # its GPU has no values either
    train_many._train_in_parallel([BARE], 1, dict(out=str(tmp_path), data=None, device='cuda'), None)
    run = read_run(run_path(tmp_path, BARE.dataset, run_name(BARE), BARE.seed))
    assert run.meta['finished'] and run.meta['environment']['device'] == 'no GPU, dry run'


def test_devices():
    with fake_gpu(2):
        assert [str(find_device(d)) for d in (None, 'cuda:1', 'cpu')] == ['cuda', 'cuda:1', 'cpu']
        with pytest.raises(ValueError, match="device is 'cuda:2', but torch finds 2"): find_device('cuda:2')
    with pytest.raises(ValueError, match='finds no GPU'): find_device('cuda')


@pytest.mark.parametrize('precision', ['float32', 'bf16', 'fp16'])
def test_predictions_of_144_crops(tmp_path, precision):
    images = valid_images(classes=3, per_class=1)
    with fake_gpu():
        net = build(network_of(BARE, 3))
        pred = predict(net, images, tmp_path, 144, BARE.px, device='cuda', precision=precision, progress=False)
    assert pred.p.shape == (3, 3) and devices(net) == {'cuda:0'}


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_fast(dtype):
    with fake_gpu():
        net = fast(build(network_of(BARE, 3)).to('cuda'), dtype)
        x = torch.randn(2, 3, 75, 75, device='cuda')
        with torch.inference_mode(): y = net(x.to(dtype))
    assert y.dtype == dtype and devices(net) == {'cuda:0'}


@pytest.mark.slow
@pytest.mark.parametrize('train', [False, True])
def test_benchmarks(monkeypatch, train):
    "Every contender takes its first two steps, and the product of matrices too"
    net = network_of(BARE, 1000)
    first = replace(net, trunk=replace(net.trunk, nodes=net.trunk.nodes[:3])) # stem and first reduction
    monkeypatch.setattr(bench, 'configure', lambda *args, **kwargs: first)
    monkeypatch.setattr(bench, '_rounds', lambda steps, *_: {n: [1.] for n in steps})
    with fake_gpu(): rows = bench.bench('inception_resnet_v1', train, px=75, bs=2, device='cuda', bf16=True)
    assert [r['name'] for r in rows if 'bf16' in r['name']] == ['ours bf16' if train else 'fast bf16']
    assert not [r for r in rows if 'skipped' in r], rows


def test_the_plan_and_the_profiler(data):
    with fake_gpu():
        parts = profile_step(BARE, data, 'cuda', steps=1, skip=1)
        assert parts.keys() == {'data', 'forward', 'backward', 'optimizer', 'average'}
        row, = plan('demo', models=['inception_resnet_v1'], steps=1, scale=0., width=1/16, compile=True)
    assert row['batch'] == 32 and row['compiled'] and row['hours'] > 0
