"""Where the time of a training step goes, by kind of operation and by kernel: `python -m benchmarks.profile`

    python -m benchmarks.profile --device cuda --bf16 --compiled       Inception-v4, 299 px, 128 images

The step is that of the races' "ours": forward, backward, optimizer with clipping, running average. It is timed by
itself first; then torch's profiler watches a few. On a GPU the time is that of its kernels, each of the kind of the
operation that launched it, and shares are of the step as it is without the profiler: what is left of it the GPU waits.
On a CPU it is that of the operations themselves, without those inside them, and shares are of the step with the
profiler; `the rest` has Python in it. A compiler fuses operations: a fused kernel counts as the first of the kinds
below that is in its name. Writes profile-MODEL-PXpx-DEVICE.json and a picture beside it.
"""
import argparse
import json
import re
import sys
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch
from matplotlib import style

from benchmarks import peers
from benchmarks.tables import RECORDS
from inception_repro.architecture.build import build
from inception_repro.architecture.cost import macs
from inception_repro.architecture.draw import write_picture
from inception_repro.architecture.networks import configure
from inception_repro.benchmarking import bench
from inception_repro.benchmarking.bench import race
from inception_repro.results.plotting import GREY, GRID, INK, canvas
from inception_repro.training.average import RunningAverage
from inception_repro.training.optim import RMSPropTF
from inception_repro.support.files import atomic_write
from inception_repro.training.records import environment

BESIDE, STEP, REST, IDLE = 'optimizer and average', 'outside of operations', 'the rest', 'the GPU waits'
OPERATIONS = {  # the first that is found in the name of an operation, or else in that of the one around it
    'convolution, backward': r'conv\w*backward',
    'convolution, forward': 'convolution|conv2d',
    'batch normalisation': 'batch_?norm',
    'pooling': 'pool',
    'ReLU, sums': r'relu|clamp_min|threshold|(aten::|^)(add|mul)_?$|(add|mul)backward',
    'concatenation and copies': r'(^|:|_)cat($|_|backward)|copy|clone|contiguous|aten::to$|slice|split|narrow'}
FUSED = {'batch normalisation': 'batch_norm', 'pooling': 'pool', 'ReLU, sums': 'relu|clamp_min|threshold|add|mul',
         'concatenation and copies': 'cat|copy|clone|convolution'}  # of a compiler's kernels
# kernels that are more than a part of their operation
COPYING = 'nchwtonhwc|nhwctonchw|memcpy|memset|direct_copy|catarray'
KERNELS = 'kernel', 'gpu_memcpy', 'gpu_memset'  # categories of a trace


def _kind(name, kinds): return next((k for k, p in kinds.items() if re.search(p, name.lower())), None)


def kind_of(kernel, around): # Names: of a kernel or None; of the operations around it, from the inside
    "The kind of an operation or of a kernel"
    if BESIDE in around: return BESIDE
    if kernel and kernel.startswith('triton_') and not kernel.startswith('triton_tem'):
        return _kind(kernel, FUSED) or REST
    if kernel and re.search(COPYING, kernel.lower()): return 'concatenation and copies'
    return next((k for n in around if (k := _kind(n, OPERATIONS))), REST)


def nested(events):
    "Yield events of a trace, each with those around it on its thread, from the inside"
    stack, thread = [], None
    end = lambda e: e['ts'] + e['dur']
    for e in sorted(events, key=lambda e: (str(e['tid']), e['ts'], -e['dur'])):
        if e['tid'] != thread: stack, thread = [], e['tid']
        while stack and end(stack[-1]) <= e['ts']: stack.pop()
        yield e, stack[::-1]
        stack.append(e)


