"""What do fewer digits cost? `python -m benchmarks.bf16 WEIGHTS --data FOLDER`

Trained networks, as `inception-repro evaluate` takes them, on real images, one crop each: the errors, and the largest
and the mean change of a probability against the network as it was built in float32, for `fast` in float32 and in bf16
and for bf16 autocast.
"""
import argparse
import json
from pathlib import Path

import torch

from inception_repro.evaluation.evaluate import candidates, evaluation_images
from inception_repro.evaluation.crops import crops_1
from inception_repro.evaluation.predict import averaged
from inception_repro.rewrites.fast import fast
from inception_repro.support.files import atomic_write
from inception_repro.training.records import environment

OUT = Path(__file__).parent / 'records' / 'bf16.json'
WAYS = {'as built': (lambda net: net, 'float32'), 'fast': (fast, 'float32'),
        'fast, bf16': (lambda net: fast(net, torch.bfloat16), 'float32'),
        'as built, bf16 autocast': (lambda net: net, 'bf16')}


def probabilities(net, images, size, precision, group=32):
    "Of the images that can be read, (n, classes), and their labels"
    read = [(x, y) for i, y in enumerate(images.labels) if (x := images.read(i)[0]) is not None]
    views = [(torch.from_numpy(x).permute(2, 0, 1), crops_1(x.shape[1], x.shape[0], size)) for x, _ in read]
    parts = [averaged(net, views[i:i + group], size, group, precision=precision) for i in range(0, len(views), group)]
    return torch.cat(parts), torch.tensor([int(y) for _, y in read])


def costs(net, images, size):
    "A row for each way to ask a network"
    rows, net = [], net.eval().to(memory_format=torch.channels_last)
    for name, (way, precision) in WAYS.items():
        p, y = probabilities(way(net), images, size, precision)
        if not rows: want = p
        apart, said = (p - want).abs(), p.argmax(1)
        rows.append(dict(way=name, images=len(p), top1=100 * (said != y).double().mean().item(),
                         largest=apart.max().item(), mean=apart.mean().item(),
                         other_answers=int((said != want.argmax(1)).sum())))
    return rows


def main(args=None):
    p = argparse.ArgumentParser(prog='python -m benchmarks.bf16', description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('weights', nargs='+', help='names with public weights, files or folders of weights')
    p.add_argument('--data', help='a folder with val/ in it, or of validation images')
    p.add_argument('--runs', type=Path, help='folder of the records, if they are not beside the weights')
    p.add_argument('--out', type=Path, default=OUT)
    o = p.parse_args(args)
    todo = candidates(o.weights, o.runs)
    images, networks = evaluation_images(o.data, todo, None), {}
    print('| network | way | top-1 error, % | largest change | mean change | other answers |\n'
          '| - | - | - | - | - | - |')
    for c in todo:
        networks[c.name] = costs(c.build(len(images.classes)), images, c.size)
        for r in networks[c.name]:
            print(f"| {c.name} | {r['way']} | {r['top1']:.2f} | {r['largest']:.2g} | "
                  f"{r['mean']:.2g} | {r['other_answers']} of {r['images']} |")
    atomic_write(o.out, json.dumps(dict(data=images.name, stamp=images.stamp, networks=networks,
                                        environment=environment()), indent=1) + '\n')


if __name__ == '__main__': main()
