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


# The registry, other libraries, and timm's key names

@pytest.fixture
def registered():
    from inception_repro import register_timm
    return register_timm()


def test_registered_names_are_our_own(registered):
    assert {*registered} <= {*timm.list_models()} and all(n.startswith('repro_') for n in registered)
    assert timm.create_model('inception_v4', num_classes=2).__class__.__module__.startswith('timm')
    assert {*timm.list_models('repro_*', pretrained=True)} == {
        'repro_' + n.replace('.', '_') for n in list_models(pretrained=True)}


@torch.no_grad()
def test_an_encoder_of_segmentation_models(registered):
    smp = pytest.importorskip('segmentation_models_pytorch')
    net = smp.Unet('tu-repro_inception_resnet_v1', encoder_weights=None, classes=3, decoder_channels=(16, 8, 8, 4, 4))
    assert net.eval()(torch.randn(1, 3, 96, 96)).shape == (1, 3, 96, 96)


def test_timm_reads_a_saved_network(registered, x, tmp_path):
    torch.manual_seed(0)
    net = create_model('inception_v4', num_classes=3, width=1/16).eval()
    net.save_pretrained(tmp_path)
    other = timm.create_model(f'local-dir:{tmp_path}', pretrained=True).eval()
    assert torch.equal(other(x), net(x)) and other.pretrained_cfg['num_classes'] == 3
    fresh = timm.create_model(f'local-dir:{tmp_path}', num_classes=7)
    assert fresh(x).shape == (2, 7)


EXPORTED = {'inception_v4.released': {}, 'inception_resnet_v2.released': {}, 'inception_v3': dict(padded=True)}


@pytest.mark.parametrize('name', EXPORTED)
def test_weights_in_both_directions(name):
    "Ours in timm's network, and back: the same logits, the same tensors"
    from inception_repro import timm_state_dict
    from inception_repro.architecture.weights import convert
    torch.manual_seed(0)
    net = create_model(name, num_classes=4, **EXPORTED[name]).eval()
    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm2d): m.running_mean.normal_(0, .1), m.running_var.uniform_(.5, 1.5)
    sd = timm_state_dict(net)
    peer = timm.create_model(name.removesuffix('.released'), num_classes=4).eval()
    peer.load_state_dict(sd)
    image = torch.randn(1, 3, 139, 139)
    with torch.no_grad(): torch.testing.assert_close(peer(image), net(image), rtol=1e-4, atol=1e-5)
    back, own = convert(peer.state_dict(), net), net.state_dict()
    assert back.keys() == own.keys() and all(torch.equal(back[k], own[k]) for k in own)


def test_the_auxiliary_head_in_both_directions():
    from inception_repro import timm_state_dict
    from inception_repro.architecture.weights import convert
    net = create_model('inception_v3', aux=True, padded=True, num_classes=4)
    peer = timm.create_model('inception_v3', aux_logits=True, num_classes=4)
    peer.load_state_dict(timm_state_dict(net))
    back, own = convert(peer.state_dict(), net), net.state_dict()
    assert back.keys() == own.keys() and all(torch.equal(back[k], own[k]) for k in own)
