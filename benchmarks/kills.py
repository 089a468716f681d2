"""Is a run that was killed the run that was not? `python -m benchmarks.kills`

A short training run on the CPU is killed at a random moment (`SIGKILL`, so that nothing can be tidied up) after it has
begun to train, and started again with the same call, several times until it ends; then another, until there were as
many kills as asked for. Every record must equal the uninterrupted run's in all but its times.
"""
import argparse
import json
import multiprocessing as mp
import random
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from inception_repro.training.fit import fit
from inception_repro.training.learner import TrainingCallback
from inception_repro.training.recipe import preset
from inception_repro.support.files import atomic_write
from inception_repro.training.records import compare, environment, read_run, run_path

RECIPE = preset('demo', 'inception_resnet_v2', width=1/16, classes=4, per_class=64, valid_per_class=16,
                bs=16, epochs=16, evals=2)
OUT = Path(__file__).parent / 'records' / 'kills.json'

CTX = mp.get_context('fork') # a process of its own, which needs no imports

class Tell(TrainingCallback):
    "The last step that was begun, where the parent can see it"
    def __init__(self, step): self.step = step
    def before_batch(self): self.step.value = self.count.step + 1

def train(out, env, step):
    "What is killed; checkpoints are frequent, so that kills fall into their writing, too"
    torch.set_num_threads(1)
    fit(RECIPE, out, device='cpu', progress=False, save_every=.1, env=env, cbs=[Tell(step)])

def start(out, env):
    "A run under way, and the step that it is at"
    step = CTX.Value('l', 0)
    p = CTX.Process(target=train, args=(out, env, step))
    p.start()
    while not step.value and p.is_alive(): time.sleep(.005)
    return p, step

def whole(folder, env):
    "Seconds of the uninterrupted run"
    began = time.monotonic()
    p, _ = start(folder, env)
    p.join()
    if p.exitcode: raise RuntimeError(f'the uninterrupted run ended with exit code {p.exitcode}')
    return time.monotonic() - began

def killed(folder, env, longest, draw, most):
    "Kill and resume a run until it ends, at most `most` times; what each kill left: steps begun, rows, checkpoint"
    path, kills = run_path(folder, RECIPE.dataset, RECIPE.model, RECIPE.seed), []
    while True:
        (p, step), after = start(folder, env), draw.uniform(0, longest)
        p.join(after if len(kills) < most else None)
        if p.exitcode is not None:
            if p.exitcode: raise RuntimeError(f'a resumed run ended with exit code {p.exitcode}')
            return kills
        p.kill()
        p.join()
        states = sorted(f.name for f in (path.parent / 'checkpoints' / path.stem).glob('*.pt'))
        torn = any(f.name.endswith('.tmp') for f in (path.parent / 'checkpoints' / path.stem).iterdir())
        kills.append(dict(after=round(after, 3), step=step.value, rows=len(read_run(path)), torn=torn,
                          checkpoint=int(states[-1][:-3]) if states else None))

def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--kills', type=int, default=20)
    ap.add_argument('--seed', type=int, default=0, help='of the moments')
    ap.add_argument('--out', type=Path, default=OUT)
    args = ap.parse_args()
    torch.set_num_threads(1) # a process may be forked only before it has threads
    draw, env, runs = random.Random(args.seed), environment(), []
    with TemporaryDirectory() as tmp:
        seconds = whole(Path(tmp) / 'whole', env)
        first = run_path(Path(tmp) / 'whole', RECIPE.dataset, RECIPE.model, RECIPE.seed)
        print(f'uninterrupted: {seconds:.1f} s, {len(read_run(first))} rows', flush=True)
        while (left := args.kills - sum(len(r['kills']) for r in runs)) > 0:
            folder = Path(tmp) / str(len(runs))
            kills = killed(folder, env, seconds / 4, draw, min(left, 5))
            diff = compare(first, run_path(folder, RECIPE.dataset, RECIPE.model, RECIPE.seed))
            runs.append(dict(kills=kills, difference=diff))
            steps = ', '.join(f"{k['step']}{' (half a checkpoint)' * k['torn']}" for k in kills)
            print(f'run {len(runs)}: killed in steps {steps}; record {diff or "equal"}', flush=True)
    result = dict(kills=args.kills, seed=args.seed, seconds=round(seconds, 1), runs=runs, environment=env)
    atomic_write(args.out, json.dumps(result, indent=1) + '\n')
    if any(r['difference'] for r in runs): raise SystemExit('a record differs')

if __name__ == '__main__': main()
