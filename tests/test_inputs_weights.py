"""Checkpoints of other tools, and files that hold no usable weights: loading succeeds, or changes nothing. Not in a
notebook: it is a long table of files."""
import zipfile
from argparse import Namespace
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from inception_repro.architecture.networks import create_model
from inception_repro.architecture.weight_files import read_weights, weights_bytes
from inception_repro.architecture.weights import load_weights
from inception_repro.evaluation.evaluate import candidates
from inception_repro.training.fit import fit

from training_fixtures import TINY


def small(**kwargs): return create_model('inception_resnet_v1', **(dict(num_classes=5, width=1/16) | kwargs))


@pytest.fixture(scope='module')
def raw(): return small().state_dict()


@pytest.fixture(scope='module')
def average(raw): return {k: v + 1 if v.is_floating_point() else v for k, v in raw.items()}


def prefixed(sd, prefix): return {f'{prefix}{k}': v for k, v in sd.items()}
def same(net, sd): return all(torch.equal(v, sd[k]) for k, v in net.state_dict().items())


# Raw and averaged weights, and prefixes

WITH_AVERAGE = [
    lambda a, b: dict(epoch=3, state_dict=a, state_dict_ema=b, args=Namespace(lr=.1)), # timm
    lambda a, b: dict(model=a, model_ema={'n_averaged': torch.tensor(7), **prefixed(b, 'module.')}), # torchvision
    lambda a, b: dict(params=a, params_ema=b), # BasicSR
    lambda a, b: dict(model=a, ema=dict(decay=.99, module=b)),
    lambda a, b: dict(model=a, average=b, opt=dict(state={0: dict(exp_avg=torch.zeros(2))})), # this package
    lambda a, b: dict(state_dict=prefixed(a, 'model.') | prefixed(b, 'ema_model.') | {'loss.weight': torch.ones(3)}),
    lambda a, b: dict(state_dict=prefixed(a, 'net.') | prefixed(b, 'net_ema.module.')),
    lambda a, b: prefixed(b, 'averaged.') | prefixed(a, 'raw.')]


@pytest.mark.parametrize('make', WITH_AVERAGE)
def test_the_average_is_preferred(raw, average, make, tmp_path):
    torch.save(make(raw, average), tmp_path/'c.pt')
    assert same(load_weights(small(), tmp_path/'c.pt'), average)
    assert same(load_weights(small(), tmp_path/'c.pt', averaged=False), raw)


@pytest.mark.parametrize('make', [
    lambda a: dict(state_dict=prefixed(a, 'model.')), # Lightning
    lambda a: dict(state_dict=prefixed(a, 'model._orig_mod.') | {'train_acc.count': torch.tensor(3)}),
    lambda a: prefixed(a, '_fsdp_wrapped_module.net.'), lambda a: dict(net=a, optimizer=dict(state={})),
    lambda a: dict(ema=a), lambda a: dict(module=dict(backbone=a), scaler=dict(scale=torch.tensor(2.)))])
@pytest.mark.parametrize('averaged', [True, False])
def test_prefixes_and_names_of_other_tools(raw, make, averaged, tmp_path):
    torch.save(make(raw), tmp_path/'c.pt')
    assert same(load_weights(small(), tmp_path/'c.pt', averaged), raw)


@pytest.mark.parametrize('make, message', [
    (lambda a: dict(student=a, teacher=a), 'holds several networks: student, teacher; save the state_dict of one'),
    (lambda a: dict(a=a, a_ema=a, b=a, b_ema=a), 'holds several networks: a_ema, b_ema; save the state_dict of one'),
    (lambda a: prefixed(a, 'student.') | prefixed(a, 'teacher.'), 'it has several networks, student., teacher.; save')])
def test_two_networks_are_not_guessed(raw, make, message, tmp_path):
    torch.save(make(raw), tmp_path/'c.pt')
    with pytest.raises(ValueError, match=message): load_weights(small(), tmp_path/'c.pt')


def test_prefixes_of_other_packages(tmp_path):
    timm = pytest.importorskip('timm')
    peer = timm.create_model('inception_v4', num_classes=3).state_dict()
    torch.save(dict(state_dict=prefixed(peer, 'model.')), tmp_path/'c.ckpt')
    net = load_weights(create_model('inception_v4.released', num_classes=3), tmp_path/'c.ckpt')
    assert torch.equal(net.classifier.weight, peer['last_linear.weight'])


# The content decides the format, and the ending does so in writing

