"""Ours against peers, in turns, in one process.

    python -m benchmarks.run                       everything, at the sizes of the records
    python -m benchmarks.run --infer --px 299      answers only
    python -m benchmarks.run --train --bf16        training steps, in bf16 too
    python -m benchmarks.run --train --infer --bf16 --compiled --device cuda --missing
                                                   every network at 299 px, 128 images a step;
                                                   again after a cut: goes on
    python -m benchmarks.run --quick               the smallest sizes, one round: does it run?

Each race prints a table of ratios, the first row being what the others are compared with, and is kept in
benchmarks/records/NAME-DEVICE.json with versions and device; README.md beside it has all tables. Peers that are not
installed are left out, with a word: `pip install -e '.[bench]'` brings them. A network that no peer has with the same
weights races against itself as it is commonly written; rows that begin with 'beside' are the nearest network of timm's.
A record is written as soon as its race is over, and `--missing` leaves out the races whose records are there: with the
same device, versions, contenders, images and rounds. A race that is cut is run again; what was compiled for it lies in
torch's cache (TORCHINDUCTOR_CACHE_DIR), and `--ways bf16` compiles half as much. OMP_NUM_THREADS says with how many
threads all of them compute on a CPU.
"""
import argparse
import copy
import json
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks import peers
from benchmarks.tables import RECORDS, write_tables
from inception_repro.architecture.build import build
from inception_repro.architecture.cost import macs
from inception_repro.architecture.networks import configure, create_model
from inception_repro.benchmarking import bench
from inception_repro.benchmarking.bench import race, table, write_bench
from inception_repro.data.load import load
from inception_repro.rewrites.fast import fast, keep_memory
from inception_repro.rewrites.fold import randomize_batchnorm
from inception_repro.training.learner import evaluate
from inception_repro.training.records import environment, processor

RESIDUAL = 'inception_v4.released', 'inception_resnet_v2.released'


def parse(args=None):
    p = argparse.ArgumentParser(prog='python -m benchmarks.run', description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind in KINDS: p.add_argument(f'--{kind}', action='store_true', help=KINDS[kind].__doc__)
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    p.add_argument('--models', nargs='+', choices=peers.MODELS, metavar='NAME',
                   help=f"of {', '.join(peers.MODELS)}; by default all on a GPU, {' and '.join(RESIDUAL)} on a CPU")
    p.add_argument('--px', nargs='+', type=int,
                   help="sides of the images, by default 299, and on a CPU 75; "
                        "training takes the largest, and 75 for the demo's networks")
    p.add_argument('--bs', type=int, help='images a step, by default 128 on a GPU and 8 on a CPU')
    p.add_argument('--rounds', type=int, default=7)
    p.add_argument('--bf16', action='store_true', help='in bf16 as well')
    p.add_argument('--ways', metavar='PATTERN',
                   help='only contenders in whose names it is found, such as bf16; the record is of these alone')
    p.add_argument('--missing', action='store_true', help='leave out races that have such a record already')
    p.add_argument('--tuned', action='store_true', help="cuDNN's benchmark mode, for all")
    p.add_argument('--compiled', action='store_true',
                   help='compiled as well, minutes for each network; training on a GPU only')
    p.add_argument('--workers', type=int, default=2, help='processes that decode images')
    p.add_argument('--quick', action='store_true', help='the smallest sizes, one round, no record')
    p.add_argument('--only', help='one contender of one race, by itself: its peak memory')
    p.add_argument('--records', type=Path, default=RECORDS)
    o = p.parse_args(args)
    gpu = torch.device(o.device).type != 'cpu'
    o.models, o.bs = o.models or (peers.MODELS if gpu else RESIDUAL), o.bs or (128 if gpu else 8)
    o.px = o.px or ([299] if gpu else [299, 75])
    if o.quick: o.px, o.bs, o.rounds = [75], 2, 1
    return o


def work(name, px, ways, times=1):
    "Multiply-adds for an image of each contender; a training step takes three times those of an answer"
    one = lambda name: times * macs(configure(name), (px, px, 3))
    return {k: one(peers.NEAREST[name] if k.startswith('beside') else name) for k in ways}


def labelled(o, bs, px):
    g = torch.Generator().manual_seed(0)
    return torch.randn(bs, 3, px, px, generator=g).to(o.device), torch.randint(1000, (bs,), generator=g).to(o.device)


def infer(o):
    "answers: timm, torchvision, pytorchcv, ONNX Runtime, OpenVINO, ours"
    for name in o.models:
        for px in o.px:
            x, _ = labelled(o, o.bs, px)
            peer = peers.timm_net(name) if name in peers.TIMM else None
            torch.manual_seed(0)
            net = (peers.same_as(peer, name) if peer else randomize_batchnorm(create_model(name).eval())).to(o.device)
            with TemporaryDirectory() as folder:
                ways = peers.answering(name, peer, x, Path(folder), o.bf16, o.compiled) if peer else {}
                ways |= {f'ours, {k}': v for k, v in bench.answering(net, x, o.bf16, o.compiled).items()}
                ways |= peers.nearest_answering(name, x, o.bf16, o.compiled)
                yield f'infer-{name}-{px}px', ways, o.bs, work(name, px, ways)


def train(o):
    "training steps: timm's and torchvision's networks and optimizers, ours; and the demo's networks"
    (x, y), compiled = labelled(o, o.bs, px := max(o.px)), o.compiled and o.device != 'cpu'
    for name in o.models:
        own = bench.training(configure(name), x, y, o.bf16, compiled)
        ours = {k: v for k, v in own.items() if k.startswith('ours')}
        if name in peers.TIMM: ways = peers.training(name, x, y, o.bf16, compiled) | ours
        else:
            hand = ({k: v for k, v in own.items() if k not in ours}
                    | peers.by_hand(configure(name), x, y, o.bf16, compiled))
            ways = hand | ours | peers.nearest_training(name, x, y, o.bf16, compiled)
        yield f'train-{name}-{px}px', ways, o.bs, work(name, px, ways, 3)
    x, y = labelled(o, o.bs if o.quick else 32, 75)
    for name in dict.fromkeys(n.split('.')[0] for n in o.models if 75 in o.px):
        value = configure(name, num_classes=1000, width=1/16 if o.quick else .25)
        new = lambda value=value: build(value).to(o.device)
        ways = {"unmerged, timm's optimizer": lambda new=new: peers.timm_step(new(), x, y, per_tensor=True),
                "unmerged, timm's optimizer, channels last": lambda new=new: peers.timm_step(
                    new().to(**peers.LAST), x.contiguous(**peers.LAST), y, per_tensor=True)}
        yield (f'train-{name}-demo', ways | bench.training(value, x, y, compiled=compiled), len(x),
               3 * macs(value, (75, 75, 3)))


def validation(o):
    "a validation set: logits, loss and errors"
    for name in o.models:
        if name not in peers.TIMM: continue
        peer = peers.timm_net(name).to(o.device)
        net = peers.same_as(peer, name).to(o.device)
        batches = [labelled(o, o.bs, o.px[0]) for _ in range(2 if o.quick else 8)]
        ways = {'timm': lambda: peers.validating(copy.deepcopy(peer), batches),
                'ours': lambda: partial(evaluate, [copy.deepcopy(net)], batches),
                'ours, fast': lambda: partial(evaluate, [fast(net)], batches)}
        yield f'eval-{name}-{o.px[0]}px', ways, o.bs * len(batches), work(name, o.px[0], ways)


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
            'torchvision, colours': lambda: peers.image_folder(small / 'train', 75, 32, o.workers, True),
            'ours, in memory': lambda: loader(small, 75)}, n // 32 * 32
        px, count = 75 if o.quick else 299, n // 4 // 4 * 4
        yield f'data-decode-{px}px', {
            "torchvision's ImageFolder": lambda: peers.image_folder(large / 'train', px, 8, o.workers),
            "torchvision's ImageFolder, colours": lambda: peers.image_folder(large / 'train', px, 8, o.workers, True),
            'ours, from files': lambda: streaming(large, px, o)}, count // 8 * 8


