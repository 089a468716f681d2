"""What timm and torchvision ask a network: tracing, feature maps, groups of parameters, preprocessing"""
import pytest
import torch

from inception_repro.architecture.networks import create_model, list_models
from inception_repro.architecture.public import pretrained_cfg, public_weights

timm = pytest.importorskip('timm')
TINY = dict(num_classes=5, width=1/16)


@pytest.fixture(scope='module')
def x(): return torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope='module', params=['inception_v4', 'inception_resnet_v2.released'])
def net(request):
    torch.manual_seed(0)
    return create_model(request.param, **TINY).eval()


@torch.no_grad()
def test_features_of_torchvision(net, x):
    extraction = pytest.importorskip('torchvision.models.feature_extraction')
    found = extraction.create_feature_extractor(net, {'trunk.reduction_a': 'a', 'trunk.reduction_b': 'b'})(x)
    a, b = net.trunk(x, at=('reduction_a', 'reduction_b'))
    assert torch.equal(found['a'], a) and torch.equal(found['b'], b)


def test_tracing_in_training():
    net = create_model('inception_v3', aux=True, **TINY)
    names = [n.name for n in torch.fx.symbolic_trace(net).graph.nodes]
    assert 'aux_classifier' in names and 'check_images' in names


@torch.no_grad()
def test_intermediates_as_timm(net, x):
    "The same keywords, number of maps and order as timm's network"
    theirs = timm.create_model('inception_v4').eval()
    for kwargs in ({}, dict(indices=2), dict(indices=(3, 2)), dict(indices=(2,), stop_early=True)):
        (out, maps), (peer, peers) = (n.forward_intermediates(x, **kwargs) for n in (net, theirs))
        assert [m.shape[2:] for m in maps if m.shape[2] < 20] == [m.shape[2:] for m in peers if m.shape[2] < 20]
        assert len(maps) == len(peers) and out.shape[2:] == peer.shape[2:]


@pytest.mark.parametrize('name', list_models())
def test_layer_decay(name):
    from timm.optim import param_groups_layer_decay
    net = create_model(name, **TINY)
    scales = [g['lr_scale'] for g in param_groups_layer_decay(net, layer_decay=.5)]
    blocks = sum(len(s) if type(s).__name__ == 'Group' else 1 for s in net.trunk)
    assert len({*scales}) == blocks + 1  # the classifier
    assert min(scales) == .5 ** blocks and max(scales) == 1


@pytest.mark.parametrize('indices', [None, (1, 3), 2])
def test_feature_info_as_timm(indices):
    kwargs = dict(features_only=True) | (dict(out_indices=indices) if indices else {})
    ours, theirs = (f(n, **kwargs).feature_info for f, n in (
        (create_model, 'inception_v4.released'), (timm.create_model, 'inception_v4')))
    if indices == 2: theirs = timm.create_model('inception_v4', features_only=True, out_indices=(2,)).feature_info
    assert len(ours) == len(theirs) == 5 and ours.reduction() == theirs.reduction()
    for idx in (0, 4, [0, 2]):
        assert ours.channels(idx) == theirs.channels(idx) and ours.reduction(idx) == theirs.reduction(idx)
    keys = ['num_chs', 'reduction']
    assert ours.get_dicts(keys, [2, 4]) == theirs.get_dicts(keys, [2, 4])
    assert {*ours.get_dicts()[0]} == {*theirs.get_dicts()[0]}


@pytest.mark.parametrize('name', public_weights)
def test_preprocessing_as_timm(name):
    theirs = timm.get_pretrained_cfg(public_weights[name].removeprefix('timm/')).to_dict()
    ours = pretrained_cfg(name)
    same = 'hf_hub_id', 'input_size', 'pool_size', 'num_classes', 'crop_pct', 'interpolation', 'mean', 'std'
    assert {k: ours[k] for k in same} == {k: theirs[k] for k in same}


def test_a_repository_in_pretrained(tmp_path, monkeypatch):
    import huggingface_hub
    from safetensors.torch import save_file
    torch.manual_seed(0)
    net = create_model('inception_v4', **TINY)
    save_file(net.state_dict(), tmp_path / 'model.safetensors')
    asked = []
    monkeypatch.setattr(huggingface_hub, 'hf_hub_download',
                        lambda repo, file, **kw: asked.append(repo) or str(tmp_path / file))
    other = create_model('inception_v4', **TINY, pretrained='some-one/small')
    assert asked == ['some-one/small'] and torch.equal(other.classifier.weight, net.classifier.weight)
