"""Logits against the peers that publish weights: their own random weights, loaded from a file, must give their own logits.

Not in a notebook: it needs timm, torchvision and facenet-pytorch, and says the same thing four times.
"""
import pytest
import torch
from safetensors.torch import save_file

from inception_repro.models import create_model
from inception_repro.weights import load_weights

timm = pytest.importorskip('timm')
torchvision = pytest.importorskip('torchvision')


def shaken(net, seed=0):
    "Give batch normalisation statistics and affine numbers that a mix-up of layers would show"
    g = torch.Generator().manual_seed(seed)
    for m in net.modules():
        if isinstance(m, (torch.nn.BatchNorm2d, torch.nn.BatchNorm1d)):
            m.running_mean.normal_(0, .1, generator=g)
            m.running_var.uniform_(.5, 1.5, generator=g)
            m.weight.data.uniform_(.8, 1.2, generator=g)
            m.bias.data.normal_(0, .1, generator=g)
    return net.eval()


def facenet():
    "facenet-pytorch's network, with the trunk's pooled output in place of its face embedding"
    module = pytest.importorskip('facenet_pytorch')
    net = module.InceptionResnetV1(pretrained=None, classify=True, num_classes=1000)
    net.last_linear, net.last_bn = torch.nn.Identity(), torch.nn.Identity()
    net.logits = torch.nn.Identity()
    full = module.InceptionResnetV1(pretrained=None, classify=True, num_classes=1000)
    full.load_state_dict(net.state_dict(), strict=False)
    return net


peers = {
    'inception_v4.released': (lambda: timm.create_model('inception_v4'), {}),
    'inception_resnet_v2.released': (lambda: timm.create_model('inception_resnet_v2'), {}),
    'inception_v3': (lambda: torchvision.models.inception_v3(weights=None, init_weights=False, transform_input=False),
                     dict(padded=True)),
    'inception_resnet_v1.facenet': (facenet, dict(num_classes=0)),
}


@pytest.mark.parametrize('kind', ['safetensors', 'pth'])
@pytest.mark.parametrize('name', peers)
def test_logits_of_peers(name, kind, tmp_path):
    torch.manual_seed(0)
    make, kwargs = peers[name]
    peer = shaken(make())
    if name == 'inception_resnet_v1.facenet': peer.logits = torch.nn.Identity()
    path = tmp_path / f'peer.{kind}'
    if kind == 'safetensors': save_file(peer.state_dict(), path)
    else: torch.save(peer.state_dict(), path)
    ours = load_weights(create_model(name, **kwargs).eval(), path)
    x = torch.randn(2, 3, 299, 299, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    with torch.no_grad(): a, b = ours(x), peer(x)
    assert ((a - b).norm() / b.norm()).item() < 2e-5
    assert b.std() > 0


def test_timm_v3_and_padding(tmp_path):
    "timm's Inception-v3 counts the padding, too; ours does on request only, and that is not a detail"
    peer = shaken(timm.create_model('inception_v3'))
    save_file(peer.state_dict(), tmp_path / 'v3.safetensors')
    x = torch.randn(2, 3, 149, 149, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        b = peer(x)
        a, tf = (load_weights(create_model('inception_v3', padded=p).eval(), tmp_path / 'v3.safetensors')(x) for p in (True, False))
    assert (a - b).norm() / b.norm() < 2e-5
    assert (tf - b).norm() / b.norm() > 1e-2


def test_auxiliary_head(tmp_path):
    peer = shaken(torchvision.models.inception_v3(weights=None, init_weights=False, aux_logits=True))
    save_file(peer.state_dict(), tmp_path / 'v3.safetensors')
    ours = load_weights(create_model('inception_v3', padded=True, aux=True), tmp_path / 'v3.safetensors').eval()
    x = torch.randn(1, 768, 17, 17)
    with torch.no_grad(): a, b = ours.aux.eval()(x), peer.AuxLogits(x)
    assert (a - b).norm() / b.norm() < 2e-5


def test_background_class(tmp_path):
    "A checkpoint of 1001 classes begins with the background: it is dropped, the other rows keep their order"
    peer = shaken(timm.create_model('inception_v4', num_classes=1001))
    save_file(peer.state_dict(), tmp_path / 'v4.safetensors')
    ours = load_weights(create_model('inception_v4.released').eval(), tmp_path / 'v4.safetensors')
    assert torch.equal(ours.classifier.weight, peer.last_linear.weight[1:])
    assert torch.equal(ours.classifier.bias, peer.last_linear.bias[1:])


@pytest.mark.parametrize('name', ['inception_v3', 'inception_v4.released', 'inception_resnet_v2.released'])
def test_pretrained_downloads_from_the_hub(name, tmp_path, monkeypatch):
    "`pretrained=True` asks the hub for one named file and loads it"
    import huggingface_hub
    peer = shaken(timm.create_model(name.split('.')[0]))
    save_file(peer.state_dict(), tmp_path / 'model.safetensors')
    asked = []
    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', lambda repo, file: asked.append((repo, file)) or tmp_path / file)
    ours = create_model(name, pretrained=True)
    assert asked == [(f"timm/{name.split('.')[0]}.tf_in1k", 'model.safetensors')]
    assert torch.equal(ours.classifier.weight, peer.get_classifier().weight)
    with pytest.warns(UserWarning, match='has 1000 classes, the model 10: classifier keeps its initial values'):
        ten = create_model(name, num_classes=10, in_chans=1, pretrained=True)
    assert ten.classifier.out_features == 10 and ten.trunk.stem[0].conv.weight.shape[1] == 1


@pytest.mark.parametrize('name, other', [('inception_v4.released', 'inception_resnet_v2'), ('inception_v3', 'inception_v4')])
def test_a_wrong_file_names_what_does_not_fit(name, other, tmp_path):
    peer = timm.create_model(other)
    save_file(peer.state_dict(), tmp_path / 'other.safetensors')
    with pytest.raises(ValueError, match=r'other.safetensors does not fit .*: \d+ convolutions where .* has \d+'):
        load_weights(create_model(name), tmp_path / 'other.safetensors')
    save_file({'encoder.weight': torch.zeros(3)}, tmp_path / 'alien.safetensors')
    with pytest.raises(ValueError, match='no layout is known with keys such as encoder.weight'):
        load_weights(create_model(name), tmp_path / 'alien.safetensors')


def test_the_figures_do_not_take_released_weights(tmp_path):
    "Same counts, other order: v4's released weights must not slip into the figure's network unnoticed"
    peer = timm.create_model('inception_v4')
    save_file(peer.state_dict(), tmp_path / 'v4.safetensors')
    with pytest.raises(ValueError, match='shapes: '):
        load_weights(create_model('inception_v4'), tmp_path / 'v4.safetensors')
