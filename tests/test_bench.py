"""The benchmarks of the repository: what they compare, what they write.

Not in a notebook: they are not in the package, and need peers and processes.
"""
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from inception_repro.architecture.networks import create_model

root = Path(__file__).parents[1]
sys.path.append(str(root))  # behind the package that is tested
run = pytest.importorskip('benchmarks.run')
from benchmarks import bf16, peers, profile, steps, tables  # noqa: E402

TIMM = pytest.mark.skipif('timm' not in peers.versions(), reason='needs timm')


def row(name, *seconds): return dict(name=name, images_per_second=1 / min(seconds), seconds=list(seconds))


def test_who_is_ahead():
    rows = [row('timm', 4., 4.), row('engine', 2., 3.), row('ours, slow', 5., 5.), row('ours, fast', 1., 2.),
            dict(name='absent', skipped='ImportError'), row('ours bf16', .5, .5)]
    assert tables.ahead(rows, False) == ('ours, fast', 'engine', 1.75, 1.5, 2.)
    assert tables.ahead(rows, True) is None
    assert tables.ahead([*rows, row('beside: another network', .1, .1)], False) == (
        'ours, fast', 'engine', 1.75, 1.5, 2.)
    assert tables.ahead([*rows, row('engine, bf16', 1., 1.)], True) == ('ours bf16', 'engine, bf16', 2., 2., 2.)


def contenders(**ways): return {k.replace('_', ' '): v for k, v in ways.items()}


def test_records_become_tables(tmp_path, monkeypatch):
    def fake(o):
        "two ways to wait"
        yield 'wait-a', contenders(first=lambda: lambda: None, ours=lambda: lambda: None), 2
        yield 'wait-b', contenders(first=lambda: lambda: None, ours_too=lambda: 1 / 0), 2
    monkeypatch.setitem(run.KINDS, 'infer', fake)
    (tmp_path / 'other.json').write_text('{"rows": []}')
    run.main(['--infer', '--rounds', '2', '--device', 'cpu', '--records', str(tmp_path)])
    page = (tmp_path / 'README.md').read_text()
    assert '| [wait-a-cpu](wait-a-cpu.json) | ours | first |' in page and '[wait-b-cpu]' not in page
    assert 'left out: ZeroDivisionError' in page and f'torch {torch.__version__}' in page
    settings = json.loads((tmp_path / 'wait-a-cpu.json').read_text())['settings']
    assert settings['versions'] == peers.versions() and settings['processor']


def test_each_race_compiles_for_its_own_size(tmp_path, monkeypatch):
    sizes = []
    def backend(graph, inputs):
        sizes.extend(inputs[0].shape)
        return graph.forward
    net = nn.ReLU()
    def fake(o):
        "two sizes"
        for n in 3, 4:
            yield f'size-{n}', contenders(ours=lambda: lambda: torch.compile(net, backend=backend)(torch.ones(n))), 1
    monkeypatch.setitem(run.KINDS, 'infer', fake)
    run.main(['--infer', '--quick', '--device', 'cpu'])
    assert sizes == [3, 4] and all(isinstance(n, int) for n in sizes)


@pytest.mark.slow
def test_what_fewer_digits_cost(tmp_path):
    from PIL import Image
    from safetensors.torch import save_file
    g = torch.Generator().manual_seed(0)
    for i in range(8):
        path = tmp_path / f'images/val/{"ab"[i % 2]}/{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(torch.randint(256, (80, 90, 3), generator=g).to(torch.uint8).numpy()).save(path)
    torch.manual_seed(0)
    save_file(create_model('inception_resnet_v1', num_classes=2).state_dict(),
              tmp_path / 'inception_resnet_v1.safetensors')
    bf16.main([str(tmp_path / 'inception_resnet_v1.safetensors'), '--data', str(tmp_path / 'images'),
               '--out', str(tmp_path / 'o.json')])
    rows = {r['way']: r for r in json.loads((tmp_path / 'o.json').read_text())['networks']['inception_resnet_v1']}
    assert rows['as built']['largest'] == 0 and rows['fast']['largest'] < 1e-5
    assert rows['fast']['largest'] < rows['fast, bf16']['largest'] < .1
    assert all(r['images'] == 8 and r['mean'] <= r['largest'] for r in rows.values())


@pytest.mark.slow
@TIMM
def test_answers_of_peers_are_ours():
    "At a size for which it takes seconds, every peer that is installed gives our logits"
    o = run.parse(['--infer', '--quick', '--device', 'cpu', '--models', 'inception_resnet_v2.released', '--bf16'])
    for _, ways, *_ in run.infer(o): check(ways)


