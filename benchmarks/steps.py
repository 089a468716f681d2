"""Where the time of a training step goes, network by network: `python -m benchmarks.steps`

The four networks of the paper as a preset trains them, step about, so that whatever else the machine does meets all of them. Medians over
rounds; `data`, `optimizer` (with the clipping) and `average` are what a step costs beside the network itself.
"""
import argparse
import json
from pathlib import Path
from statistics import median, quantiles

import torch

from inception_repro.learner import load_data, profile_step
from inception_repro.recipe import preset
from inception_repro.records import atomic_write, environment
from inception_repro.reproduce import FOUR

OUT = Path(__file__).parent / 'records' / 'steps.json'
BESIDE = 'data', 'optimizer', 'average'

def spread(values, digits=3):
    "Median and quartiles"
    low, _, high = quantiles(values, n=4, method='inclusive')
    return dict(median=round(median(values), digits), quartiles=[round(low, digits), round(high, digits)])

def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--preset', default='demo')
    ap.add_argument('--device', default='cpu')
    ap.add_argument('--threads', type=int, default=1, help='as in a run side by side with others')
    ap.add_argument('--rounds', type=int, default=5)
    ap.add_argument('--steps', type=int, default=15, help='a round')
    ap.add_argument('--out', type=Path, default=OUT)
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    data, found = load_data(preset(args.preset), progress=False), {m: [] for m in FOUR}
    for _ in range(args.rounds):
        for m in FOUR: found[m].append(profile_step(preset(args.preset, m), data, args.device, args.steps))
    networks = {}
    for m, times in found.items():
        times = [{k: 1000 * s for k, s in t.items()} for t in times]
        whole = [sum(t.values()) for t in times]
        share = [100 * sum(t[k] for k in BESIDE) / w for t, w in zip(times, whole)]
        networks[m] = dict({k: spread([t[k] for t in times]) for k in times[0]}, step=spread(whole), beside_percent=round(median(share), 2))
        print(f"{m:20} {networks[m]['step']['median']:7.1f} ms  " + '  '.join(f"{k} {networks[m][k]['median']:.1f}" for k in times[0]) +
              f"  data, optimizer and average {networks[m]['beside_percent']:.1f} %")
    env = dict(environment(args.device), threads=args.threads)
    atomic_write(args.out, json.dumps(dict(preset=args.preset, rounds=args.rounds, steps=args.steps, unit='ms', networks=networks,
                                           environment=env), indent=1) + '\n')

if __name__ == '__main__': main()