@pytest.mark.parametrize('written', ['a.pth', 'a.pt', 'a.bin', 'a.ckpt', 'a.safetensors', 'a.weights', 'a'])
@pytest.mark.parametrize('read', ['b.pth', 'b.safetensors', 'b'])
def test_every_file_is_read_under_every_name(raw, written, read, tmp_path):
    data = weights_bytes(raw, written)
    assert data[:2] == b'PK' if written.endswith(('.pth', '.pt', '.bin', '.ckpt')) else data[8:9] == b'{'
    (tmp_path/read).write_bytes(data)
    found = read_weights(tmp_path/read)
    assert found.keys() == raw.keys() and all(torch.equal(v, raw[k]) for k, v in found.items())


@pytest.mark.filterwarnings('ignore')
def test_training_writes_what_evaluation_and_torch_read(tmp_path, data):
    recipe = replace(TINY, epochs=1)
    path = tmp_path/f'{TINY.model}-{TINY.seed}.pth'
    run = fit(recipe, tmp_path/'runs', data, 'cpu', progress=False, save_weights=path)
    sd = torch.load(path, weights_only=True)
    c, = candidates(path, tmp_path/'runs')
    assert same(c.build(len(data.classes)), sd) and run.meta['finished']


@pytest.mark.parametrize('name', ['a.safetensors', 'a.pth'])
def test_file_names_that_are_no_text(raw, name, tmp_path):
    import os
    path = os.fsdecode(os.fsencode(tmp_path) + b'/caf\xe9-' + name.encode())
    try: open(path, 'wb').write(weights_bytes(raw, path))
    except (OSError, UnicodeError): pytest.skip('the file system has no such names')
    assert same(load_weights(small(), path), raw)


# All or nothing

FLOAT, VAR, COUNT = 'trunk.stem.1.conv.weight', 'trunk.stem.1.bn.running_var', 'trunk.stem.1.bn.num_batches_tracked'


def spoil(k, f): return lambda sd: sd | {k: f(sd[k])}


@pytest.mark.parametrize('change, message', [
    (spoil(FLOAT, lambda v: v.to_sparse()), f'{FLOAT} is sparse or nested; save dense'),
    (spoil(FLOAT, lambda v: v.to('meta')), f'{FLOAT} is on the meta device'),
    (spoil(FLOAT, lambda v: torch.quantize_per_tensor(v, .1, 0, torch.qint8)), f'{FLOAT} is quantized'),
    (spoil(FLOAT, lambda v: v.to(torch.complex64)), f'{FLOAT} is complex'),
    (spoil(FLOAT, lambda v: v.sum()), rf'shapes: {FLOAT} is \(\), not \('),
    (spoil('classifier.weight', lambda v: v.sum()), r'shapes: classifier.weight is \(\), not \(5, '),
    (spoil('classifier.weight', lambda v: v[None]), r'shapes: classifier.weight is \(1, 5, .*\), not \(5, '),
    (spoil('classifier.bias', lambda v: v.sum()), r'shapes: classifier.bias is \(\), not \(5,\)'),
    (spoil(FLOAT, lambda v: v.long()), f'values: {FLOAT} is torch.int64, not floating point'),
    (spoil(FLOAT, lambda v: v > 0), f'values: {FLOAT} is torch.bool, not floating point'),
    (spoil(FLOAT, lambda v: v * float('nan')), f'values: {FLOAT} is not finite'),
    (spoil(FLOAT, lambda v: v.double() + 1e300), f'values: {FLOAT} is not finite'),
    (spoil(COUNT, lambda v: v * float('nan')), f'values: {COUNT} is not finite'),
    (spoil(VAR, lambda v: v - 9), f'values: {VAR} is negative')])
def test_a_bad_tensor_is_named_and_changes_nothing(raw, change, message, tmp_path):
    torch.save(change(dict(raw)), tmp_path/'c.pt')
    for net in small(), small(in_chans=1):
        before = {k: v.clone() for k, v in net.state_dict().items()}
        with pytest.raises(ValueError, match=message): load_weights(net, tmp_path/'c.pt')
        assert same(net, before)


@pytest.mark.parametrize('n', [1, 4])
def test_the_first_convolution_is_no_exception(raw, n, tmp_path):
    "It is adapted to the channels before it is checked"
    key = 'trunk.stem.0.conv.weight'
    for f, message in ((torch.Tensor.long, 'is torch.int64'), (lambda v: v * float('inf'), 'is not finite'),
                       (torch.sum, r'is \(\), not')):
        torch.save(raw | {key: f(raw[key])}, tmp_path/'c.pt')
        with pytest.raises(ValueError, match=f'{key} {message}|shapes: {key}'):
            load_weights(small(in_chans=n), tmp_path/'c.pt')


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16, torch.float16])
def test_floating_point_of_any_width_is_read(raw, dtype, tmp_path):
    sd = {k: v.to(dtype) if v.is_floating_point() else v for k, v in raw.items()}
    save_file(sd, tmp_path/'a.safetensors')
    assert same(load_weights(small(), tmp_path/'a.safetensors'), {k: v.to(raw[k].dtype) for k, v in sd.items()})


