"""How much faster are two processes than one? `python -m benchmarks.scaling`, on a machine with two free cores or GPUs

One recipe with as many replicas as processes is timed with one process and with several, in turns, so that a slower
moment of the machine meets all of them. Each process has the same number of threads. The efficiency is the time of one
process divided by that of W processes and by W. The bytes of the reduction are the gradients of a step, and its
milliseconds are those of the same sum without any computation. From the record, `inception-repro plan` estimates what
other numbers of processes would take. On two free cores, this takes three minutes.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from fastai.callback.core import CancelFitException

from inception_repro.cli_launch import launch
from inception_repro.support.files import atomic_write
from inception_repro.support.processes import ALONE, join, usable_cores
from inception_repro.training.fit import find_device
from inception_repro.training.learner import TrainingCallback, learner
from inception_repro.training.recipe import preset
from inception_repro.training.records import as_json, environment
from inception_repro.data.batches import Split
from inception_repro.data.load import Data

OUT = Path(__file__).parent / 'records' / 'scaling.json'
SIZES = dict(demo=dict(px=75, width=.25, bs=32), full=dict(px=299, width=1., bs=2)) # `bs`: of a replica
STEPS = dict(demo=10, full=5) # that are timed, after the first two

class Steps(TrainingCallback):
    "Seconds of every step"
    order = 100
    def __init__(self, n): self.n, self.seconds = n, []
    def after_batch(self):
        device = self.count.total.device
        if device.type == 'cuda': torch.cuda.synchronize(device)
        now = time.perf_counter()
        if hasattr(self, 'last'): self.seconds.append(now - self.last)
        self.last = now
        if len(self.seconds) == self.n + 1: raise CancelFitException

def recipe(size, replicas):
    "A small dataset of random images, and `replicas` parts in a step"
    o = SIZES[size] | dict(bs=SIZES[size]['bs'] * replicas)
    return preset('demo', 'inception_resnet_v2', **o, stored=o['px'], replicas=replicas, classes=10)

def images(r, steps):
    "Random images for so many steps, and their labels"
    n = r.bs * (steps + 2)
    x = torch.randint(0, 256, (min(n, 512), 3, r.stored, r.stored), dtype=torch.uint8).repeat(-(-n // 512), 1, 1, 1)
    x = x[:n].contiguous(memory_format=torch.channels_last)
    return Data('random', tuple(map(str, range(10))), *[Split(x, torch.arange(n) % 10, torch.ones(n))] * 2, '', [])

def measure(size, replicas, steps, device):
    "In a process: median seconds of a step; bytes and seconds of the sum of its gradients"
    device = find_device(device)
    group, r = join(device), recipe(size, replicas)
    steps_of = Steps(steps)
    learn = learner(r, images(r, steps), device, bare=True, group=group)
    learn.add_cb(steps_of).fit(1)
    g = torch.zeros(sum(p.numel() for p in learn.model.parameters()), device=device)
    sums = [reduction(group, g) for _ in range(10)]
    return dict(size=size, processes=group.world, replicas=replicas, images=r.bs, step=median(steps_of.seconds[1:]),
                gradient_bytes=g.numel() * 4, reduction=median(sums[2:]) if group.world > 1 else 0.)

def reduction(group, g):
    began = time.perf_counter()
    group.total(g)
    if g.is_cuda: torch.cuda.synchronize(g.device)
    return time.perf_counter() - began

def start(processes, threads, *args):
    "`measure` in so many processes; what the first one found"
    with tempfile.TemporaryDirectory() as tmp:
        os.environ['OMP_NUM_THREADS'] = str(threads)
        command = [sys.executable, '-m', 'benchmarks.scaling', '--child', str(Path(tmp)/'found'), *map(str, args)]
        code = launch(processes, 0, command) if processes > 1 else subprocess.run(command).returncode
        if code: raise RuntimeError(f'a process ended with exit code {code}')
        return json.loads((Path(tmp)/'found').read_text())

def main(sizes, processes, rounds, steps, device, out):
    device = str(find_device(device))
    cores = usable_cores()
    threads, rows = max(1, cores // processes), []
    for size in sizes:
        found = {1: [], processes: []}
        for _ in range(rounds):
            for n in found: found[n].append(start(n, threads, size, processes, steps or STEPS[size], device))
        best = {n: min(o, key=lambda r: r['step']) for n, o in found.items()} # the least disturbed
        one, many = best[1]['step'], best[processes]['step']
        rows.append(best[processes] | dict(one_process=one, speed_up=one / many, efficiency=one / many / processes,
                                           steps=[[r['step'] for r in o] for o in found.values()]))
        print(f"{size}: {1e3 * one:.0f} ms with one process, {1e3 * many:.0f} ms with {processes}, efficiency "
              f"{rows[-1]['efficiency']:.2f}; {best[processes]['gradient_bytes'] / 2**20:.1f} MiB of gradients, summed "
              f"in {1e3 * best[processes]['reduction']:.0f} ms", flush=True)
    about = dict(threads=threads, recipe=as_json(recipe(sizes[0], processes)), environment=environment(device))
    about |= dict(rows=rows)
    atomic_write(out, json.dumps(about, indent=1) + '\n')

if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--sizes', nargs='+', default=list(SIZES), choices=SIZES)
    p.add_argument('--processes', type=int, default=2)
    p.add_argument('--rounds', type=int, default=3, help='Timings of each, of which the fastest counts.')
    p.add_argument('--steps', type=int, help=f'Steps that are timed; by default {STEPS}')
    p.add_argument('--device', help='cpu or cuda')
    p.add_argument('--out', type=Path, default=OUT)
    p.add_argument('--child', nargs=5, help=argparse.SUPPRESS)
    o = p.parse_args()
    if o.child:
        path, size, replicas, steps, device = o.child
        found = measure(size, int(replicas), int(steps), device.split(':')[0])
        if join() is ALONE or join().first: Path(path).write_text(json.dumps(found))
    else: main(o.sizes, o.processes, o.rounds, o.steps, o.device, o.out)