def read_trace(events, gpu): # Events of a Chrome trace; whether a GPU's time is asked for
    "(name, kind, milliseconds) of every kernel, or of every operation of a CPU's steps"
    events = [dict(args={}) | e for e in events if e.get('ph') == 'X' and 'cat' in e]
    ops = [e for e in events if e['cat'] in ('cpu_op', 'user_annotation')]
    if gpu:
        launches = [e for e in events if e['cat'] in ('cuda_runtime', 'cuda_driver')]
        around = {e['args'].get('correlation'): [o['name'] for o in up]
                  for e, up in nested(ops + launches) if e['cat'].startswith('cuda')}
        return [(e['name'], kind_of(e['name'], around.get(e['args'].get('correlation'), [])), e['dur'] / 1e3)
                for e in events if e['cat'] in KERNELS]
    own, ups = {}, {}
    for e, up in nested(ops):
        own[id(e)], ups[id(e)] = own.get(id(e), 0) + e['dur'], [o['name'] for o in up]
        if up: own[id(up[0])] -= e['dur']
    return [(e['name'], kind_of(None, [e['name'], *ups[id(e)]]), own[id(e)] / 1e3)
            for e in ops if STEP in (e['name'], *ups[id(e)])]


def watch(step, steps, gpu):
    "Events of a Chrome trace of some steps"
    from torch.profiler import ProfilerActivity, profile, record_function
    def marked(owner, name):
        was = getattr(owner, name)
        def run(*args, **kwargs):
            with record_function(BESIDE): return was(*args, **kwargs)
        return patch.object(owner, name, run)
    with ExitStack() as stack, TemporaryDirectory() as folder:
        stack.enter_context(marked(RMSPropTF, 'step'))
        stack.enter_context(marked(RunningAverage, 'update_parameters'))
        step()  # a compiler may look at what is patched
        if gpu: torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * gpu], acc_events=True) as prof:
            for _ in range(steps):
                with record_function(STEP): step()
            if gpu: torch.cuda.synchronize()
        prof.export_chrome_trace(path := f'{folder}/trace.json')
        return json.loads(Path(path).read_text(errors='replace'))['traceEvents']


def summary(found, steps, whole): # What `read_trace` gave; steps; milliseconds of one
    "Milliseconds of a step by kind, and the fifteen names that take most; with shares of the step"
    kinds, names = defaultdict(float), defaultdict(lambda: [0., 0, defaultdict(float)])
    for name, kind, ms in found:
        kinds[kind] += ms / steps
        names[name][0] += ms / steps
        names[name][1] += 1
        names[name][2][kind] += ms
    top = sorted(names.items(), key=lambda o: -o[1][0])[:15]
    row = lambda ms: dict(ms=round(ms, 4), share=round(ms / whole, 5))
    order = [*OPERATIONS, BESIDE, REST]
    return dict(kinds={k: row(kinds[k]) for k in order if k in kinds},
                kernels=[dict(name=n[:160], kind=max(by, key=by.get), calls=c / steps, **row(ms))
                         for n, (ms, c, by) in top])


def measure(o):
    "The record of a step"
    gpu, g = torch.device(o.device).type == 'cuda', torch.Generator().manual_seed(0)
    value, made = configure(o.model, width=o.width), []
    x = torch.randn(o.bs, 3, o.px, o.px, generator=g).to(o.device)
    y = torch.randint(1000, (o.bs,), generator=g).to(o.device)
    name = 'ours' + ' bf16' * o.bf16 + ', compiled' * o.compiled
    def prepare():
        made.append(bench.ours(build(value).to(o.device), x, y, o.bf16, compiled=o.compiled))
        return made[0]
    (row,) = race({name: prepare}, o.bs, o.rounds, device=o.device, macs=3 * macs(value, (o.px, o.px, 3)))
    found = read_trace(watch(made[0], o.steps, gpu), gpu)
    alone, busy = 1e3 * o.bs / row['images_per_second'], sum(ms for *_, ms in found) / o.steps
    res = summary(found, o.steps, whole := alone if gpu else busy)
    if gpu: res['kinds'][IDLE] = dict(ms=round(max(0, whole - busy), 4), share=round(max(0, 1 - busy / whole), 5))
    setting = {k: getattr(o, k) for k in ('model', 'width', 'px', 'bs', 'bf16', 'compiled', 'steps')}
    row = {k: row.get(k) for k in ('images_per_second', 'memory', 'matrix_rate', 'of_matrix_rate')}
    return dict(setting, unit='ms', step=round(alone, 3), busy=round(busy, 3), **row, **res,
                versions=peers.versions(), environment=dict(environment(o.device), threads=torch.get_num_threads()))


