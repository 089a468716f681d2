"""The precision of a run: chosen by device, recorded, kept; and the loss scaling of float16.

Not in a notebook: it needs other devices, and gradients that overflow.
"""
import json
import warnings

import pytest
import torch

from inception_repro.results.plan import plan
from inception_repro.support.dry_run import fake_gpu
from inception_repro.training import learner as learners
from inception_repro.training.fit import fit
from inception_repro.training.learner import TrainingCallback, learner, precision_on
from inception_repro.training.recipe import PRESETS, Recipe, preset, replace
from inception_repro.training.records import compare, read_run
from training_fixtures import TINY, Raise, stop

pytestmark = pytest.mark.usefixtures('one_thread')
BARE = replace(TINY, scale=0., epochs=1, bs=16) # four steps of stem and reductions
AUTO = replace(BARE, precision='auto')


@pytest.mark.parametrize('capability, best', [
    ((8, 0), 'bf16'), ((12, 0), 'bf16'), ((7, 5), 'fp16'), ((6, 1), 'float32')])
def test_the_device_decides_unless_the_recipe_does(capability, best):
    with fake_gpu(capability=capability):
        assert precision_on(AUTO, 'cuda') == best and precision_on(AUTO, 'cpu') == 'float32'
        assert [precision_on(replace(AUTO, precision=p), 'cuda') for p in ('float32', 'bf16', 'fp16')] == [
            'float32', 'bf16', 'fp16']
        row, = plan(AUTO, models=['inception_resnet_v1'], steps=1)
    assert row['precision'] == best


def test_presets():
    "Records of the small presets can be compared on every device"
    assert {p: preset(p).precision for p in PRESETS} == dict(
        paper='auto', tiny='auto', tiny40='float32', demo='float32', fractals20='float32', fractals50='float32')
    assert Recipe().precision == 'auto'


class Keep(TrainingCallback):
    "Gradients, after clipping, and the norms that `activity` has seen"
    order = 90
    def before_step(self): self.learn.grads = [p.grad.clone() for p in self.model.parameters()]


@pytest.mark.parametrize('changes', [dict(), dict(replicas=4), dict(optimizer='adamw', clip=.1)], ids=str)
def test_gradients_are_those_of_float32(data, monkeypatch, changes):
    "Up to the rounding of 16 bits, whatever they were multiplied by"
    grads = {}
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, 'GradScaler', lambda device: scaler(device, init_scale=2.**10)) # nothing overflows
    for p in 'float32', 'fp16':
        learn = learner(replace(BARE, precision=p, dropout=0., bs=64, **changes), data)
        learn.add_cb(Keep()).fit(1)
        grads[p] = torch.cat([g.flatten() for g in learn.grads])
        assert p == 'float32' or learn.loss_scale.scaler.get_scale() == 2**10
    assert torch.cosine_similarity(grads['fp16'], grads['float32'], 0) > .99
    assert float(grads['fp16'].norm()) == pytest.approx(float(grads['float32'].norm()), rel=.05)


@pytest.fixture
def overflows(monkeypatch):
    "The first scale is so large that gradients overflow; the number of steps without overflow is small"
    class Scaler(torch.amp.GradScaler):
        def __init__(self, device):
            super().__init__(device, init_scale=2.**60, backoff_factor=2.**-20, growth_interval=2)
    monkeypatch.setattr(learners.torch.amp, 'GradScaler', Scaler)


def test_a_step_that_overflows_is_skipped(data, overflows):
    "Its images count, its gradients do not; the next step has a smaller scale"
    learn, seen = learner(replace(BARE, precision='fp16'), data), []
    class Watch(TrainingCallback):
        order = 90
        def after_step(self):
            w = torch.cat([p.detach().flatten() for p in self.model.parameters()])
            seen.append((self.loss_scale.skipped, self.loss_scale.scaler.get_scale(), w, self.count.step))
    before = torch.cat([p.detach().flatten() for p in learn.model.parameters()]).clone()
    learn.add_cb(Watch()).fit(1)
    skipped, scales, weights, steps = zip(*seen)
    assert skipped[0] and not skipped[-1] and steps == (1, 2, 3, 4)
    assert scales[0] == 2.**40 and sorted(scales[:2], reverse=True) == [*scales[:2]]
    for i, (was, now) in enumerate(zip([before, *weights], weights)): assert torch.equal(was, now) == skipped[i]
    assert learn.average.net.n_averaged == 4 and learn.count.total.isfinite()


