"""A built network keeps its word wherever users take it: memory formats, autocast, compilation, export,
timm's and fastai's habits.

Not in a notebook: a matrix of networks and destinations.
"""
import copy
import io
import pickle
import warnings
from dataclasses import replace

import pytest
import torch

from inception_repro.architecture.build import FeatureNet, Net, build
from inception_repro.architecture.graph import Network, Seq
from inception_repro.architecture.networks import (
    Architecture, configure, create_model, inception_v4, list_models, networks)

from slow_cases import PRINTED, slow, some

small = dict(num_classes=5, width=1/16)


@pytest.fixture
def x(): return torch.randn(2, 3, 80, 88, generator=torch.Generator().manual_seed(0))


def close(a, b, eps=1e-4): return ((a.float() - b.float()).norm() / b.float().norm()).item() < eps


@pytest.mark.parametrize('name', some(*PRINTED, of=list_models()))
def test_destinations(name, x):
    net = create_model(name, **small).eval()
    with torch.no_grad():
        y = net(x)
        assert close(copy.deepcopy(net).to(memory_format=torch.channels_last)(
            x.to(memory_format=torch.channels_last)), y)
        assert torch.equal(copy.deepcopy(net)(x), y) and torch.equal(pickle.loads(pickle.dumps(net))(x), y)
        with torch.autocast('cpu', dtype=torch.bfloat16): assert close(net(x), y, .1)


