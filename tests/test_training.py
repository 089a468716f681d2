"""Training: bad arguments, losses that are not finite, the log, the auxiliary head, bfloat16 and GPUs.

Not in a notebook: these are mistakes and details, not a story.
"""
import re
import sys
import time
import warnings
from types import SimpleNamespace

import pytest
import torch

from inception_repro.training import callbacks, fit as train
from inception_repro.training.checkpoint import Checkpoints
from inception_repro.training.fit import fit
from inception_repro.training.learner import TrainingCallback, learner
from inception_repro.training.recipe import evaluation_steps, replace
from inception_repro.training.records import compare

from slow_cases import slow
from training_fixtures import folder, Raise, STEPS, TINY

pytestmark = pytest.mark.usefixtures('one_thread')


def test_weights_of_a_finished_run(whole, tmp_path, quiet):
    with pytest.warns(UserWarning, match='its weights were not kept'):
        fit(TINY, whole.path.parents[1], **quiet, save_weights=tmp_path/'w.safetensors')


def test_a_folder_that_is_not_there(whole, tmp_path, quiet):
    "A finished run does not hide a path that is spelt wrong"
    with pytest.raises(ValueError,
                       match=re.escape(f"no folder {tmp_path/'nowhere'}; give one that has train/ and val/")):
        fit(TINY, whole.path.parents[1], **quiet | dict(data=tmp_path/'nowhere'))
    with pytest.raises(ValueError, match="unknown dataset 'imagenete'; did you mean 'imagenette'"):
        fit(TINY, whole.path.parents[1], **quiet | dict(data='imagenete'))


def test_live_bar(tmp_path, quiet, monkeypatch):
    "In a terminal, without a warning"
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        fit(replace(TINY, epochs=1), tmp_path, **{**quiet, 'progress': True})


@pytest.mark.parametrize('lr', [1e30, *slow(1e4)])
def test_not_finite(tmp_path, quiet, lr):
    wild = replace(TINY, lr=lr, clip=None)
    for _ in range(2): # again: the same end
        with pytest.raises(FloatingPointError, match=r'(nan|inf) at step \d, epoch [\d.]+, learning rate .*fresh'):
            fit(wild, tmp_path, **quiet)
    assert compare(fit(TINY, tmp_path, **quiet, fresh=True), fit(TINY, tmp_path/'b', **quiet)) == ''


def test_a_wild_loss_is_not_saved(tmp_path, quiet):
    "Here the limit would save it"
    class Wild(TrainingCallback):
        order = 54 # after `RecordKeeper`, before `TimeLimit`
        def after_batch(self):
            if self.count.step != 3: return
            self.count.total.fill_(float('nan'))
            self.time_limit.until = 0.
    with pytest.raises(FloatingPointError, match='the loss is nan at step 3'):
        fit(TINY, tmp_path, **quiet, until=time.time() + 1e6, cbs=Wild())
    assert [int(p.stem) for p in Checkpoints(folder(tmp_path)).files()] == [2]


def test_a_gpu_does_not_know_the_step():
    keep = callbacks.RecordKeeper(TINY, SimpleNamespace(path='r.csv'), None, 4)
    total = SimpleNamespace(device=SimpleNamespace(type='cuda'))
    keep.learn = SimpleNamespace(count=SimpleNamespace(step=50, at=12.5, total=total),
                                 opt=SimpleNamespace(hypers=[dict(lr=.1)]))
    with pytest.raises(FloatingPointError, match='the loss is nan by step 50, epoch 12.5, learning rate 0.1'):
        keep.check(float('nan'))


@pytest.mark.parametrize('device', ['gpu', 'cuda:x', 'cuda:', 'xla', 'CPU', 'meta'])
def test_unknown_device(tmp_path, device):
    with pytest.raises(ValueError, match=f"^unknown device '{device}'; one of cpu, cuda, cuda:N, mps$"):
        fit(TINY, tmp_path, device=device)
    assert not list(tmp_path.iterdir())


