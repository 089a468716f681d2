"""Rewritten networks compute what the originals do: every network, several widths, figures nobody drew.

Not in a notebook: a matrix of networks and rewrites.
"""
import copy
import io
import pickle
import random

import pytest
import torch
from torch import nn

from inception_repro.architecture.build import FeatureNet, build
from inception_repro.architecture.cost import convolutions
from inception_repro.architecture.graph import min_size, seq, shape
from inception_repro.architecture.networks import create_model, networks
from inception_repro.rewrites.fast import FusedUnit, Packed, fast, frozen
from inception_repro.rewrites.fold import difference, fold_bn, fold_scale, pool_after, randomize_batchnorm
from inception_repro.rewrites.merge import Merged, merge_1x1
from inception_repro.rewrites.to_figure import to_figure
from inception_repro.training.flat import lay_flat
from inception_repro.training.optim import RMSPropTF
from test_figures import random_network

from slow_cases import PRINTED, slow, some

EXACT = 1e-5  # largest difference of logits in float32, in units of the largest logit
rewrites = fold_bn, fold_scale, pool_after, merge_1x1


def images(n, side, channels=3): return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(0))


def network(name, width=1/16, px=75, **kwargs):
    "A network that looks trained, and images"
    torch.manual_seed(0)
    return randomize_batchnorm(create_model(name, width=width, **{'num_classes': 10, **kwargs})), images(2, px)


@pytest.mark.parametrize('name', some(*PRINTED, of=networks))
def test_each_rewrite_of_each_network(name):
    net, x = network(name)
    in_double = copy.deepcopy(net).double()
    with torch.no_grad():
        want, exact, before = net(x), in_double(x.double()), {k: v.clone() for k, v in net.state_dict().items()}
        new = net
        for f in rewrites:
            new, in_double = f(new), f(in_double)
            assert difference(new(x), want) < EXACT
        assert difference(in_double(x.double()), exact) < 1e-12
        quick = fast(net)
        for images in x, x[:1], torch.cat([x, x], 3), x.to(memory_format=torch.channels_last):
            assert difference(quick(images), net(images)) < EXACT
        assert torch.equal(net(x), want)
        assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize('width,name', [(1/8, 'inception_v3'), (.25, 'inception_v4'), (.3, 'inception_resnet_v1'),
                                        (.2, 'inception_resnet_v2')])
def test_widths(name, width):
    net, x = network(name, width, 80)
    with torch.no_grad(): assert difference(fast(net)(x), net(x)) < EXACT


@pytest.mark.parametrize('padded', [False, True])
def test_auxiliary_head_and_padded_averages(padded):
    net, x = network('inception_v3', 1/16, 299, aux=True, padded=padded)
    assert any(m.count_include_pad for m in net.modules() if isinstance(m, nn.AvgPool2d)) == padded
    new = merge_1x1(pool_after(net))
    with torch.no_grad():
        for f in (lambda n: n, fold_bn): assert difference(f(new)(x), net(x)) < EXACT
        assert difference(fast(net)(x), net(x)) < EXACT
        net.train(), new.train()
        net.drop.p = new.drop.p = 0.
        for a, b in zip(new(x), net(x)): assert difference(a, b) < EXACT


@pytest.mark.parametrize('seed', range(60))
def test_random_figures(seed):
    rng = random.Random(seed)
    figure = random_network(rng)
    n = max(min_size(figure), rng.randint(9, 20))
    torch.manual_seed(seed)
    x = images(3, n)
    net = randomize_batchnorm(build(figure, (n, n, 3)), seed)
    order = rng.sample(rewrites, 4)
    new = net
    for f in order: new = f(new)
    with torch.no_grad():
        assert difference(new(x), net(x)) < EXACT, [f.__name__ for f in order]
        assert difference(fast(net)(x), net(x)) < EXACT
    drawn = to_figure(new)
    assert shape(drawn, (n, n, 3)) == shape(figure, (n, n, 3))
    assert convolutions(drawn, (n, n, 3)) == sum(isinstance(m, nn.Conv2d) for m in new.modules())