def check(ways):
    want = None
    for name, prepare in ways.items():
        try: got = prepare()().float()
        except ImportError: continue
        except (ValueError, RuntimeError):
            assert name == 'pytorchcv'  # not this network, not this size
            continue
        if want is None: want = got
        assert (got - want).abs().max() < (.1 if 'bf16' in name else 1e-4) * want.abs().max(), name


@pytest.mark.slow
def test_a_second_call_goes_on(tmp_path, monkeypatch, capsys):
    ran = []
    def fake(o):
        "two races, the second of which nobody can run at first"
        yield 'a', contenders(ours=lambda: ran.append('a') or (lambda: None)), 2
        yield 'b', contenders(ours=(lambda: 1 / 0) if len(ran) < 2 else lambda: ran.append('b') or (lambda: None)), 2
        yield 'c', contenders(ours=lambda: ran.append('c') or (lambda: None)), 2
    monkeypatch.setitem(run.KINDS, 'infer', fake)
    def call(*args):
        ran.clear()
        run.main(['--infer', '--rounds', '1', '--device', 'cpu', '--records', str(tmp_path), *args])
        return ran
    with pytest.raises(SystemExit, match='b: no contender can run: ours, ZeroDivisionError'): call()
    assert ran == ['a', 'c']  # neither is lost with the second
    with pytest.raises(SystemExit): call('--missing')
    assert ran == [] and 'a, cpu: there already' in capsys.readouterr().out
    for other in ['--rounds', '2'], ['--workers', '1'], ['--tuned']:
        with pytest.raises(SystemExit): call('--missing', *other)
        assert ran == ['a', 'c']
    monkeypatch.setattr(peers, 'versions', lambda: dict(timm='0'))
    with pytest.raises(SystemExit): call('--missing', '--tuned')
    assert ran == ['a', 'c']
    assert call('--missing', '--ways', 'engine') == []


def test_networks_without_a_peer():
    "They race against themselves; the nearest network stands beside, with its own cost"
    o = run.parse(['--train', '--device', 'meta', '--bs', '2', '--bf16', '--compiled'])
    assert o.px == [299] and set(o.models) == set(peers.MODELS)
    races = {name: (ways, cost) for name, ways, _, cost in run.train(o)}
    for name in peers.MODELS:
        ways, cost = races[f'train-{name}-299px']
        near = [k for k in ways if k.startswith('beside')]
        assert next(iter(ways)) == ('timm' if name in peers.TIMM else 'by hand')
        assert all(cost[k] == 3 * run.macs(run.configure(peers.NEAREST.get(name, name) if k in near else name))
                   for k in ways)
        label = f'beside: timm {peers.TIMM.get(peers.NEAREST.get(name))}, channels last'
        assert near == [label, f'{label}, bf16', f'{label}, bf16, compiled'] * (name in peers.NEAREST)
    assert {k for k in races['train-inception_v3-299px'][0] if k.startswith('torchvision')} == {
        f'torchvision{k}'
        for k in ('', *(f', channels last{b}{c}' for b in ('', ', bf16') for c in ('', ', compiled')))}


@pytest.mark.slow
@TIMM
def test_their_answers():
    o = run.parse(['--infer', '--quick', '--device', 'cpu', '--models', 'inception_v4', '--bf16'])
    (_, ways, _, cost), = run.infer(o)
    assert next(iter(ways)) == 'ours, as built' and cost.keys() == ways.keys()
    check({k: v for k, v in ways.items() if k.startswith('ours')})
    assert ways['beside: timm inception_v4, channels last']()() is None


@TIMM
def test_steps_of_peers_train(monkeypatch):
    "Compiled ones too, though here they are not compiled"
    compile = torch.compile
    monkeypatch.setattr(torch, 'compile', lambda net, **kwargs: compile(net, backend='eager'))
    x, y = torch.randn(4, 3, 32, 32), torch.arange(4)
    class Net(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                             nn.Linear(4, 8))
    for step in peers.timm_step, peers.torch_step:
        ways = peers.ways_to_train('peer', lambda: nets.append(Net()) or nets[-1], step, x, y, True, True)
        assert len(ways) == 5
        for name, prepare in ways.items():
            nets = []
            step = prepare()
            before = nets[0][0].weight.clone()
            for _ in range(2): step()
            assert not torch.equal(before, nets[0][0].weight), name


def event(cat, name, ts, dur, tid=1, **args):
    return dict(ph='X', cat=cat, name=name, ts=ts, dur=dur, tid=tid, args=args)


