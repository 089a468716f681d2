"""Hooks on layers, wherever a network trains: every network, memory formats, autocast, checkpointed gradients.

Not in a notebook: a matrix of networks and ways to train.
"""
import pytest
import torch

from inception_repro.architecture.networks import create_model, list_models
from inception_repro.architecture.scaling import trunk_growth
from inception_repro.training.activity import MEASURES, activity

small = dict(num_classes=5, width=1/16)


def step(net, x, **kwargs):
    torch.manual_seed(0)
    with activity(net, every=1, **kwargs) as a: net.train()(x).square().mean().backward()
    return a.rows


@pytest.fixture
def x(): return torch.randn(2, 3, 80, 88, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('name', list_models())
def test_every_block_is_watched(name, x):
    torch.manual_seed(0)
    net = create_model(name, **small)
    rows = step(net, x)
    residual = [r for r in rows if r['ratio'] is not None]
    assert len(residual) == sum(type(m).__name__ == 'ResidualUnit' for m in net.modules())
    assert all(r['grad'] > 0 and 0 <= r['dead'] <= r['zeros'] < 1 for r in rows)
    last = net.train().forward_features(x).detach()
    assert abs(rows[-1]['mean'] - last.mean().item()) < 1e-3 * last.abs().mean()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize('way', ['checkpointing', 'channels_last', 'bf16'])
def test_however_it_trains(way, x):
    torch.manual_seed(0)
    net = create_model('inception_resnet_v2', drop_rate=0., **small)
    plain = step(net, x)
    if way == 'checkpointing': net.set_grad_checkpointing()
    if way == 'channels_last':
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    with torch.autocast('cpu', torch.bfloat16, enabled=way == 'bf16'): rows = step(net, x)
    assert [r['layer'] for r in rows] == [r['layer'] for r in plain]
    near = dict(rel=.1, abs=.05) if way == 'bf16' else dict(rel=.01, abs=1e-3)
    for r, p in zip(rows, plain):
        for k in MEASURES:
            if r[k] is None or p[k] is None: assert r[k] is p[k] is None
            elif way != 'bf16' or k != 'grad': assert r[k] == pytest.approx(p[k], **near), (r, k)


def test_evaluation_is_not_watched(x):
    net = create_model('inception_v4', **small)
    with activity(net, every=2) as a:
        for _ in range(5):
            with torch.no_grad(): net.eval()(x), net.train()(x)
    assert sorted({r['step'] for r in a.rows}) == [0, 2, 4] and all(r['grad'] is None for r in a.rows)


def test_compiled_networks_are_refused():
    net = create_model('inception_v4', **small)
    net.compile()
    with pytest.raises(ValueError, match='watch it without compile'): activity(net)


@pytest.mark.parametrize('scale', [.05, .17, .5, 2., -1.])
def test_growth_is_that_of_simulated_walks(scale):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(400_000, generator=g).relu()
    mean, var = trunk_growth(8, scale, x[:20_000].numpy())
    for _ in range(8): x = (x + scale * torch.randn(len(x), generator=g)).relu()
    assert mean[-1] == pytest.approx(x.mean().item(), rel=.02) and var[-1] == pytest.approx(x.var().item(), rel=.03)
