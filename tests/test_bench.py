"""The benchmarks of the repository: what they compare, what they write.

Not in a notebook: they are not in the package, and need peers and processes.
"""
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from inception_repro.models import create_model

root = Path(__file__).parents[1]
sys.path.append(str(root))  # behind the package that is tested
run = pytest.importorskip('benchmarks.run')
from benchmarks import bf16, peers, tables  # noqa: E402

TIMM = pytest.mark.skipif('timm' not in peers.versions(), reason='needs timm')


def row(name, *seconds): return dict(name=name, images_per_second=1 / min(seconds), seconds=list(seconds))


def test_who_is_ahead():
    rows = [row('timm', 4., 4.), row('engine', 2., 3.), row('ours, slow', 5., 5.), row('ours, fast', 1., 2.),
            dict(name='absent', skipped='ImportError'), row('ours bf16', .5, .5)]
    assert tables.ahead(rows, False) == ('ours, fast', 'engine', 1.75, 1.5, 2.)
    assert tables.ahead(rows, True) is None
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
        for n in 3, 4: yield f'size-{n}', contenders(ours=lambda: lambda: torch.compile(net, backend=backend)(torch.ones(n))), 1
    monkeypatch.setitem(run.KINDS, 'infer', fake)
    run.main(['--infer', '--quick', '--device', 'cpu'])
    assert sizes == [3, 4] and all(isinstance(n, int) for n in sizes)


def test_what_fewer_digits_cost(tmp_path):
    from PIL import Image
    from safetensors.torch import save_file
    g = torch.Generator().manual_seed(0)
    for i in range(8):
        path = tmp_path / f'images/val/{"ab"[i % 2]}/{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(torch.randint(256, (80, 90, 3), generator=g).to(torch.uint8).numpy()).save(path)
    torch.manual_seed(0)
    save_file(create_model('inception_resnet_v1', num_classes=2).state_dict(), tmp_path / 'inception_resnet_v1.safetensors')
    bf16.main([str(tmp_path / 'inception_resnet_v1.safetensors'), '--data', str(tmp_path / 'images'), '--out', str(tmp_path / 'o.json')])
    rows = {r['way']: r for r in json.loads((tmp_path / 'o.json').read_text())['networks']['inception_resnet_v1']}
    assert rows['as built']['largest'] == 0 and rows['fast']['largest'] < 1e-5
    assert rows['fast']['largest'] < rows['fast, bf16']['largest'] < .1
    assert all(r['images'] == 8 and r['mean'] <= r['largest'] for r in rows.values())


@TIMM
def test_answers_of_peers_are_ours():
    "At a size for which it takes seconds, every peer that is installed gives our logits"
    o = run.parse(['--infer', '--quick', '--device', 'cpu', '--models', 'inception_resnet_v2.released', '--bf16'])
    for _, ways, _ in run.infer(o): check(ways)


def check(ways):
    want = None
    for name, prepare in ways.items():
        try: got = prepare()().float()
        except ImportError: continue
        except (ValueError, RuntimeError):
            assert name in ('torchvision', 'pytorchcv')  # not this network, not this size
            continue
        if want is None: want = got
        assert (got - want).abs().max() < (.1 if 'bf16' in name else 1e-4) * want.abs().max(), name


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
    assert all(any('compiled' in k for k in ways) == (device != 'cpu') for _, ways, _ in run.train(o))