def test_branches_that_random_figures_rarely_have():
    from inception_repro.architecture.graph import concat, conv, maxpool
    x = images(2, 9, 8)
    for figure in (concat(conv(4), conv(3)),
                   concat([conv(4, stride=2)], [conv(4, stride=2)], [conv(2, stride=2), conv(3, 3)]),
                   concat([conv(4), conv(3, stride=2)], [conv(3, stride=2)], [conv(2, stride=2)], [maxpool(1)]),
                   seq(concat([seq(conv(4), conv(3, 3))], conv(2), [maxpool(1, 1)], [conv(5), conv(5)]))):
        net = randomize_batchnorm(build(figure, (9, 9, 8)))
        new = merge_1x1(net)
        assert any(isinstance(m, Merged) for m in new.modules())
        with torch.no_grad(): assert difference(new(x), net(x)) < EXACT
        assert list(new.state_dict()) == list(net.state_dict())


def train(net, xs, ys, steps=3):
    net = lay_flat(net.train())
    net.drop.p = 0.
    opt, losses = RMSPropTF(list(net.parameters()), lr=.045, clip=2.), []
    for x, y in zip(xs[:steps], ys):
        out = net(x)
        out = out if isinstance(out, tuple) else (out,)
        loss = sum(nn.functional.cross_entropy(o, y, label_smoothing=.1) for o in out)
        opt.zero_grad(), loss.backward(), opt.step()
        losses.append(loss.item())
    return losses


# Of 139 px 3x3 cells are left: in a network as deep as Inception-v4, statistics of a single one magnify any rounding
@pytest.mark.parametrize('name,px,rewrite', [
    ('inception_v3', 80, merge_1x1), ('inception_v4', 139, lambda net: merge_1x1(pool_after(net))),
    ('inception_resnet_v1', 75, merge_1x1), ('inception_resnet_v2', 75, merge_1x1)])
def test_three_training_steps(name, px, rewrite):
    torch.manual_seed(0)
    net = create_model(name, width=1/16, num_classes=10)
    new = rewrite(net)
    g = torch.Generator().manual_seed(1)
    xs, ys = torch.randn(3, 4, 3, px, px, generator=g), torch.randint(10, (3, 4), generator=g)
    a, b = copy.deepcopy(net).double(), copy.deepcopy(new).double()
    exact, same = train(a, xs.double(), ys), train(b, xs.double(), ys)
    assert max(abs(p - q) for p, q in zip(exact, same)) < 1e-8
    assert list(a.state_dict()) == list(b.state_dict())
    for v, w in zip(a.state_dict().values(), b.state_dict().values()): assert difference(w, v) < 1e-6
    # in float32 the merged network is no further from the other than that is from double precision, but for a digit
    want = train(net, xs, ys)
    noise = max(abs(p - q) for p, q in zip(want, exact))
    assert max(abs(p - q) for p, q in zip(train(new, xs, ys), want)) < 10 * noise + 1e-6


def test_a_checkpoint_does_not_tell_who_wrote_it():
    net, x = network('inception_v4')
    new, other = merge_1x1(pool_after(net)), create_model('inception_v4', width=1/16, num_classes=10).eval()
    assert list(new.state_dict()) == list(net.state_dict())
    torch.save(new.state_dict(), f := io.BytesIO())
    f.seek(0)
    other.load_state_dict(torch.load(f, weights_only=True))
    with torch.no_grad(): assert torch.equal(other(x), net(x))
    blank = merge_1x1(create_model('inception_v4', width=1/16, num_classes=10).eval())
    blank.load_state_dict(net.state_dict())
    with torch.no_grad(): assert difference(blank(x), net(x)) < EXACT
    wrong = create_model('inception_v4', width=1/8, num_classes=10).state_dict()
    with pytest.raises(RuntimeError, match='first.conv.weight'): blank.load_state_dict(wrong)


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    from inception_repro.architecture.weights import load_weights
    net, x = network('inception_resnet_v2')
    save_file(lay_flat(merge_1x1(net)).state_dict(), tmp_path / 'merged.safetensors')
    new = lambda: create_model('inception_resnet_v2', width=1/16, num_classes=10).eval()
    other, merged = (load_weights(m, tmp_path / 'merged.safetensors') for m in (new(), merge_1x1(new())))
    with torch.no_grad(): assert torch.equal(other(x), net(x)) and difference(merged(x), net(x)) < EXACT


