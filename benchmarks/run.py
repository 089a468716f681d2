"""Ours against peers, in turns, in one process.

    python -m benchmarks.run                       everything, at the sizes of the records
    python -m benchmarks.run --infer --px 299      answers only
    python -m benchmarks.run --train --bf16        training steps, in bf16 too
    python -m benchmarks.run --quick               the smallest sizes, one round: does it run?

Each race prints a table of ratios, the first row being what the others are compared with, and is kept in
benchmarks/records/NAME-DEVICE.json with versions and device; README.md beside it has all tables. Peers that are not
installed are left out, with a word: `pip install -e '.[bench]'` brings them. OMP_NUM_THREADS says with how many
threads all of them compute on a CPU.
"""
import argparse
import platform
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks import peers
from benchmarks.tables import RECORDS, write_tables
from inception_repro import bench
from inception_repro.data import load
from inception_repro.fast import fast
from inception_repro.learner import evaluate
from inception_repro.models import configure
from inception_repro.net import build
from inception_repro.race import race, table, write_bench

RESIDUAL = 'inception_v4.released', 'inception_resnet_v2.released'


def parse(args=None):
    p = argparse.ArgumentParser(prog='python -m benchmarks.run', description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind in KINDS: p.add_argument(f'--{kind}', action='store_true', help=KINDS[kind].__doc__)
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    p.add_argument('--models', nargs='+', default=RESIDUAL, choices=list(peers.TIMM))
    p.add_argument('--px', nargs='+', type=int, default=[299, 75], help='sides of the images of answers')
    p.add_argument('--bs', type=int, default=8)
    p.add_argument('--rounds', type=int, default=7)
    p.add_argument('--bf16', action='store_true', help='in bf16 as well')
    p.add_argument('--compiled', action='store_true', help='compiled as well, minutes for each network; training on a GPU only')
    p.add_argument('--workers', type=int, default=2, help='processes that decode images')
    p.add_argument('--quick', action='store_true', help='the smallest sizes, one round, no record')
    p.add_argument('--only', help='one contender of one race, by itself: its peak memory')
    p.add_argument('--records', type=Path, default=RECORDS)
    o = p.parse_args(args)
    if o.quick: o.px, o.bs, o.rounds = [75], 2, 1
    return o


def labelled(o, bs, px):
    g = torch.Generator().manual_seed(0)
    return torch.randn(bs, 3, px, px, generator=g).to(o.device), torch.randint(1000, (bs,), generator=g).to(o.device)


def infer(o):
    "answers: timm, torchvision, pytorchcv, ONNX Runtime, OpenVINO, ours"
    for name in o.models:
        for px in o.px:
            peer = peers.timm_net(name).to(o.device)
            net, (x, _) = peers.same_as(peer, name).to(o.device), labelled(o, o.bs, px)
            with TemporaryDirectory() as folder:
                ways = peers.answering(name, peer, x, Path(folder), o.bf16, o.compiled)
                ways |= {f'ours, {k}': v for k, v in bench.answering(net, x, o.bf16, o.compiled).items()}
                yield f'infer-{name}-{px}px', ways, o.bs


def train(o):
    "training steps: timm's network and optimizer, ours; at 299 px, and the demo's networks"
    (x, y), compiled = labelled(o, o.bs, 75 if o.quick else 299), o.compiled and o.device != 'cpu'
    for name in o.models:
        ways, own = peers.training(name, x, y, o.bf16, compiled), bench.training(configure(name), x, y, o.bf16, compiled)
        yield f'train-{name}-{x.shape[-1]}px', ways | {k: v for k, v in own.items() if k.split(',')[0] != 'by hand'}, o.bs
    x, y = labelled(o, o.bs if o.quick else 32, 75)
    for name in [n.split('.')[0] for n in o.models]:
        value = configure(name, num_classes=1000, width=1/16 if o.quick else .25)
        new = lambda value=value: build(value).to(o.device)
        ways = {"unmerged, timm's optimizer": lambda new=new: peers.timm_step(new(), x, y, per_tensor=True),
                "unmerged, timm's optimizer, channels last": lambda new=new: peers.timm_step(
                    new().to(**peers.LAST), x.contiguous(**peers.LAST), y, per_tensor=True)}
        yield f'train-{name}-demo', ways | bench.training(value, x, y, compiled=compiled), len(x)


def validation(o):
    "a validation set: logits, loss and errors"
    for name in o.models:
        peer = peers.timm_net(name).to(o.device)
        net = peers.same_as(peer, name).to(o.device)
        batches = [labelled(o, o.bs, o.px[0]) for _ in range(2 if o.quick else 8)]
        ways = {'timm': lambda: peers.validating(peer, batches), 'ours': lambda: partial(evaluate, [net], batches),
                'ours, fast': lambda: partial(evaluate, [fast(net)], batches)}
        yield f'eval-{name}-{o.px[0]}px', ways, o.bs * len(batches)


def write_images(folder, n, size):
    "JPEGs of the built-in images, in class folders"
    from PIL import Image
    data = load(size=64, classes=4, per_class=n // 4, valid_per_class=1)
    for side, split in ('train', data.train), ('val', data.valid):
        for i, (x, y) in enumerate(zip(split.x, split.y.tolist())):
            path = folder / side / f'class {y}' / f'{i}.jpg'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(x.permute(1, 2, 0).contiguous().numpy()).resize(size).save(path, quality=90)
    return folder / 'train'


def data(o):
    "images: augmentation of small ones, decoding of large ones"
    n = 64 if o.quick else 2048
    with TemporaryDirectory() as tmp:
        small, large = Path(tmp) / 'small', Path(tmp) / 'large'
        write_images(small, n, (64, 64))
        write_images(large, n // 4, (500, 375))
        def loader(folder, px):
            images = load(folder, 64, cache=Path(tmp) / 'cache', progress=False)
            return partial(peers.exhaust, images.dataloaders(32, px, device=o.device, workers=o.workers).train)
        yield 'data-augment-75px', {
            "fastai's RandomResizedCrop": lambda: peers.fastai_loader(small / 'train', 75, 32, o.workers),
            "fastai's, no worker processes": lambda: peers.fastai_loader(small / 'train', 75, 32, 0),
            'torchvision': lambda: peers.image_folder(small / 'train', 75, 32, o.workers),
            'ours, in memory': lambda: loader(small, 75)}, n // 32 * 32
        px, count = 75 if o.quick else 299, n // 4 // 4 * 4
        yield f'data-decode-{px}px', {
            "torchvision's ImageFolder": lambda: peers.image_folder(large / 'train', px, 8, o.workers),
            'ours, from files': lambda: streaming(large, px, o)}, count // 8 * 8


def streaming(folder, px, o):
    "Our loader of a dataset that is too large for memory"
    dls = load(folder, px, max_bytes=1, progress=False).dataloaders(8, px, device=o.device, workers=o.workers)
    return partial(peers.exhaust, dls.train)


KINDS = dict(infer=infer, train=train, eval=validation, data=data)


def alone(o, name, contender, kind):
    "Peak memory of one contender in a process of its own, bytes"
    keep = {'only', 'records', 'models', 'px', *KINDS}
    args = [f'--{k}={v}' for k, v in vars(o).items() if k not in keep and not isinstance(v, bool)]
    args += [f'--{k}' for k in ('bf16', 'compiled', 'quick') if getattr(o, k)]
    args += ['--models', *o.models, '--px', *map(str, o.px)]
    done = subprocess.run([sys.executable, '-m', 'benchmarks.run', f'--{kind}', *args, '--only', f'{name}:{contender}'],
                          capture_output=True, text=True)
    return int(done.stdout.split()[-1]) if not done.returncode and done.stdout.strip() else None


def peak():
    "The most memory that this process has had since it began, bytes"
    # not asked of the system by the parent: its count for a child includes the parent's own
    status = Path('/proc/self/status')
    return int(re.search(r'VmHWM:\s+(\d+)', status.read_text())[1]) * 1024 if status.exists() else ''


def processor():
    "Its name, and the vector instructions that torch uses"
    info = Path('/proc/cpuinfo')
    name = re.search(r'^model name\s*: (.*)', info.read_text() if info.exists() else '', re.M)
    return f'{name[1] if name else platform.processor()} ({torch.backends.cpu.get_cpu_capability()})'


def main(args=None):
    o = parse(args)
    for kind, races in KINDS.items():
        if not getattr(o, kind) and any(getattr(o, k) for k in KINDS): continue
        for name, ways, images in races(o):
            if o.only:
                race_name, _, contender = o.only.partition(':')
                if race_name == name:
                    step = ways[contender]()
                    for _ in range(2): step()  # gradients and state are there in the second
                    print(peak())
                continue
            torch.compiler.reset()  # else it takes another race's sizes for the same network's, and compiles for any size
            rows = race(ways, images, o.rounds, turn=0 if o.quick else .5, device=o.device)
            if kind == 'train' and o.device == 'cpu':
                for r in rows:  # a compiler's own memory says nothing about a step's
                    if 'skipped' not in r and 'compiled' not in r['name']: r['memory'] = alone(o, name, r['name'], kind)
            threads = torch.get_num_threads()
            print(f'\n{name}, {o.device}, {threads} threads, {o.rounds} rounds\n\n{table(rows)}', flush=True)
            settings = dict(images=images, rounds=o.rounds, workers=o.workers, processor=processor(), versions=peers.versions())
            if not o.quick:
                write_bench(o.records / f'{name}-{o.device}.json', {name: rows}, o.device, **settings)
                write_tables(o.records)


if __name__ == '__main__': main()