def streaming(folder, px, o):
    "Our loader of a dataset that is too large for memory"
    dls = load(folder, px, max_bytes=1, progress=False).dataloaders(8, px, device=o.device, workers=o.workers)
    return partial(peers.exhaust, dls.train)


KINDS = dict(infer=infer, train=train, eval=validation, data=data)


def alone(o, name, contender, kind):
    "Peak memory of one contender in a process of its own, bytes"
    keep = {'only', 'records', 'models', 'px', 'ways', *KINDS}
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


def kept(o, path, ways, settings):
    "Whether such a race has a record: of the same device, with the same versions, contenders, images and rounds"
    if not path.exists(): return False
    r, env = json.loads(path.read_text()), environment(o.device)
    (rows,), same = r['races'].values(), {'device', 'torch'}
    if o.device == 'cpu': same, env['threads'] = same | {'threads'}, torch.get_num_threads()
    else: settings = {k: v for k, v in settings.items() if k != 'processor'}  # a CPU's
    had = dict(tuned=False) | r['settings']
    return {row['name'] for row in rows} == set(ways) and all(r['env'][k] == env[k] for k in same) and \
        all(had[k] == v for k, v in settings.items())


def main(args=None):
    o, failed = parse(args), []
    torch.backends.cudnn.benchmark = o.tuned
    keeps = o.device == 'cpu' and keep_memory()  # for all contenders, and for those that run alone
    say = lambda name: print(f'  {time.strftime("%H:%M:%S")} {name} …', file=sys.stderr, flush=True)
    for kind, races in KINDS.items():
        if not getattr(o, kind) and any(getattr(o, k) for k in KINDS): continue
        for name, ways, images, *cost in races(o):
            if o.only:
                race_name, _, contender = o.only.partition(':')
                if race_name == name:
                    step = ways[contender]()
                    for _ in range(2): step()  # gradients and state are there in the second
                    print(peak())
                continue
            ways = {k: v for k, v in ways.items() if re.search(o.ways or '', k)}
            settings = dict(images=images, rounds=o.rounds, workers=o.workers, tuned=o.tuned,
                            memory_kept=keeps, processor=processor(), versions=peers.versions())
            path = o.records / f'{name}-{o.device}.json'
            if not ways or o.missing and kept(o, path, ways, settings):
                print(f'\n{name}, {o.device}: {"there already" if ways else "no such contender"}', flush=True)
                continue
            # else it takes another race's sizes for the same network's, and compiles for any size
            torch.compiler.reset()
            try:
                rows = race(ways, images, o.rounds, turn=0 if o.quick else .5, device=o.device,
                            macs=cost[0] if cost else None, say=say)
            except ValueError as e:  # nobody can run
                failed.append(f'{name}: {e}')
                continue
            if kind == 'train' and o.device == 'cpu':
                for r in rows:  # a compiler's own memory says nothing about a step's
                    if 'skipped' not in r and 'compiled' not in r['name']: r['memory'] = alone(o, name, r['name'], kind)
            threads = torch.get_num_threads()
            print(f'\n{name}, {o.device}, {threads} threads, {o.rounds} rounds\n\n{table(rows)}', flush=True)
            if not o.quick:
                write_bench(path, {name: rows}, o.device, **settings)
                write_tables(o.records)
    if failed: sys.exit('\n'.join(failed))


if __name__ == '__main__': main()