@pytest.mark.parametrize('stop', [KeyboardInterrupt, RuntimeError, MemoryError])
def test_an_interruption_restores_the_network(raw, average, stop, tmp_path):
    save_file(average, tmp_path/'a.safetensors')
    net = small()
    net.load_state_dict(raw)
    def fail(module, keys): # the classifier is loaded last
        hook.remove()
        raise stop('stopped')
    hook = net.trunk.register_load_state_dict_post_hook(fail)
    with pytest.raises(ValueError if stop is RuntimeError else stop, match='stopped'):
        load_weights(net, tmp_path/'a.safetensors')
    assert same(net, raw)


def test_a_tensor_that_cannot_be_written_changes_no_other(raw, average, tmp_path):
    save_file(average, tmp_path/'a.safetensors')
    net = small()
    net.load_state_dict(raw)
    net.classifier.bias.data = torch.zeros(1).expand(5) # several elements at one address
    with pytest.raises(ValueError, match='a.safetensors cannot be loaded: .*classifier.bias'):
        load_weights(net, tmp_path/'a.safetensors')
    assert same(net, raw | {'classifier.bias': torch.zeros(5)})


def test_a_network_without_values_takes_no_weights(raw, tmp_path):
    save_file(raw, tmp_path/'a.safetensors')
    with torch.device('meta'): net = small()
    with pytest.raises(ValueError, match='is on the meta device'): load_weights(net, tmp_path/'a.safetensors')


def test_files_cut_at_every_part_are_named(raw, tmp_path):
    for name in 'a.pth', 'a.safetensors':
        data = weights_bytes(raw, name)
        for n in [0, 1, 8, 9, 50, *range(0, len(data), len(data) // 20)]:
            (tmp_path/name).write_bytes(data[:n])
            with pytest.raises(ValueError, match=f'{name} is no (PyTorch|safetensors) file, or damaged'):
                read_weights(tmp_path/name)


def packed(source, to):
    "Write the same zip file with compressed entries; its size"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(to, 'w', zipfile.ZIP_DEFLATED) as new:
        for o in old.infolist(): new.writestr(o.filename, old.read(o))
    return to.stat().st_size


def test_a_small_file_that_unpacks_to_a_large_one(raw, tmp_path, monkeypatch):
    torch.save({'a.weight': torch.zeros(10**7)}, tmp_path/'whole.pth')
    own = packed(tmp_path/'whole.pth', tmp_path/'small.pth')
    assert own < 10**5
    monkeypatch.setattr(torch, 'load', lambda *_, **__: pytest.fail('it was read'))
    with pytest.raises(ValueError, match=rf'small.pth has {own:,} bytes and would unpack to 40,...,...; save the weig'):
        load_weights(small(), tmp_path/'small.pth')


def test_compressed_weights_are_read(average, tmp_path):
    torch.save(average, tmp_path/'whole.pth')
    packed(tmp_path/'whole.pth', tmp_path/'b.pth')
    assert same(load_weights(small(), tmp_path/'b.pth'), average)


def test_a_view_of_any_size_is_named_by_its_shape(raw, tmp_path):
    key = 'trunk.stem.1.bn.running_var'
    torch.save(raw | {key: torch.ones(1).expand(10**12)}, tmp_path/'a.pth')
    with pytest.raises(ValueError, match=f'shapes: {key} is .1000000000000,., not'):
        load_weights(small(), tmp_path/'a.pth')


@pytest.mark.parametrize('kind', ['safetensors', 'pth', 'pt', 'bin', 'ckpt'])
def test_a_folder_of_weights_of_any_kind(raw, kind, tmp_path):
    (tmp_path/'fractals').mkdir()
    file = tmp_path/'fractals'/f'inception_resnet_v1-0.{kind}'
    file.write_bytes(weights_bytes(raw, file))
    file.with_suffix('.txt').write_text('notes')
    for folder in tmp_path, tmp_path/'fractals':
        assert [(c.name, c.path) for c in candidates(folder)] == [('inception_resnet_v1-0', file)]
    file.unlink()
    with pytest.raises(ValueError, match=r'no weights \(.safetensors, .pth, .pt, .ckpt, .bin\) in the folder'):
        candidates(tmp_path)
