"""What does it cost to watch a network train? `python -m benchmarks.watch`

Inception-ResNet-v2 as the demo trains it, optimizer and running average included, with `activity` on every block and
without, in turns of twenty steps. Percent of a step, medians and quartiles over turns: for the default, one measured
step in twenty; for one in five, as often as the experiment of §3.3 measures a run of 200 steps (there three blocks
only); and for every step.
"""
import argparse
import json
from pathlib import Path
from statistics import median

import torch

from benchmarks.steps import spread
from inception_repro.architecture.build import build
from inception_repro.benchmarking.bench import ours
from inception_repro.benchmarking.bench import race
from inception_repro.training.activity import activity
from inception_repro.training.recipe import network_of, preset
from inception_repro.support.files import atomic_write
from inception_repro.training.records import environment

OUT, MODEL, STEPS = Path(__file__).parent / 'records' / 'watch.json', 'inception_resnet_v2', 20


def contender(recipe, every, x, y, watched):
    "Twenty training steps, with hooks unless `every` is None"
    torch.manual_seed(0)
    net = build(network_of(recipe, recipe.classes)).to(x.device)
    step = ours(net, x, y, merge=False)
    if every: watched[every] = activity(net, every=every)
    def turn():
        for _ in range(STEPS): step()
    return turn


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--device', default='cpu')
    ap.add_argument('--threads', type=int, default=1, help='as in a run side by side with others')
    ap.add_argument('--rounds', type=int, default=9)
    ap.add_argument('--width', type=float, help='factor on the number of filters; the demo’s unless given')
    ap.add_argument('--out', type=Path, default=OUT)
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    recipe, watched = preset('demo', MODEL, **dict(width=args.width) if args.width else {}), {}
    x = torch.randn(recipe.bs, 3, recipe.px, recipe.px, generator=torch.Generator().manual_seed(0)).to(args.device)
    y = torch.arange(recipe.bs, device=args.device) % recipe.classes
    ways = {str(k): lambda k=k: contender(recipe, k, x, y, watched) for k in (None, 20, 5, 1)}
    plain, *others = race(ways, recipe.bs * STEPS, args.rounds, turn=0, device=args.device)
    if not all(a.rows for a in watched.values()): raise RuntimeError('nothing was watched')
    percent = {}
    for r in others:
        more = [100 * (b / a - 1) for a, b in zip(plain['seconds'], r['seconds'])]
        percent[r['name']] = spread(more, 2)
        print(f"every {r['name']:>2} steps: {percent[r['name']]}")
    env = dict(environment(args.device), threads=args.threads)
    step = 1000 * median(plain['seconds']) / STEPS
    result = dict(model=MODEL, width=recipe.width, px=recipe.px, bs=recipe.bs, layers=len(watched[20].layers),
                  steps=STEPS, rounds=args.rounds, step_ms=round(step, 1), percent=percent, environment=env)
    atomic_write(args.out, json.dumps(result, indent=1) + '\n')


if __name__ == '__main__': main()