def test_devices_that_are_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    assert [str(train.find_device(d)) for d in (None, 'cpu', torch.device('cpu'), 'cuda:1')] == [
        'cuda', 'cpu', 'cpu', 'cuda:1']
    with pytest.raises(ValueError, match="device is 'cuda:2', but torch finds 2, cuda:0 to cuda:1"):
        train.find_device('cuda:2')


def test_apples_gpu(monkeypatch):
    "Asked for by name; without one the error is that of every other missing GPU"
    with pytest.raises(ValueError, match="device is 'mps', but torch .* finds no GPU"): train.find_device('mps')
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: True)
    assert [str(train.find_device(d)) for d in ('mps', None)] == ['mps', 'cpu']


def test_bf16_step(data):
    recipe = replace(TINY, precision='bf16')
    learn, seen = learner(recipe, data, bare=True), []
    learn.model.trunk.register_forward_hook(lambda m, i, o: seen.append(o.dtype))
    learn.add_cb(Raise(1, 'after_batch'))
    with pytest.raises(KeyboardInterrupt): learn.fit(1)
    assert seen == [torch.bfloat16] and learn.pred.dtype == learn.loss.dtype == torch.float32
    assert {p.dtype for p in learn.model.parameters()} == {torch.float32}


def test_auxiliary_head(data):
    "At 299 pixels Inception-v3 learns from both heads, with a weight of 0.4 on the second"
    recipe = replace(TINY, model='inception_v3', px=299, aux=.4, bs=2)
    learn = learner(recipe, data, bare=True)
    xb, yb = learn.dls.one_batch()
    learn.model.train()
    main, aux = learn.model(xb)
    ce = lambda o: torch.nn.functional.cross_entropy(o, yb, label_smoothing=.1)
    torch.testing.assert_close(learn.loss_func((main, aux), yb), ce(main) + .4 * ce(aux))
    learn.add_cb(Raise(1, 'after_batch'))
    with pytest.raises(KeyboardInterrupt): learn.fit(1)
    assert learn.model.aux.classifier.weight.grad is None and learn.average.net.n_averaged == 1


def test_lines_for_a_log(tmp_path, quiet, capsys):
    fit(TINY, tmp_path, **{**quiet, 'progress': True})
    lines = capsys.readouterr().err.splitlines()
    name = 'inception_resnet_v1 seed 0'
    assert [o.split(', top-1')[0] for o in lines] == [f'{name}, epoch {e} of 2' for e in (1, 1, 2, 2)]


def test_no_warnings(tmp_path, quiet):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        fit(replace(TINY, epochs=1), tmp_path, **quiet)


needs_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')


@needs_a_gpu
def test_a_gpu_is_never_waited_for(data):
    "Nothing in a step waits, from the batch's images to the running average"
    class Strict(TrainingCallback):
        order = -200
        def after_batch(self): torch.cuda.set_sync_debug_mode('error')  # from the second step on
        def after_train(self): torch.cuda.set_sync_debug_mode('default')
    learn = learner(replace(TINY, precision='bf16', epochs=1), data, 'cuda', bare=True)
    try: learn.add_cb(Strict()).fit(1)
    finally: torch.cuda.set_sync_debug_mode('default')
    assert learn.count.step == STEPS // 2


@needs_a_gpu
@pytest.mark.parametrize('compile', [False, True])
def test_a_gpu_run_in_pieces(tmp_path, data, compile):
    recipe, place = replace(TINY, precision='bf16', compile=compile), dict(data=data, device='cuda', progress=False)
    with pytest.raises(KeyboardInterrupt): fit(recipe, tmp_path, cbs=[Raise(STEPS // 2 + 1, 'after_batch')], **place)
    run = fit(recipe, tmp_path, **place)
    assert run.meta['finished'] and run['step'].tolist() == evaluation_steps(recipe, STEPS // 2)
    assert run.meta['environment']['cuda'] and run.meta['environment']['peak_memory'] > 0
    assert [p['step'] for p in run.meta['time']['resumed']] == [STEPS // 2]