def test_kinds_of_operations():
    for want, kernel, *around in [
            ('convolution, backward', None, 'aten::_slow_conv2d_backward', 'aten::convolution_backward'),
            ('convolution, backward', 'sm90_xmma_dgrad', 'aten::convolution_backward',
             'autograd::engine::evaluate_function: ConvolutionBackward0'),
            ('concatenation and copies', 'void cudnn::nchwToNhwcKernel<float>', 'aten::cudnn_convolution',
             'aten::convolution'),
            ('concatenation and copies', 'triton_poi_fused_convolution_3'),
            ('ReLU, sums', 'triton_poi_fused_add_mul_9'),
            ('batch normalisation', 'triton_red_fused__native_batch_norm_legit_functional_cat_relu_7'),
            ('convolution, forward', 'triton_tem_fused_convolution_1', 'aten::convolution'),
            ('ReLU, sums', 'void at::native::vectorized_elementwise_kernel<4>', 'aten::add_', 'AddBackward0'),
            ('concatenation and copies', 'void at::native::CatArrayBatchedCopy<float>', 'aten::cat'),
            ('pooling', None, 'aten::max_pool2d_with_indices_backward'),
            (profile.BESIDE, 'void at::native::lerp', 'aten::lerp_', profile.BESIDE),
            ('the rest', 'some_kernel')]:
        assert profile.kind_of(kernel, around) == want, (kernel, around)


def test_a_trace_of_a_gpu():
    "Kernels belong to the operation that launched them, whatever runs when they do"
    trace = [event('cpu_op', 'aten::convolution', 0, 10), event('cpu_op', 'aten::cudnn_convolution', 2, 6),
             event('cuda_runtime', 'cudaLaunchKernel', 3, 1, correlation=7),
             event('user_annotation', profile.BESIDE, 20, 10),
             event('cuda_driver', 'cuLaunchKernel', 22, 1, correlation=8),
             event('cpu_op', 'aten::relu', 21, 30, tid=2), event('cpu_op', 'aten::relu', 40, 5),
             event('kernel', 'implicit_gemm', 21, 4000, tid=9, correlation=7),
             event('kernel', 'multi_tensor', 4021, 1000, tid=9, correlation=8),
             event('gpu_memset', 'Memset (Device)', 5021, 500, tid=9),
             event('gpu_user_annotation', profile.BESIDE, 0, 9000, tid=9),
             dict(ph='M', name='process_name')]
    found = profile.read_trace(trace, gpu=True)
    assert found == [('implicit_gemm', 'convolution, forward', 4.), ('multi_tensor', profile.BESIDE, 1.),
                     ('Memset (Device)', 'concatenation and copies', .5)]
    res = profile.summary(found * 2, 2, 11.)
    assert res['kinds']['convolution, forward'] == dict(ms=4., share=round(4 / 11, 5))
    assert [(k['name'], k['calls']) for k in res['kernels']] == [
        ('implicit_gemm', 1), ('multi_tensor', 1), ('Memset (Device)', 1)]


def test_a_profile(tmp_path, capsys):
    profile.main(['--model', 'inception_resnet_v1', '--width', '.0625', '--px', '75', '--bs', '2',
                  '--rounds', '1', '--steps', '1', '--device', 'cpu', '--records', str(tmp_path)])
    r = json.loads((tmp_path / 'profile-inception_resnet_v1-75px-cpu.json').read_text())
    assert (abs(sum(k['share'] for k in r['kinds'].values()) - 1) < .001
            and r['kinds'].keys() == {*profile.OPERATIONS, profile.BESIDE, profile.REST})
    assert len(r['kernels']) == 15 and r['of_matrix_rate'] > 0 and r['busy'] > 0
    assert (tmp_path / 'profile-inception_resnet_v1-75px-cpu.png').stat().st_size > 5000
    assert '| convolution, backward |' in capsys.readouterr().out


def test_steps_ask_for_data(capsys):
    with pytest.raises(SystemExit): steps.main(['--preset', 'tiny'])
    assert 'give --data, a folder' in capsys.readouterr().err


@pytest.mark.slow
@TIMM
def test_memory_of_one_contender(monkeypatch):
    monkeypatch.chdir(root)
    o = run.parse(['--train', '--quick', '--device', 'cpu', '--models', 'inception_v4.released'])
    found = run.alone(o, 'train-inception_v4-demo', 'ours', 'train')
    assert found is None and not Path('/proc/self/status').exists() or found > 2**27


@pytest.mark.parametrize('device', ['cpu', 'meta'])
def test_a_cpu_compiles_answers_only(device):
    "Compiling a training step takes a CPU many minutes"
    o = run.parse(['--train', '--quick', '--compiled', '--device', device])
    assert all(any('compiled' in k for k in ways) == (device != 'cpu') for _, ways, *_ in run.train(o))
