"""Logits against the peers that publish weights: their own random weights, loaded from a file,
must give their own logits.

Not in a notebook: it needs timm, torchvision and facenet-pytorch, and says the same thing four times.
"""
import pytest
import torch
from safetensors.torch import save_file

from inception_repro.architecture.networks import create_model
from inception_repro.architecture.weights import load_weights

from slow_cases import slow

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
    "facenet-pytorch's network; its face embedding and classifier are left out when its logits are compared"
    return pytest.importorskip('facenet_pytorch').InceptionResnetV1(pretrained=None, classify=True, num_classes=10)


def trunk_of_facenet(net):
    "What its embedding reads: the pooled trunk, with dropout asleep"
    net.last_linear = net.last_bn = net.logits = torch.nn.Identity()
    return net


peers = {
    'inception_v4.released': (lambda: timm.create_model('inception_v4'), {}),
    'inception_resnet_v2.released': (lambda: timm.create_model('inception_resnet_v2'), {}),
    'inception_v3': (lambda: torchvision.models.inception_v3(weights=None, init_weights=False, transform_input=False),
                     dict(padded=True)),
    'inception_resnet_v1.facenet': (facenet, dict(num_classes=0)),
}


@pytest.mark.parametrize('kind', ['safetensors', *slow('pth')])
@pytest.mark.parametrize('name', peers)
def test_logits_of_peers(name, kind, tmp_path):
    torch.manual_seed(0)
    make, kwargs = peers[name]
    peer = shaken(make())
    path = tmp_path / f'peer.{kind}'
    if kind == 'safetensors': save_file(peer.state_dict(), path)
    else: torch.save(peer.state_dict(), path)
    if name == 'inception_resnet_v1.facenet': peer = trunk_of_facenet(peer)
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
        a, tf = (load_weights(create_model('inception_v3', padded=p).eval(), tmp_path / 'v3.safetensors')(x)
                 for p in (True, False))
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
    monkeypatch.setattr(huggingface_hub, 'get_hf_file_metadata', lambda *args, **kwargs: None) # the request before
    monkeypatch.setattr(huggingface_hub, 'hf_hub_download',
                        lambda repo, file: asked.append((repo, file)) or tmp_path / file)
    ours = create_model(name, pretrained=True)
    assert asked == [(f"timm/{name.split('.')[0]}.tf_in1k", 'model.safetensors')]
    assert torch.equal(ours.classifier.weight, peer.get_classifier().weight)
    with pytest.warns(UserWarning, match='has 1000 classes, the model 10: classifier keeps its initial values'):
        ten = create_model(name, num_classes=10, in_chans=1, pretrained=True)
    assert ten.classifier.out_features == 10 and ten.trunk.stem[0].conv.weight.shape[1] == 1


@pytest.mark.parametrize('name, other',
                         [('inception_v4.released', 'inception_resnet_v2'), ('inception_v3', 'inception_v4')])
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


@pytest.fixture
def v4(tmp_path):
    "A narrow network of ours, and its file"
    net = create_model('inception_v4', num_classes=5, width=1/16)
    save_file(net.state_dict(), tmp_path / 'v4.safetensors')
    return net, tmp_path / 'v4.safetensors'


@pytest.mark.parametrize('wrap', [
    lambda sd: {'model_state': sd}, lambda sd: {'state_dict': {f'module.{k}': v for k, v in sd.items()}},
    lambda sd: {f'_orig_mod.{k}': v for k, v in sd.items()},
    lambda sd: {'model': {f'module._orig_mod.{k}': v for k, v in sd.items()}}])
def test_checkpoints_in_their_wrappings(v4, wrap, tmp_path):
    net, _ = v4
    torch.save(wrap(net.state_dict()), tmp_path / 'c.PTH')
    other = load_weights(create_model('inception_v4', num_classes=5, width=1/16), tmp_path / 'c.PTH')
    assert torch.equal(other.classifier.weight, net.classifier.weight)


def test_half_precision_is_widened(v4, tmp_path):
    net, _ = v4
    save_file({k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()},
              tmp_path / 'h.SafeTensors')
    other = load_weights(create_model('inception_v4', num_classes=5, width=1/16), tmp_path / 'h.SafeTensors')
    assert other.classifier.weight.dtype == torch.float32
    assert torch.equal(other.classifier.weight, net.classifier.weight.half().float())


