"""What `keeping_memory` changes in a training step: `python -m benchmarks.memory`

Each round trains each network for a few steps in a new process with it, and in another without it, in an order that
alternates. Ratios of the processor time of a step, with over without: their median and quartiles over rounds.
"""
import argparse
import json
import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from time import process_time

import torch

from inception_repro.architecture.build import build
from inception_repro.results.train_many import FOUR
from inception_repro.support.files import atomic_write
from inception_repro.support.processes import keeping_memory
from inception_repro.training.recipe import network_of, preset
from inception_repro.training.records import environment

from .steps import spread

OUT = Path(__file__).parent / 'records' / 'memory.json'
WARM = 3 # steps before the first that counts

def step_seconds(model, steps):
    "Processor time of a forward and backward pass as in the demo: the median of `steps`"
    torch.set_num_threads(1)
    torch.manual_seed(0)
    r, found = preset('demo', model), []
    net = build(network_of(r, r.classes)).to(memory_format=torch.channels_last).train()
    x = torch.randn(r.bs, 3, r.px, r.px).contiguous(memory_format=torch.channels_last)
    y = torch.randint(r.classes, (r.bs,))
    for _ in range(WARM + steps):
        began = process_time()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        net.zero_grad()
        found.append(process_time() - began)
    return median(found[WARM:])

def in_new_process(model, steps, kept):
    with keeping_memory() if kept else nullcontext(), ProcessPoolExecutor(1, mp.get_context('spawn')) as pool:
        return pool.submit(step_seconds, model, steps).result()

def main(argv=None):
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--rounds', type=int, default=5)
    ap.add_argument('--steps', type=int, default=15, help='a round')
    ap.add_argument('--out', type=Path, default=OUT)
    args = ap.parse_args(argv)
    found = {m: [] for m in FOUR}
    for i in range(args.rounds):
        for m in FOUR:
            order = (True, False) if i % 2 else (False, True)
            found[m].append({k: in_new_process(m, args.steps, k) for k in order})
    networks = {m: dict(kept_ms=spread([1000 * o[True] for o in times], 1), ratio=spread(
        [o[True] / o[False] for o in times])) for m, times in found.items()}
    for m, o in networks.items(): print(f"{m:20} {o['kept_ms']['median']:6.1f} ms, ratio {o['ratio']['median']:.2f}")
    record = dict(preset='demo', rounds=args.rounds, steps=args.steps, networks=networks)
    atomic_write(args.out, json.dumps(dict(record, environment=dict(environment('cpu'), threads=1)), indent=1) + '\n')

if __name__ == '__main__': main()
