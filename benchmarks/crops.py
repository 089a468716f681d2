"""What does it cost to evaluate 144 crops? `python -m benchmarks.crops`

Images a second on the CPU, at the size of the demo: 144 crops as `predict` does them, and as a loop does that opens the
image again for every view and shows them to the network one at a time; a single crop, and timm's way to it (its
transform and loader, where timm is installed). All in one process, with one thread, the same network and the same
files; ways take turns, and the median of their turns counts.
"""
import argparse
import json
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from matplotlib import get_data_path
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from inception_repro.architecture.networks import create_model
from inception_repro.evaluation.crops import crops_144
from inception_repro.evaluation.predict import predict
from inception_repro.evaluation.validation import valid_images
from inception_repro.support.files import atomic_write
from inception_repro.training.records import environment

SIZE, OUT = 75, Path(__file__).parent / 'records' / 'crops.json'


def photographs(folder, n, wh):
    "JPEGs cut from a photograph that comes with matplotlib, as `folder/val/<class>/`"
    photo = Image.open(f'{get_data_path()}/sample_data/grace_hopper.jpg')
    for i in range(n):
        path = Path(folder) / f'val/{"ab"[i % 2]}/{i:04}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        photo.resize(wh, box=(j := i % 50, j, 400 + j, 400 * wh[1] // wh[0] + j)).save(path, quality=90)
    return valid_images(folder)


class Views(Dataset):
    "One view an item: open, resize, cut"
    def __init__(self, images):
        self.images, self.todo = images, []
        for name in images.names:
            with Image.open(images.root / name) as im:
                self.todo += [(name, *c) for c in crops_144(*im.size, SIZE) for _ in range(c.weight)]

    def __len__(self): return len(self.todo)

    def __getitem__(self, i):
        name, whole, box, mirror, _ = self.todo[i]
        with Image.open(self.images.root / name) as im:
            v = im.convert('RGB').resize(whole, Image.Resampling.BILINEAR).crop(box).resize(
                (SIZE, SIZE), Image.Resampling.BILINEAR)
        if mirror: v = v.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(v)).permute(2, 0, 1).float().div_(127.5).sub_(1)


@torch.inference_mode()
def naive(net, images):
    "One view at a time through a loader"
    p = torch.cat([net(x).softmax(1) for x in DataLoader(Views(images), batch_size=1)])
    return p.view(len(images), 144, -1).mean(1).numpy()


@torch.inference_mode()
def by_timm(net, images):
    "timm's transform and loader, as its validate script has them"
    from timm.data import ImageDataset, create_loader
    loader = create_loader(ImageDataset(str(images.root / 'val')), (3, SIZE, SIZE), 32, use_prefetcher=False,
                           interpolation='bilinear', mean=(.5,) * 3, std=(.5,) * 3, num_workers=0, crop_pct=.875,
                           device=torch.device('cpu'))
    return torch.cat([net(x.contiguous(memory_format=torch.channels_last)).softmax(1) for x, _ in loader]).numpy()


def measure(net, few, many, folder, turns, peer):
    "Images a second of every way, and how far the 144 crops of both ways are apart"
    ours = lambda images, crops: predict(net, images, folder, crops, SIZE, workers=1, progress=False, fresh=True).p
    ways = {'144 crops': (few, lambda: ours(few, 144)), '144 crops, naive': (few, lambda: naive(net, few)),
            '1 crop': (many, lambda: ours(many, 1))}
    if peer: ways['1 crop, timm'] = many, lambda: by_timm(net, many)
    seconds, p = {k: [] for k in ways}, {}
    for _ in range(turns):
        for name, (_, f) in ways.items():
            began = time.perf_counter()
            p[name] = f()
            seconds[name].append(time.perf_counter() - began)
    rate = {k: len(ways[k][0]) / median(v) for k, v in seconds.items()}
    return rate, float(abs(p['144 crops'] - p['144 crops, naive']).max())


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--images', type=int, default=4, help='for 144 crops; 200 times as many for one')
    ap.add_argument('--turns', type=int, default=3)
    ap.add_argument('--width', type=float, default=.25)
    ap.add_argument('--out', type=Path, default=OUT)
    args = ap.parse_args()
    torch.set_num_threads(1)
    try: import timm
    except ImportError: timm = None
    torch.manual_seed(0)
    net = create_model('inception_resnet_v1', num_classes=2, width=args.width).eval().to(
        memory_format=torch.channels_last)
    rows = []
    with TemporaryDirectory() as tmp:
        for wh in (500, 375), (64, 64):
            few, many = (photographs(Path(tmp) / f'{wh[0]}-{n}', n, wh) for n in (args.images, 200 * args.images))
            rate, apart = measure(net, few, many, Path(tmp) / 'predictions', args.turns, timm)
            ratios = {'144 crops': rate['144 crops'] / rate['144 crops, naive']}
            if timm: ratios['1 crop'] = rate['1 crop'] / rate['1 crop, timm']
            rows.append(dict(images='{}x{}'.format(*wh), images_per_second={k: round(v, 2) for k, v in rate.items()},
                             ratio={k: round(v, 2) for k, v in ratios.items()}, largest_difference=apart))
            print(rows[-1], flush=True)
    about = dict(network='inception_resnet_v1', width=args.width, size=SIZE, images=args.images,
                 turns=args.turns, threads=1)
    atomic_write(args.out, json.dumps({**about, 'timm': getattr(timm, '__version__', None), 'rows': rows,
                                       'environment': environment()}, indent=1) + '\n')
    if min(r['ratio']['144 crops'] for r in rows) < 3:
        raise SystemExit('144 crops are less than three times as fast as the naive loop')


if __name__ == '__main__': main()
