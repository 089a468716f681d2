"""Networks with the addition added, removed or normalised do everywhere what other networks do.

Not in a notebook: files, processes and compilers do not read well.
"""
import json

import pytest
import torch

from inception_repro.architecture.blocks import inception_a, resnet_a_r1
from inception_repro.architecture.build import build
from inception_repro.architecture.cost import macs, params
from inception_repro.architecture.draw import draw
from inception_repro.architecture.graph import seq
from inception_repro.architecture.networks import configure, create_model
from inception_repro.architecture.variants import widen, with_projection_norm, with_shortcuts, without_addition
from inception_repro.architecture.weights import load_weights
from inception_repro.rewrites.fast import fast
from inception_repro.rewrites.fold import difference, randomize_batchnorm
from inception_repro.rewrites.merge import merge_1x1
from inception_repro.rewrites.to_figure import to_figure
from inception_repro.training.fit import fit
from inception_repro.training.learner import TrainingCallback, load_data
from inception_repro.training.recipe import arm, network_of, preset, replace, run_name
from inception_repro.training.records import compare

from slow_cases import some

ARMS = [('inception_v4', dict(shortcut=.2)), ('inception_v4', dict(shortcut=0)), ('inception_v3', dict(shortcut=1)),
        ('inception_resnet_v2', dict(addition=False)), ('inception_resnet_v2', dict(projection_norm=True)),
        ('inception_resnet_v1', dict(scale=0))]
arms = pytest.mark.parametrize('name, kwargs', ARMS, ids=str)
few = pytest.mark.parametrize('name, kwargs', some(ARMS[0], ARMS[3], ARMS[5], of=ARMS), ids=str)
small = dict(num_classes=5, width=1/8)
TINY = preset('demo', width=1/16, classes=3, per_class=22, valid_per_class=5, bs=16, epochs=1, evals=2)
ENV = dict(commit=None, device='cpu', python='3', torch='2', fastai='2', inception_repro='0')


class Stop(TrainingCallback):
    "Ctrl-C in the third step"
    order = 100
    def after_backward(self):
        if self.count.step == 2: raise KeyboardInterrupt


@few
def test_rewrites_and_files(name, kwargs, tmp_path):
    net, x = randomize_batchnorm(create_model(name, **small, **kwargs)), torch.randn(2, 3, 75, 75)
    # of a removed block a box is left
    if kwargs.get('shortcut', kwargs.get('scale')) != 0: assert to_figure(net) == net.network
    with torch.no_grad():
        for other in merge_1x1(net), fast(net): assert difference(other(x), net(x)) < 1e-4
        torch.save(net.state_dict(), tmp_path/'net.pt')
        again = load_weights(create_model(name, **small, **kwargs), tmp_path/'net.pt').eval()
        assert torch.equal(again(x), net(x))
        program = torch.export.export(net, (x,)).module()
        assert difference(program(x), net(x)) < 1e-5
    assert sum(p.numel() for p in net.parameters()) == params(net.network) <= params(configure(name, **small)) * 1.01
    draw(net.network, to=tmp_path/'net.svg')
    maps = create_model(name, **small, **kwargs, features_only=True)(x)
    assert [m.shape[1] for m in maps] == [m.shape[1] for m in create_model(name, **small, features_only=True)(x)]


@pytest.mark.parametrize('figure, size', [
    (with_shortcuts(seq([inception_a] * 2), .2, (9, 9, 384)), (9, 9, 384)),
    (without_addition(resnet_a_r1), (9, 9, 256)), (with_projection_norm(resnet_a_r1), (9, 9, 256))], ids=str)
def test_compile(figure, size):
    net, x = build(widen(figure, 1/8), (9, 9, size[2] // 8)).eval(), torch.randn(2, size[2] // 8, 9, 9).relu()
    with torch.no_grad(): assert difference(torch.compile(net, backend='aot_eager')(x), net(x)) < 1e-4


@pytest.mark.parametrize('name, kwargs', [('inception_v4', dict(shortcut=.2)),
                                          ('inception_resnet_v2', dict(addition=False))])
def test_compile_a_whole_network(name, kwargs):
    net, x = create_model(name, **small, **kwargs).eval(), torch.randn(1, 3, 75, 75)
    with torch.no_grad(): assert difference(torch.compile(net, backend='aot_eager')(x), net(x)) < 1e-4


@arms
def test_gradients_reach_every_parameter(name, kwargs):
    net = create_model(name, **small, **kwargs)
    net(torch.randn(2, 3, 75, 75)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@few
def test_training_resumes(name, kwargs, tmp_path):
    recipe = replace(TINY, model=name, **kwargs)
    quiet = dict(data=load_data(TINY), device='cpu', env=ENV, progress=False)
    whole = fit(recipe, tmp_path/'whole', **quiet, activity_every=2)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path/'cut', **quiet, cbs=Stop(), save_every=0, activity_every=2)
    again = fit(recipe, tmp_path/'cut', **quiet, save_weights=tmp_path/'w.safetensors', activity_every=2)
    assert compare(whole, again) == ''
    assert whole.path.name == f'{run_name(recipe)}-0.csv' and whole.meta['model'] == f'{name}+{arm(recipe)}'
    blocks = [json.loads(r.path.with_suffix('.activity.json').read_text()) for r in (whole, again)]
    assert blocks[0] == blocks[1] and [o['step'] for o in blocks[0]['samples']] == [0, 2]
    added = [v is not None for v in blocks[0]['samples'][0]['ratio']]
    assert any(added) == (kwargs.get('shortcut', kwargs.get('scale', 0 if 'addition' in kwargs else 1)) != 0)
    assert all(g > 0 for o in blocks[0]['samples'] for g in o['grad'])
    load_weights(create_model(name, num_classes=3, width=1/16, **kwargs), tmp_path/'w.safetensors')
    merged = fit(replace(recipe, merge=True), tmp_path/'merged', **quiet)
    assert abs(merged['train_loss'][0] - whole['train_loss'][0]) < .1 # rounding grows with every step


def test_arms_have_names():
    names = {run_name(replace(TINY, model=m, **k)) for m, k in ARMS}
    assert names == {'inception_v4+shortcut0.2', 'inception_v4+no_blocks', 'inception_v3+shortcut1',
                     'inception_resnet_v2+no_addition', 'inception_resnet_v2+projection_norm',
                     'inception_resnet_v1+no_blocks'}
    assert run_name(replace(TINY, scale=(.1, .2, .3))) == 'inception_resnet_v2+scale0.1_0.2_0.3'
    assert run_name(TINY) == 'inception_resnet_v2' and arm(dict(model='inception_v3')) == ''


def test_a_shortcut_costs_nothing():
    for name in 'inception_v3', 'inception_v4':
        plain, short = (configure(name, width=.25, num_classes=40),
                        configure(name, width=.25, num_classes=40, shortcut=.2))
        assert (params(plain), macs(plain)) == (params(short), macs(short))
    none = network_of(replace(TINY, model='inception_v4', shortcut=0), 10)
    assert params(none) < params(network_of(replace(TINY, model='inception_v4'), 10)) / 2
