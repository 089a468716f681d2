"""What is worth doing before a network is frozen? `python -m benchmarks.frozen`

The released networks as one program of oneDNN's, rewritten in several ways first, in turns, in float32 and bf16; then
the same again with the memory kept that a process frees (`keep_memory`). Beside them the engines, whose memory is
planned ahead.
"""
import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks import peers
from benchmarks.run import RESIDUAL, labelled, processor
from inception_repro.benchmarking.bench import answer
from inception_repro.benchmarking.bench import race, table
from inception_repro.rewrites.fast import FROZEN, frozen, keep_memory
from inception_repro.rewrites.fold import fold_bn, fold_scale
from inception_repro.rewrites.merge import merge_1x1
from inception_repro.support.files import atomic_write
from inception_repro.training.records import environment

OUT = Path(__file__).parent / 'records' / 'frozen.json'
WAYS = {'folded': (fold_bn, fold_scale), 'folded, siblings merged': (fold_bn, fold_scale, merge_1x1),
        'folded, pooled after': FROZEN, 'folded, pooled after, siblings merged': (*FROZEN, merge_1x1)}


def contenders(net, peer, x, folder):
    "Name → function that prepares a step"
    last = x.contiguous(**peers.LAST)
    ways = {'ONNX Runtime': lambda: peers.onnxruntime(peer, x, folder),
            'OpenVINO': lambda: peers.openvino(peer, x, 'f32'),
            'OpenVINO bf16': lambda: peers.openvino(peer, x, 'bf16')}
    for dtype, half in (torch.float32, ''), (torch.bfloat16, ' bf16'):
        for name, rewrites in WAYS.items():
            ways[name + half] = lambda dtype=dtype, rewrites=rewrites: answer(
                frozen(net, x, dtype, rewrites), last.to(dtype))
    return ways


def main(args=None):
    p = argparse.ArgumentParser(prog='python -m benchmarks.frozen', description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--models', nargs='+', default=RESIDUAL, choices=list(peers.TIMM))
    p.add_argument('--px', type=int, default=299)
    p.add_argument('--bs', type=int, default=8)
    p.add_argument('--rounds', type=int, default=7)
    p.add_argument('--out', type=Path, default=OUT)
    o = p.parse_args(args)
    o.device, races = 'cpu', {}
    for kept in False, True:
        if kept and not keep_memory(): break
        for name in o.models:
            peer = peers.timm_net(name)
            net, (x, _) = peers.same_as(peer, name), labelled(o, o.bs, o.px)
            with TemporaryDirectory() as folder: rows = race(contenders(net, peer, x, Path(folder)), o.bs, o.rounds)
            title = f"{name}, memory {'kept' if kept else 'given back'}"
            races[title] = rows
            print(f'\n{title}\n\n{table(rows)}', flush=True)
    env = dict(environment(), threads=torch.get_num_threads())
    settings = dict(px=o.px, images=o.bs, rounds=o.rounds, processor=processor(), versions=peers.versions())
    atomic_write(o.out, json.dumps(dict(settings=settings, env=env, trials=races), indent=1) + '\n')


if __name__ == '__main__': main()