class Code:
    def __reduce__(self): return print, ('this must not run',)


@pytest.mark.parametrize('make, message', [
    (lambda p: p.write_bytes(b'<html>not found</html>'), 'is no PyTorch file, or damaged'),
    (lambda p: p.write_bytes(b''), 'is no PyTorch file, or damaged'),
    (lambda p: torch.save(Code(), p), 'holds more than tensors and would run code'),
    (lambda p: torch.save([1, 2], p), 'holds no state dict; save'),
    (lambda p: torch.save({'epoch': 3, 'loss': 1.}, p), 'holds no state dict but epoch, loss; save'),
    (lambda p: torch.save({1: torch.zeros(2)}, p), 'holds no state dict but 1; save')])
def test_files_that_hold_no_weights(v4, make, message, tmp_path, capsys):
    make(tmp_path / 'f.pt')
    with pytest.raises(ValueError) as e: load_weights(v4[0], tmp_path / 'f.pt')
    assert message in str(e.value) and 'this must not run' not in capsys.readouterr().out
    with pytest.raises(FileNotFoundError): load_weights(v4[0], tmp_path)


def test_empty_safetensors(v4, tmp_path):
    save_file({}, tmp_path / 'e.safetensors')
    with pytest.raises(ValueError, match='holds no state dict'): load_weights(v4[0], tmp_path / 'e.safetensors')


@pytest.mark.parametrize('change, message', [
    (lambda sd: sd.pop('classif.bias'), 'missing: classifier.bias'),
    (lambda sd: sd.pop('repeat.0.conv2d.bias'), 'missing: trunk.inception_resnet_a.0.linear.bias'),
    (lambda sd: sd.update({'extra.weight': torch.zeros(1)}), 'unexpected: extra.weight'),
    (lambda sd: sd.update({'extra.conv.weight': torch.zeros(1)}), r'245 convolutions where .* has 244')])
def test_foreign_files_with_parts_missing_or_added(change, message, tmp_path):
    sd = timm.create_model('inception_resnet_v2').state_dict()
    change(sd)
    save_file(sd, tmp_path / 'v2.safetensors')
    with pytest.raises(ValueError, match=message):
        load_weights(create_model('inception_resnet_v2.released'), tmp_path / 'v2.safetensors')


def test_heads_that_a_file_cannot_fill(v4, tmp_path):
    net, _ = v4
    save_file({k: v for k, v in net.state_dict().items() if not k.startswith('classifier')},
              tmp_path / 'headless.safetensors')
    with pytest.warns(UserWarning, match='has no classes, the model 5: classifier keeps its initial values'):
        load_weights(create_model('inception_v4', num_classes=5, width=1/16), tmp_path / 'headless.safetensors')
    v3 = create_model('inception_v3', num_classes=5, width=1/16)
    save_file(v3.state_dict(), tmp_path / 'v3.safetensors')
    with pytest.warns(UserWarning, match='aux.classifier keeps'):
        load_weights(create_model('inception_v3', num_classes=5, width=1/16, aux=True), tmp_path / 'v3.safetensors')


def test_a_url_has_a_file_of_its_own(v4, tmp_path, monkeypatch):
    "Two hubs' model.safetensors are two files"
    import shutil
    net, path = v4
    asked = []
    monkeypatch.setattr('inception_repro.architecture.weights.check_reachable', lambda url: None)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(torch.hub, 'download_url_to_file',
                        lambda url, target: (asked.append(url), shutil.copy(path, target)))
    for url in ['https://a.example/model.safetensors', 'https://b.example/model.safetensors',
                'https://a.example/model.safetensors']:
        load_weights(create_model('inception_v4', num_classes=5, width=1/16), url)
    assert asked == ['https://a.example/model.safetensors', 'https://b.example/model.safetensors']
    assert len(list((tmp_path / 'hub' / 'checkpoints').iterdir())) == 2


def test_channels_are_rescaled_as_timm_does(tmp_path):
    peer = timm.create_model('inception_v4')
    save_file(peer.state_dict(), tmp_path / 'v4.safetensors')
    from timm.models import adapt_input_conv
    for n in (1, 4):
        ours = load_weights(create_model('inception_v4.released', in_chans=n), tmp_path / 'v4.safetensors')
        assert torch.allclose(ours.trunk.stem[0].conv.weight, adapt_input_conv(n, peer.features[0].conv.weight))