@pytest.mark.parametrize('name', ['inception_v4', *slow('inception_resnet_v2.released')])
def test_torch_export(name, x):
    net = create_model(name, **small).eval()
    program = torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim('n', min=1, max=64)},))
    more = torch.randn(5, 3, 80, 88)
    with torch.no_grad(): assert close(program.module()(more), net(more))


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
def test_onnx_export(x, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    net = create_model('inception_resnet_v1', **small).eval()
    torch.onnx.export(net, (x,), tmp_path / 'net.onnx', dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / 'net.onnx')
    y, = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad(): assert close(torch.from_numpy(y), net(x))


def one_of_each():
    "Inception-ResNet-v1 with one block of every kind: compiling all of them takes a minute and says no more"
    value = configure('inception_resnet_v1', **small, drop_rate=0)
    one = lambda n: replace(n, nodes=n.nodes[:1]) if isinstance(n, Seq) and n.repeats else n
    return replace(value, trunk=Seq(tuple(map(one, value.trunk.nodes))))


@pytest.mark.slow
def test_compile(x):
    "Every kind of block is captured whole; code is made for the stem and a block, which takes long enough"
    net = build(one_of_each()).eval()
    assert len(net.trunk.inception_resnet_a) == len(net.trunk.inception_resnet_b) == 1
    with torch.no_grad():
        assert close(torch.compile(net, backend='aot_eager', fullgraph=True)(x), net(x))
        part = net.trunk[:2]
        assert close(torch.compile(part)(x), part(x))


@pytest.mark.parametrize('name', list_models())
def test_gradients_reach_every_parameter(name):
    net = create_model(name, **small, aux=False).train()
    net(torch.randn(4, 3, 75, 75)).logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_seeded():
    def first(seed):
        torch.manual_seed(seed)
        return create_model('inception_v4', **small).trunk.stem[0].conv.weight
    assert torch.equal(first(3), first(3)) and not torch.equal(first(3), first(4))


@pytest.mark.parametrize('name', list_models())
def test_timm_habits(name, x):
    net = create_model(name, **small).eval()
    assert net.pretrained_cfg['mean'] == (.5, .5, .5) and net.pretrained_cfg['input_size'] == (3, 299, 299)
    with torch.no_grad():
        f = net.forward_features(x)
        assert f.shape[1] == net.num_features == net.head_hidden_size
        assert net.forward_head(f, pre_logits=True).shape == (2, net.num_features)
        assert close(net.forward_head(f), net(x))
        net.reset_classifier(7)
        assert net(x).shape == (2, 7) and net.get_classifier().out_features == net.num_classes == 7
        assert create_model(name, **{**small, 'num_classes': 0}).eval()(x).shape == (2, net.num_features)
        maps = create_model(name, **small, features_only=True).eval()
        outs = maps(x)
        assert [o.shape[1] for o in outs] == maps.feature_info.channels()
        assert maps.feature_info.reduction() == [2, 4, 8, 16, 32]


def test_feature_maps_match_timms():
    """Same strides, same widths where timm has the network; the place of stride 4 is ours:
    the last output before the next stride
    """
    timm = pytest.importorskip('timm')
    for ours, theirs in [('inception_v4.released', 'inception_v4'),
                         ('inception_resnet_v2.released', 'inception_resnet_v2')]:
        a = create_model(ours, features_only=True).feature_info
        b = timm.create_model(theirs, features_only=True).feature_info
        assert a.reduction() == b.reduction()
        assert [c for i, c in enumerate(a.channels()) if i != 1] == [c for i, c in enumerate(b.channels()) if i != 1]


@pytest.mark.slow
def test_checkpointing_under_compile():
    "Traced rather than run twice: same gradients, statistics counted once"
    def grads(checkpointing):
        torch.manual_seed(0)
        net = build(one_of_each()).train()
        net.set_grad_checkpointing(checkpointing)
        torch.compile(net, backend='aot_eager')(torch.ones(2, 3, 80, 80).cumsum(3) / 80).sum().backward()
        return [p.grad for p in net.parameters()], [b for n, b in net.named_buffers() if n.endswith('tracked')]
    (a, n), (b, m) = grads(False), grads(True)
    assert all(torch.allclose(p, q, atol=1e-4, rtol=1e-3) for p, q in zip(a, b))
    assert {o.item() for o in n + m} == {1}


def test_calling_a_value_builds_that_value():
    from inception_repro.architecture.cost import params
    for value in (configure('inception_v4', num_classes=7, width=1/8),
                  configure('inception_v3', width=1/8, aux=True, in_chans=1)):
        net = value()
        assert sum(p.numel() for p in net.parameters()) == params(value) and net.network == value
        assert torch.equal(create_model(value, num_classes=2, in_chans=1).classifier.bias, torch.zeros(2))


def test_a_released_last_block_stays_unscaled():
    last = lambda scale: create_model('inception_resnet_v2.released', **small, scale=scale).trunk.inception_resnet_c_2
    assert [last(None).scale, last((.17, .10, .20)).scale, last(.3).scale] == [1, 1, 1]
    assert isinstance(last(0), torch.nn.Identity) # removed with the others


def test_arguments():
    net = create_model('inception_resnet_v2', num_classes=3, in_chans=4, width=1/8, scale=(.3, .2, .1), drop_rate=.5)
    assert (net.num_classes, net.in_chans, net.drop.p) == (3, 4, .5)
    t = net.trunk
    scales = [{b.scale for b in g} for g in (t.inception_resnet_a, t.inception_resnet_b, t.inception_resnet_c)]
    assert scales == [{.3}, {.2}, {.1}]
    assert isinstance(configure('inception_v4'), Architecture) and isinstance(inception_v4, Network)
    assert (isinstance(inception_v4(width=1/8), Net)
            and isinstance(create_model('inception_v3', **small, features_only=True), FeatureNet))


@pytest.mark.parametrize('kwargs, message', [
    (dict(name='inceptionv4'), "did you mean 'inception_v4'"),
    (dict(name=None), "None is no network"),
    (dict(name='inception_v4', width='wide'), "width is 'wide'"),
    (dict(name='inception_v4', width=float('nan')), 'width is nan'),
    (dict(name='inception_v4', width=0), 'width is 0'),
    (dict(name='inception_v4', in_chans=-3), 'in_chans is -3'),
    (dict(name='inception_v4', num_classes=2.5), 'num_classes is 2.5'),
    (dict(name='inception_v4', drop_rate=-.1), 'drop_rate is -0.1'),
    (dict(name='inception_resnet_v1', scale='big'), "scale is 'big'"),
    (dict(name='inception_resnet_v1', scale=True), 'scale is True'),
    (dict(name='inception_resnet_v1', scale={.1, .2, .3}), 'one finite number, or three'),
    (dict(name='inception_v4', num_classes=True), 'num_classes is True'),
    (dict(name='inception_resnet_v1', scale=(.1, .2, float('inf'))), 'one finite number, or three'),
    (dict(name='inception_resnet_v1', scale=[.1] * 4), 'one finite number, or three'),
    (dict(name='inception_v3', features_only=True, out_indices=(9,), width=1/8), 'out_indices is (9,)')])
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError) as e: create_model(**kwargs)
    assert message in str(e.value) and '\n' not in str(e.value)