@pytest.mark.parametrize('changes', [dict(), dict(replicas=2, optimizer='adamw', lr=.002)], ids=str)
def test_resumes_with_its_scale(tmp_path, quiet, overflows, changes):
    recipe = replace(BARE, precision='fp16', **changes)
    whole = fit(recipe, tmp_path/'whole', **quiet)
    for step in 1, 3: stop(recipe, tmp_path/'cut', quiet, step)
    assert compare(whole, fit(recipe, tmp_path/'cut', **quiet)) == ''


def test_activity_is_not_scaled(tmp_path, quiet):
    "Nor is it recorded where a gradient overflows"
    found = {}
    for p in 'float32', 'fp16':
        run = fit(replace(TINY, precision=p, epochs=1, bs=64), tmp_path/p, **quiet, activity_every=1)
        found[p] = json.loads(run.path.with_suffix('.activity.json').read_text())['samples'][0]['grad']
    pairs = [(a, b) for a, b in zip(found['fp16'], found['float32']) if a is not None]
    assert len(pairs) > len(found['fp16']) / 2
    for a, b in pairs: assert a == pytest.approx(b, rel=.2)


def test_a_record_has_the_precision_that_was_used(tmp_path, quiet):
    "So it is the same run as with this precision in the recipe; on a CPU that is float32"
    run = fit(AUTO, tmp_path, **quiet)
    assert run.meta['recipe']['precision'] == 'float32'
    assert compare(run, fit(replace(BARE, precision='float32'), tmp_path/'b', **quiet)) == ''
    assert compare(run, fit(AUTO, tmp_path, **quiet)) == '' # finished
    with pytest.raises(ValueError, match="another recipe: precision: 'float32' -> 'bf16'"):
        fit(replace(BARE, precision='bf16'), tmp_path, **quiet)


def test_another_device_does_not_change_it(tmp_path, data):
    "Begun on a GPU with float16, resumed on one with bfloat16; then another network of the same folder, on a CPU"
    place = dict(data=data, progress=False)
    with fake_gpu(capability=(7, 5)), pytest.raises(KeyboardInterrupt):
        fit(AUTO, tmp_path, **place, device='cuda', cbs=[Raise(2, 'after_batch')], save_every=0)
    words = 'in fp16, so inception_resnet_v1.* is computed in it too; for bf16, which this device would choose'
    with fake_gpu(), pytest.warns(UserWarning, match=words):
        assert fit(AUTO, tmp_path, **place, device='cuda').meta['recipe']['precision'] == 'fp16'
    with pytest.warns(UserWarning, match='runs in fp16, so inception_resnet_v1.no_blocks-1'):
        run = fit(replace(AUTO, seed=1), tmp_path, **place, device='cpu')
    assert run.meta['recipe']['precision'] == 'fp16'
    with warnings.catch_warnings():
        warnings.simplefilter('error') # a folder of its own, and a precision that the recipe fixes
        own = fit(replace(AUTO, seed=2), tmp_path/'b', **place, device='cpu')
        assert own.meta['recipe']['precision'] == 'float32'
        fit(replace(BARE, precision='bf16', seed=3), tmp_path, **place, device='cpu')


def test_an_older_record_without_precision(tmp_path, quiet):
    "Such a record is in float32"
    stop(BARE, tmp_path, quiet, 2)
    path, = tmp_path.rglob('*.json')
    meta = json.loads(path.read_text())
    del meta['recipe']['precision'], meta['seal']
    path.write_text(json.dumps(meta))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert fit(AUTO, tmp_path, **quiet).meta['finished']
    assert read_run(path.with_suffix('.csv'))['step'][-1] == 4