def test_frozen_layers_stay_frozen():
    net, x = network('inception_v4')
    for p in net.trunk.inception_a[0][1].parameters(): p.requires_grad_(False)
    new = merge_1x1(net)
    frozen = lambda m: sum(p.numel() for p in m.parameters() if not p.requires_grad)
    assert frozen(new) == frozen(net) > 0


def test_habits_survive():
    net, x = network('inception_v4')
    for new in merge_1x1(pool_after(net)), fast(net): keeps_habits(new, net, x)


def keeps_habits(new, net, x):
    with torch.no_grad():
        for a, b in zip(FeatureNet(new)(x), FeatureNet(net)(x)): assert difference(a, b) < EXACT
        names = 'stem.4', 'inception_a', 'inception_b.3', 'reduction_b'
        for a, b in zip(new.trunk(x, at=names), net.trunk(x, at=names)): assert difference(a, b) < EXACT
        assert new.feature_info == net.feature_info
        assert torch.equal(pickle.loads(pickle.dumps(new))(x), new(x)) and torch.equal(copy.deepcopy(new)(x), new(x))
        new.reset_classifier(3)
        assert new(x).shape == (2, 3)


def test_recomputing_in_the_backward_pass():
    net, x = network('inception_resnet_v1', 1/32, drop_rate=0)
    new = merge_1x1(net)
    new.set_grad_checkpointing()
    grads = []
    for m in (net, new):
        m.train()(x).logsumexp(1).sum().backward()
        grads.append(m.classifier.weight.grad)
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-5)
    pairs = zip(net.state_dict().values(), new.state_dict().values())
    for v, w in pairs: torch.testing.assert_close(w, v, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('rewrite', [merge_1x1, fast])
def test_export(rewrite):
    net, x = network('inception_resnet_v1')
    program = torch.export.export(rewrite(net), (x,))
    with torch.no_grad(): assert difference(program.module()(x), net(x)) < EXACT


def quick_and_slow(width=1/16):
    net, x = network('inception_resnet_v1', width)
    quick = fast(net)
    assert all(isinstance(m, Packed) for m in quick.modules() if isinstance(m, nn.Conv2d))
    assert any(isinstance(m, FusedUnit) for m in quick.modules())
    return quick, net, x


def test_gradients_pass_through_a_fast_network():
    quick, net, x = quick_and_slow()
    x.requires_grad_()
    a, b = (torch.autograd.grad(m(x)[:, 0].sum(), x)[0] for m in (quick, net))
    assert (a - b).norm() < .01 * b.norm()  # rounding moves some numbers across a ReLU's edge


def test_a_fast_network_elsewhere():
    quick, net, x = quick_and_slow()
    with torch.no_grad(): want = net(x)
    with torch.inference_mode():
        assert difference(quick(x), want) < EXACT
        assert difference(fast(net)(x), want) < EXACT  # made of tensors that count no versions
    with torch.no_grad():
        with torch.autocast('cpu', torch.bfloat16): assert difference(quick(x), want) < .1
        assert difference(quick(x), want) < EXACT
        with torch.backends.mkldnn.flags(enabled=False): assert difference(quick(x), want) < EXACT
        assert difference(fast(quick)(x), want) < EXACT
        assert difference(quick.double()(x), want) < EXACT


def test_new_weights_are_noticed():
    quick, net, x = quick_and_slow()
    torch.manual_seed(1)
    other = randomize_batchnorm(create_model('inception_resnet_v1', width=1/16, num_classes=10), seed=1)
    with torch.no_grad():
        assert difference(quick(x), other(x)) > .01
        quick.load_state_dict(fast(other).state_dict())
        assert difference(quick(x), other(x)) < EXACT


def test_bf16():
    quick, net, x = quick_and_slow(1/8)
    with torch.no_grad():
        y = fast(net, torch.bfloat16)(x)
        assert y.dtype == torch.bfloat16 and difference(y, net(x)) < .1


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', ['inception_v3', *slow('inception_v4', 'inception_resnet_v2')])
def test_frozen(name):
    net, x = network(name)
    program = frozen(net, x)
    with torch.inference_mode():
        for images in x, x[:1], torch.cat([x, x], 3): assert difference(program(images), net(images)) < EXACT
        half = frozen(net, x, torch.bfloat16)(x)
        assert half.dtype == torch.bfloat16 and EXACT < difference(half.float(), net(x)) < .1