@pytest.mark.parametrize('bad', [torch.zeros(1, 1, 80, 80), torch.zeros(3, 80, 80), torch.zeros(1, 3, 20, 80)])
@pytest.mark.parametrize('features_only', [False, True])
def test_bad_images(bad, features_only):
    with pytest.raises(ValueError, match='reads|needs at least'):
        create_model('inception_v3', **small, features_only=features_only).eval()(bad)


def test_numbers_of_other_libraries():
    import numpy as np
    net = configure('inception_resnet_v1', num_classes=np.int64(5), width=np.float32(.5), scale=np.array(.1))
    assert net == configure('inception_resnet_v1', num_classes=5, width=.5, scale=.1)
    assert configure('inception_resnet_v1', scale=torch.tensor([.1, .2, .3])) != net


def image_folder(path, n=4):
    from PIL import Image
    for split in 'train', 'valid':
        for c in 'ab':
            (path / split / c).mkdir(parents=True)
            for i in range(n): Image.new('RGB', (90, 90), (i * 20, 50, 90)).save(path / split / c / f'{i}.png')
    return path


@pytest.mark.slow
@pytest.mark.parametrize('first', ['fastai', 'ours'])
def test_fastai_knows_us_in_either_order_of_imports(first):
    import subprocess, sys
    fastai, ours = 'from fastai.vision.all import *', 'from inception_repro.architecture.networks import inception_v4'
    lines = [fastai, ours] if first == 'fastai' else [ours, fastai]
    code = '; '.join(lines + ["assert set(model_meta[inception_v4]) == {'cut', 'split', 'stats'}"])
    assert subprocess.run([sys.executable, '-W', 'ignore', '-c', code]).returncode == 0


@pytest.mark.parametrize('name', ['inception_v4', 'inception_resnet_v1'])
def test_vision_learner(name, tmp_path):
    from fastai.vision.all import ImageDataLoaders, Normalize, accuracy, vision_learner
    warnings.simplefilter('ignore')
    dls = ImageDataLoaders.from_folder(image_folder(tmp_path), bs=4, num_workers=0)
    learn = vision_learner(dls, networks[name], pretrained=False, metrics=accuracy)
    assert len(learn.opt_func(learn.splitter(learn.model), lr=1e-3).param_lists) == 3
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3)
    assert len(learn.recorder.values) == 1
    preds, _ = learn.get_preds()
    assert preds.shape == (8, 2)
    assert not dls.after_batch.fs.filter(lambda o: isinstance(o, Normalize))  # statistics belong to pretrained weights


def test_vision_learner_takes_variants(tmp_path):
    from fastai.vision.all import ImageDataLoaders, vision_learner
    dls = ImageDataLoaders.from_folder(image_folder(tmp_path), bs=4, num_workers=0)
    learn = vision_learner(dls, configure('inception_resnet_v1', width=1/8), pretrained=False)
    learn.create_opt()
    assert len(learn.opt.param_lists) == 3 and sum(p.numel() for p in learn.model[0].parameters()) < 500_000


def test_vision_learner_normalises_pretrained(tmp_path, monkeypatch):
    from fastai.vision.all import ImageDataLoaders, Normalize, vision_learner
    import inception_repro.architecture.weights as weights
    monkeypatch.setattr(weights, 'load_pretrained', lambda net, *args: net)
    dls = ImageDataLoaders.from_folder(image_folder(tmp_path), bs=4, num_workers=0)
    learn = vision_learner(dls, networks['inception_v4.released'])
    norm, = dls.after_batch.fs.filter(lambda o: isinstance(o, Normalize))
    assert norm.mean.flatten().tolist() == [.5] * 3
    assert learn.opt is None or learn.opt.frozen_idx == 2


def test_unet_learner_takes_the_body(tmp_path):
    from fastai.vision.learner import create_unet_model
    model = create_unet_model(inception_v4, 3, (96, 96), pretrained=False)
    with torch.no_grad(): assert model.eval()(torch.zeros(1, 3, 96, 96)).shape == (1, 3, 96, 96)


def test_every_network_is_small_enough_to_save(tmp_path):
    buf = io.BytesIO()
    net = create_model('inception_v3', **small)
    torch.save(net.state_dict(), buf)
    buf.seek(0)
    again = create_model('inception_v3', **small)
    again.load_state_dict(torch.load(buf, weights_only=True))
    assert torch.equal(again.classifier.weight, net.classifier.weight)


def test_build_takes_networks_and_figures():
    assert isinstance(build(configure('inception_v4', **small)), Net)
