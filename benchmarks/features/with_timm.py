"""Features with timm, torchvision, segmentation_models_pytorch and the hubs of Hugging Face and torch"""
from pathlib import Path
from unittest.mock import patch

from . import check, feature

ROOT = Path(__file__).parents[2]
TINY = dict(num_classes=5, width=1 / 16)
INCEPTION_V4 = 'repro_inception_v4'


def images(n=2, px=107):
    import torch
    return torch.randn(n, 3, px, px, generator=torch.Generator().manual_seed(0))


def small(name='inception_v4', **kwargs):
    import torch
    from inception_repro import create_model
    torch.manual_seed(0)
    return create_model(name, **{**TINY, **kwargs}).eval()


def same(a, b):
    "The largest difference of two tensors, which must be that of rounding"
    d = (a - b).abs().max().item()
    return check(d <= 1e-4 * b.abs().max().item(), f'largest difference {d:.0e}')


@feature('torchvision', 'symbolic tracing', 'torch.fx.symbolic_trace(net)')
def trace():
    import torch
    net, x = small(), images()
    return same(torch.fx.symbolic_trace(net)(x), net(x))


@feature('torchvision', 'a feature extractor', "create_feature_extractor(net, ['trunk.reduction_a'])")
def extractor():
    from torchvision.models.feature_extraction import create_feature_extractor
    net, x = small(), images()
    found = create_feature_extractor(net, ['trunk.reduction_a'])(x)['trunk.reduction_a']
    return check(found.equal(net.trunk(x, at=['reduction_a'])[0]), f'map of shape {tuple(found.shape)}')


@feature('torchvision', 'its weights of Inception-v3', "load_weights(net, 'inception_v3.pth')")
def torchvision_weights(tmp):
    import torch
    import torchvision
    from inception_repro import load_weights
    peer = torchvision.models.inception_v3(weights=None, init_weights=False, num_classes=5).eval()
    torch.save(peer.state_dict(), tmp / 'inception_v3.pth')
    net = load_weights(small('inception_v3', width=1, padded=True), tmp / 'inception_v3.pth')
    return same(net(x := images()), peer(x))


@feature('timm', 'intermediate maps', 'net.forward_intermediates(x, indices=2)')
def intermediates():
    import timm
    maps = small(width=1).forward_intermediates(x := images(1), indices=2)[1]
    peer = timm.create_model('inception_v4').eval().forward_intermediates(x, indices=2)[1]
    found = [tuple(m.shape) for m in maps]
    return check(found == [tuple(m.shape) for m in peer], f'shapes as of timm: {found}')


@feature('timm', 'layer decay', 'param_groups_layer_decay(net)')
def layer_decay():
    from timm.optim import param_groups_layer_decay
    n = len({g['lr_scale'] for g in param_groups_layer_decay(small(), layer_decay=.9)})
    return check(n == 18, f'{n} groups: stem, 14 blocks, 2 reductions, classifier')


@feature('timm', 'information about maps', 'net.feature_info.channels(1), .get_dicts()')
def info():
    import timm
    ours = small('inception_v4.released', width=1, features_only=True).feature_info
    theirs = timm.create_model('inception_v4', features_only=True).feature_info
    keys = ['num_chs', 'reduction']
    return check(ours.get_dicts(keys, [4]) == theirs.get_dicts(keys, [4]) and ours.channels(2) == theirs.channels(2),
                 f'{ours.get_dicts(keys, [4])[0]}, as of timm')


@feature('timm', 'several patterns', "list_models(['*v3', '*v4'], exclude_filters='*.*')")
def patterns():
    from inception_repro import list_models
    return ', '.join(list_models(['*v3', '*v4'], exclude_filters='*.*'))


@feature('timm', 'without pooling', "create_model(…, num_classes=0, global_pool='')")
def unpooled():
    out = small(num_classes=0, global_pool='')(images())
    return check(out.ndim == 4, f'map of shape {tuple(out.shape)}')


@feature('timm', 'a misspelt argument', "create_model('inception_v4', num_class=5)")
def misspelt():
    from inception_repro import create_model
    try: create_model('inception_v4', num_class=5)
    except TypeError as e: return check("did you mean 'num_classes'" in str(e), str(e).split('? ')[0] + '?')
    raise AssertionError('nothing was raised')


