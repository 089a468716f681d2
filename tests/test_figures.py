"""The interpreters of a figure agree with each other: on the paper's networks, and on figures nobody drew.

Not in a notebook: two hundred random figures do not read well.
"""
import random
import subprocess
import sys

import pytest
import torch

from inception_repro.architecture.build import build
from inception_repro.architecture.cost import activations, convolutions, macs, params
from inception_repro.architecture.graph import (
    Conv, Network, Pool, avgpool, concat, conv, leaves, maxpool, min_size, residual, seq, shape, stages)
from inception_repro.architecture.variants import with_projection_norm, without_addition
from inception_repro.architecture.networks import create_model, inception_resnet_v1, networks

table = {  # parameters, GMACs, convolutions at 299×299 with 1000 classes
    'inception_v3': (23_834_568, 5.71, 94),
    'inception_v4': (42_679_816, 12.25, 149),
    'inception_resnet_v1': (22_756_328, 6.21, 127),
    'inception_resnet_v2': (32_433_928, 9.26, 132),
    'inception_resnet_v2.b10_20_10': (55_284_488, 14.14, 242),
    'inception_v4.released': (42_679_816, 12.25, 149),
    'inception_resnet_v2.released': (55_843_464, 13.16, 244)}


def measured(net, size):
    "Parameters, multiply-adds, activations and convolutions of a built module, counted while it runs"
    counts = dict(macs=0, activations=0, convolutions=0)

    def hook(m, args, out):
        counts['activations'] += out[0].numel()
        if isinstance(m, torch.nn.Conv2d):
            counts['convolutions'] += 1
            counts['macs'] += m.weight.numel() * out.shape[2] * out.shape[3]
        else: counts['macs'] += m.weight.numel()

    for m in net.modules():
        if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear)): m.register_forward_hook(hook)
    with torch.no_grad(): out = net.eval()(torch.zeros(1, size[2], *size[:2]))
    return out, dict(params=sum(p.numel() for p in net.parameters()), **counts)


@pytest.mark.parametrize('name', table)
def test_table(name):
    net = networks[name]
    n, gmacs, convs = table[name]
    assert (params(net), round(macs(net) / 1e9, 2), convolutions(net)) == (n, gmacs, convs)
    _, found = measured(build(net), (299, 299, 3))
    assert found == dict(params=n, macs=macs(net), activations=activations(net), convolutions=convs)


@pytest.mark.parametrize('name', networks)
def test_stage_sizes_of_built_networks(name):
    net = create_model(name, width=1/8).eval()
    sizes, x = stages(net.network.trunk), torch.zeros(1, 3, 299, 299)
    for key, stage in net.trunk.named_children():
        with torch.no_grad(): x = stage(x)
        assert (*x.shape[2:], x.shape[1]) == sizes[key][1]


@pytest.mark.parametrize('name', networks)
def test_smallest_image(name):
    net = create_model(name, width=1/8, num_classes=3).eval()
    n = net.min_size
    assert net(torch.zeros(1, 3, n, n)).shape == (1, 3)
    with pytest.raises(ValueError, match=f'input is {n - 1}x{n} pixels; .* needs at least {n}x{n}'):
        net(torch.zeros(1, 3, n - 1, n))


def random_figure(rng, depth=2):
    "A figure of the five nodes that keeps its grid"
    kinds = ['conv', 'conv', 'pool'] + ['seq', 'concat', 'residual'] * (depth > 0)
    kernel = lambda: rng.choice([1, 3, 5, (1, 7), (7, 1), (3, 1)])
    match rng.choice(kinds):
        case 'conv': return conv(rng.randint(1, 9), kernel())
        case 'pool': return rng.choice([avgpool(), avgpool(padded=True), maxpool(3, 1, False)])
        case 'seq': return seq(*(random_figure(rng, depth - 1) for _ in range(rng.randint(1, 3))))
        case 'concat': return concat(*([random_figure(rng, depth - 1)] for _ in range(rng.randint(2, 4))))
        case 'residual':
            block = residual(*([random_figure(rng, depth - 1)] for _ in range(rng.randint(1, 3))),
                             scale=rng.choice([0, .1, 1]), act=rng.random() < .5, ks=rng.choice([1, 3]))
            return rng.choice([lambda n: n, lambda n: n, without_addition, with_projection_norm])(block)


def random_network(rng):
    "Some figures between convolutions and reductions that change the grid"
    steps = [lambda: conv(rng.randint(1, 8), 3, stride=rng.choice([1, 2]), valid=rng.random() < .5), maxpool,
             lambda: concat([maxpool()], [conv(rng.randint(1, 8), 3, stride=2, valid=True)])]
    return seq(*(o for _ in range(rng.randint(1, 3)) for o in (random_figure(rng), rng.choice(steps)())))


@pytest.mark.parametrize('seed', range(200))
def test_random_figures(seed):
    rng = random.Random(seed)
    figure = random_network(rng)
    n = max(min_size(figure), rng.randint(9, 24))
    size = (n, n + rng.randint(0, 5), 3)
    convs = any(isinstance(leaf, Conv) for leaf, *_ in leaves(figure, size))
    out, found = measured(build(figure, size), size)
    assert (*out.shape[2:], out.shape[1]) == shape(figure, size)
    assert found['params'] == params(figure, size)
    assert found == dict(params=params(figure, size), macs=macs(figure, size), activations=activations(figure, size),
                         convolutions=convolutions(figure, size))
    assert convs == (found['convolutions'] > 0)


def test_auxiliary_head_is_counted():
    net = create_model('inception_v3', aux=True)
    assert sum(p.numel() for p in net.parameters()) == params(net.network) > params(networks['inception_v3'])
    assert convolutions(net.network) == convolutions(networks['inception_v3']) + 2


def test_figures_are_values():
    assert inception_resnet_v1 == networks['inception_resnet_v1'] and hash(inception_resnet_v1)
    assert isinstance(inception_resnet_v1, Network) and Pool('max') == Pool('max')
    with pytest.raises(AttributeError): inception_resnet_v1.name = 'other'


WITHOUT_TORCH = """architecture.graph architecture.draw architecture.cost architecture.stems architecture.blocks
architecture.reductions architecture.networks architecture.scaling training.records training.recipe training.activity
results.curves results.plotting results.speedup results.summary results.trials results.stability_plots
results.stability cli""".split()


def test_counts_and_drawings_need_no_torch():
    code = ('import sys; from importlib import import_module\n'
            f'for name in {WITHOUT_TORCH}:\n'
            '    import_module("inception_repro." + name)\n'
            '    if "torch" in sys.modules: sys.exit(f"{name} imports torch")')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_import_is_light():
    code = ('import sys, inception_repro as i; i.__version__; '
            'sys.exit("torch" in sys.modules or "matplotlib" in sys.modules)')
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
