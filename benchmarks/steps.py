"""Where the time of a training step goes, network by network: `python -m benchmarks.steps`

The four networks of the paper as a preset trains them, step about, so that whatever else the machine does meets all of
them. Medians over rounds; `data`, `optimizer` (with the clipping) and `average` are what a step costs beside the
network itself. `memory` is what the optimizer and the average cost at the least where a network's numbers do not stay
in the cache: the bytes they must move, at the rate of a copy on this machine.
"""
import argparse
import json
import time
from pathlib import Path
from statistics import median, quantiles

import torch

from inception_repro.architecture.cost import params
from inception_repro.results.train_many import FOUR
from inception_repro.training.learner import load_data, profile_step
from inception_repro.training.recipe import PRESETS, network_of, preset
from inception_repro.support.files import atomic_write
from inception_repro.training.records import environment

RECORDS = Path(__file__).parent / 'records'
BESIDE = 'data', 'optimizer', 'average'
# vectors: gradient read twice; parameter, mean square and momentum read and written;
# for the average both read, one written
MOVED = 11

def spread(values, digits=3):
    "Median and quartiles"
    low, _, high = quantiles(values, n=4, method='inclusive') if len(values) > 1 else values * 3
    return dict(median=round(median(values), digits), quartiles=[round(low, digits), round(high, digits)])

def bandwidth(device, n=2**26, times=7):
    "Bytes a second, read and written, of a copy of `n` numbers"
    a, b, seconds = torch.rand(n, device=device), torch.zeros(n, device=device), []
    for _ in range(times):
        began = time.perf_counter()
        b.copy_(a)
        b[-1].item() # waits for the device
        seconds.append(time.perf_counter() - began)
    return 8 * n / median(seconds)

def main(argv=None):
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--preset', default='demo', choices=PRESETS)
    ap.add_argument('--data', type=Path,
                    help="folder of images, for a preset whose images can be neither generated nor downloaded")
    ap.add_argument('--device', default='cpu')
    ap.add_argument('--threads', type=int, default=1, help='as in a run side by side with others')
    ap.add_argument('--rounds', type=int, default=5)
    ap.add_argument('--steps', type=int, default=15, help='a round')
    ap.add_argument('--out', type=Path,
                    help='by default records/steps.json, or for another preset or device steps-PRESET-DEVICE.json')
    args = ap.parse_args(argv)
    own = (args.preset, args.device) == ('demo', 'cpu')
    out = args.out or RECORDS / ('steps.json' if own else f'steps-{args.preset}-{args.device}.json')
    torch.set_num_threads(args.threads)
    try: data = load_data(preset(args.preset), args.data, progress=False)
    except (ValueError, OSError) as e: ap.error(str(e).replace('data=', '--data'))
    found = {m: [] for m in FOUR}
    rate = bandwidth(args.device)
    for _ in range(args.rounds):
        for m in FOUR: found[m].append(profile_step(preset(args.preset, m), data, args.device, args.steps))
    networks = {}
    for m, times in found.items():
        times = [{k: 1000 * s for k, s in t.items()} for t in times]
        whole = [sum(t.values()) for t in times]
        share = [100 * sum(t[k] for k in BESIDE) / w for t, w in zip(times, whole)]
        memory = 1000 * MOVED * 4 * params(network_of(preset(args.preset, m), len(data.classes))) / rate
        networks[m] = dict({k: spread([t[k] for t in times]) for k in times[0]}, step=spread(whole),
                           memory=round(memory, 3), beside_percent=round(median(share), 2))
        print(f"{m:20} {networks[m]['step']['median']:7.1f} ms  "
              + '  '.join(f"{k} {networks[m][k]['median']:.1f}" for k in times[0])
              + f"  data, optimizer and average {networks[m]['beside_percent']:.1f} %, memory {memory:.1f}")
    env = dict(environment(args.device), threads=args.threads)
    record = dict(preset=args.preset, rounds=args.rounds, steps=args.steps, unit='ms',
                  copy_gb_s=round(rate / 1e9, 2), networks=networks)
    atomic_write(out, json.dumps(dict(record, environment=env), indent=1) + '\n')

if __name__ == '__main__': main()