@feature('timm', "timm's preprocessing", 'net.pretrained_cfg')
def preprocessing():
    import timm
    from inception_repro.architecture.public import pretrained_cfg, public_weights
    keys = 'crop_pct', 'mean', 'std', 'input_size', 'interpolation'
    for name, repo in public_weights.items():
        peer = timm.get_pretrained_cfg(repo.removeprefix('timm/')).to_dict()
        check(all(pretrained_cfg(name)[k] == peer[k] for k in keys), name)
    return 'equal for the three networks with public weights'


@feature('timm', 'the registry', f"register_timm(); timm.create_model('{INCEPTION_V4}')")
def registry():
    import timm
    from inception_repro import register_timm
    names = register_timm()
    net = timm.create_model(INCEPTION_V4, **TINY).eval()
    return check(net(images()).shape == (2, 5), f'{len(names)} names with the prefix repro_')


@feature('timm', "weights under timm's names", 'timm_state_dict(net)')
def to_timm():
    import timm
    from inception_repro import timm_state_dict
    net = small('inception_resnet_v2.released', width=1)
    peer = timm.create_model('inception_resnet_v2', num_classes=5).eval()
    peer.load_state_dict(timm_state_dict(net))
    return same(peer(x := images(1, 139)), net(x))


@feature('timm', "timm's weights", "load_weights(net, 'inception_resnet_v2.pth')")
def from_timm(tmp):
    import timm
    import torch
    from inception_repro import load_weights
    peer = timm.create_model('inception_resnet_v2', num_classes=5).eval()
    torch.save(peer.state_dict(), tmp / 'inception_resnet_v2.pth')
    net = load_weights(small('inception_resnet_v2.released', width=1), tmp / 'inception_resnet_v2.pth')
    return same(net(x := images(1, 139)), peer(x))


@feature('segmentation_models_pytorch', 'an encoder', f"smp.Unet('tu-{INCEPTION_V4}')")
def encoder():
    import segmentation_models_pytorch as smp
    from inception_repro import register_timm
    register_timm()
    net = smp.Unet(f'tu-{INCEPTION_V4}', encoder_weights=None, classes=3).eval()
    out = net(images(1, 96))
    return check(out.shape == (1, 3, 96, 96), f'masks of shape {tuple(out.shape)}')


@feature('hubs', 'saving and loading', "net.save_pretrained('folder'); from_pretrained('folder')")
def saving(tmp):
    from inception_repro import from_pretrained
    net = small('inception_resnet_v1')
    net.save_pretrained(tmp)
    return same(from_pretrained(tmp).eval()(x := images()), net(x))


@feature('hubs', 'a model card from a record', "net.save_pretrained('folder', record=run)")
def card(tmp):
    from huggingface_hub import ModelCard
    from inception_repro._testing import four_runs
    record = next(r for r in four_runs() if r.meta['model'] == 'inception_v4')
    small(num_classes=20).save_pretrained(tmp, record=record)
    found = ModelCard.load(tmp / 'README.md').data.eval_results[0]
    return check(abs(found.metric_value + record.rows[-1]['top1'] - 100) < .01,
                 f'{found.metric_name} {found.metric_value:g}')


@feature('hubs', 'uploading, to a stand-in', "net.push_to_hub('owner/name')")
def uploading():
    from types import SimpleNamespace
    from huggingface_hub import HfApi
    sent = {}
    def upload(self, *, repo_id, folder_path, **kwargs):
        sent[repo_id] = sorted(p.name for p in Path(folder_path).iterdir())
    repo = SimpleNamespace(repo_id='owner/name')
    with patch.object(HfApi, 'create_repo', lambda self, **kwargs: repo), patch.object(HfApi, 'upload_folder', upload):
        small().push_to_hub('owner/name')
    return check('model.safetensors' in sent['owner/name'], ', '.join(sent['owner/name']))


@feature('hubs', 'timm reads a saved network', "timm.create_model('local-dir:folder', pretrained=True)")
def read_by_timm(tmp):
    import timm
    from inception_repro import register_timm
    register_timm()
    net = small('inception_resnet_v2')
    net.save_pretrained(tmp)
    return same(timm.create_model(f'local-dir:{tmp}', pretrained=True).eval()(x := images()), net(x))


@feature('hubs', 'a repository or folder in pretrained', "create_model('inception_v4', pretrained='folder')")
def pretrained(tmp):
    net = small()
    net.save_pretrained(tmp)
    return same(small(pretrained=tmp)(x := images()), net(x))


@feature('hubs', 'torch.hub', "torch.hub.load('owner/repository', 'inception_v4')")
def torch_hub():
    import torch
    net = torch.hub.load(str(ROOT), 'inception_v4', source='local', **TINY).eval()
    return check(net(images()).shape == (2, 5), 'from a local clone')