def say(r):
    "The record as text"
    how = 'bf16' if r['bf16'] else 'float32'
    lines = [f"{r['model']}, {r['px']} px, {r['bs']} images, {how}{', compiled' * r['compiled']}, "
             f"{r['environment']['device']}: "
             f"{r['step']:.4g} ms a step, {r['images_per_second']:.4g} images/s"
             + (f", {r['of_matrix_rate']:.1%} of the matrix rate" if r['of_matrix_rate'] else ''), '',
             '| kind | ms | share |', '| - | - | - |']
    lines += [f"| {k} | {v['ms']:.4g} | {v['share']:.1%} |" for k, v in r['kinds'].items()]
    lines += ['', '| kernel or operation | kind | calls | ms | share |', '| - | - | - | - | - |']
    lines += [f"| {k['name'][:70]} | {k['kind']} | {k['calls']:g} | {k['ms']:.4g} | {k['share']:.1%} |"
              for k in r['kernels']]
    return '\n'.join(lines)


def draw(r, to=None):
    "Shares of a step as bars, the largest first; waiting last"
    kinds = sorted(r['kinds'].items(), key=lambda o: (o[0] != IDLE, o[1]['share']))
    env, how = r['environment'], 'bf16' if r['bf16'] else 'float32'
    text = (f"One training step of {r['model']}{' at width {:g}'.format(r['width']) * (r['width'] != 1)}: "
            f"{r['bs']} images of {r['px']}×{r['px']} pixels, "
            f"{how}{', compiled' * r['compiled']}, {r['step']:.3g} ms; {env['device']}, torch {env['torch']}. "
            f"Means over {r['steps']} step{'s' * (r['steps'] != 1)}"
            + (" under torch's profiler." if IDLE not in r['kinds']
               else "; shares are of a step without the profiler."))
    with style.context('default'):
        fig, ax = canvas(0, text, left=138, right=44, high=24 * len(kinds) + 6)
        colours = ['#cccccc' if k == IDLE else '#0072B2' for k, _ in kinds]
        ax.barh(range(len(kinds)), [100 * v['share'] for _, v in kinds], height=.62, color=colours)
        for i, (_, v) in enumerate(kinds):
            ax.annotate(f"{v['share']:.1%}", (100 * v['share'], i), (4, 0), textcoords='offset points',
                        va='center', size=9, color=INK)
        ax.set_yticks(range(len(kinds)), [k for k, _ in kinds])
        ax.set_xlabel('share of the step, %', color=INK)
        ax.grid(axis='x', color=GRID, lw=.8)
        ax.set_axisbelow(True)
        ax.spines[['top', 'right']].set_visible(False)
        ax.tick_params(labelsize=9, color=GREY, labelcolor=INK)
        if to: write_picture(fig, Path(to))
    return fig


def parse(args=None):
    p = argparse.ArgumentParser(prog='python -m benchmarks.profile', description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--model', default='inception_v4')
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    p.add_argument('--width', type=float, default=1.)
    p.add_argument('--px', type=int, default=299)
    p.add_argument('--bs', type=int, help='images a step, by default 128 on a GPU and 8 on a CPU')
    p.add_argument('--bf16', action='store_true')
    p.add_argument('--compiled', action='store_true', help='on a GPU')
    p.add_argument('--steps', type=int, default=3, help='that the profiler watches')
    p.add_argument('--rounds', type=int, default=5, help='turns without it')
    p.add_argument('--records', type=Path, default=RECORDS)
    o = p.parse_args(args)
    o.bs = o.bs or (8 if o.device == 'cpu' else 128)
    return o


def main(args=None):
    o = parse(args)
    try: record = measure(o)
    except ValueError as e: sys.exit(str(e))
    kind = '-bf16' * o.bf16 + '-compiled' * o.compiled
    path = o.records / f'profile-{o.model}-{o.px}px-{o.device}{kind}.json'
    atomic_write(path, json.dumps(record, indent=1) + '\n')
    draw(record, path.with_suffix('.png'))
    print(say(record))


if __name__ == '__main__': main()
