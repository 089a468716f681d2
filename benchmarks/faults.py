"""What survives when anything goes wrong? `python -m benchmarks.faults`

Command lines and recipes are fuzzed. Records and checkpoints are damaged at every byte (a checkpoint's tensors at a
sample of bytes). Every fsync and every rename of a run fails in turn. Writers are killed, and training is stopped with
signals. A case is survived if there is one clear error or the right result, and nothing written before is lost; it is
lost if there is a traceback, a wrong result, or a missing row.
"""
import argparse
import errno
import io
import json
import multiprocessing as mp
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import torch

from inception_repro.support.files import atomic_write
from inception_repro.support.tables import text_table
from inception_repro.training.checkpoint import Checkpoints
from inception_repro.training.recipe import PRESETS, Recipe, evaluation_steps, preset
from inception_repro.training.records import COLUMNS, Record, as_json, compare, environment, read_run, run_path

OUT = Path(__file__).parent / 'records' / 'faults.json'
RECIPE = preset('demo', 'inception_v4', per_class=64, epochs=2)
STEPS = evaluation_steps(RECIPE, 20)
ENV = dict(commit=None, device='cpu', python='3', torch='2', fastai='2', inception_repro='0')
JUNK = ['', '-1', '0', '1e308', 'nan', '9' * 400, '1_0', 'x=y', '--', '[]', '{}', '(' * 3000, '\x07', 'ü', '../..',
        '/dev/null', '/proc/x', '/proc/self/mem', 'inception_v4', 'None', 'True', '--debug=1', 'width=', '=', '10**9',
        '0x10', '1,2', "'"]


def commands(draw, n, tmp):
    "Random command lines, with the training itself replaced"
    from inception_repro import cli
    from inception_repro.cli_run import run_command
    names = 'train reproduce figures rates shortcut claims evaluate records recipe models draw'.split()
    options = ('--runs --out --set --seeds --epochs --lr --width --size --bs --device --minutes --memory --data '
               '--preset --weights --to').split()
    def nothing(*a, **k): raise ValueError('not trained here')
    home = os.getcwd()
    os.chdir(tmp) # relative paths are written there
    for _ in range(n):
        args = [draw.choice(names), *(draw.choice(options + JUNK) for _ in range(draw.randrange(6)))]
        err = io.StringIO()
        with mock.patch('sys.argv', ['inception-repro', *args]), mock.patch('signal.signal'), \
             redirect_stdout(io.StringIO()), redirect_stderr(err), \
             mock.patch('inception_repro.training.fit.fit', nothing), \
             mock.patch('inception_repro.results.train_many._train', nothing), \
             mock.patch('inception_repro.results.train_many._load_images', nothing):
            code = None
            with suppress(SystemExit):
                try: run_command(cli.app)
                except SystemExit as e: code = e.code
                except BaseException as e: code = repr(e)
        yield code in (0, 1, 2) and 'Traceback' not in err.getvalue() and \
            'inception-repro: unexpected' not in err.getvalue(), f'{args}: {code}, {err.getvalue()[-200:]}'
    os.chdir(home)


def recipes(draw, n):
    "Random values of random fields: a recipe or a `ValueError`"
    fields = list(Recipe.__dataclass_fields__)
    values = [None, True, -1, 0, 1, 2, 10**400, 1e308, float('nan'), float('inf'), 'x', '', (), (1, 'a'), [], {}, b'x',
              1j, object(), '\x00']
    for _ in range(n):
        changes = {draw.choice(fields): draw.choice(values) for _ in range(draw.randrange(1, 4))}
        try: preset(draw.choice(list(PRESETS)), **changes)
        except (ValueError, TypeError): yield True, None
        except Exception as e: yield False, f'{e!r:.200}: {changes!r:.200}'
        else: yield True, None



def run(root):
    "What a run writes, without its training; goes on where it was interrupted"
    path = run_path(root, 'fractals', 'inception_v4', 0)
    kept = Checkpoints(path.parent / 'checkpoints' / path.stem, dict(recipe=as_json(RECIPE), dataset_hash='0'))
    state = kept.load()
    if not path.exists():
        counts = dict(classes=10, train=640, valid=9)
        rec = Record.create(root, 'inception_v4', 0, 'fractals', '0', RECIPE, ENV, True, counts)
    else:
        if read_run(path).meta['finished']: return path
        rec = Record.resume(path, state['step'] if state else 0, env=ENV, table=state and state['table'])
    for step in STEPS:
        if state and step <= state['step']: continue
        own = dict(epoch=step / 20, step=step, images=32 * step, top1=90. - step, top5=50. - step, seconds=float(step))
        rec.append(**{k: own.get(k, .5) for k in COLUMNS})
        kept.save(step, dict(step=step, table=rec.digest(), tensor=torch.full((64,), float(step))))
    rec.finish()
    kept.clean(all=True)
    return path


def unfinished(root):
    "The record of a run that goes on"
    rec = Record.create(root, 'inception_v4', 0, 'fractals', '0', RECIPE, ENV, True, dict(train=640))
    for step in STEPS[:2]:
        rec.append(**{k: 40. for k in COLUMNS} | dict(epoch=step / 20, step=step, images=32 * step))
    return rec.path


def bytes_of_records(whole, every):
    "Each byte of both files is changed, and each file is cut at each byte"
    before = read_run(whole)
    for file in whole, whole.with_suffix('.json'):
        data = file.read_bytes()
        for i in range(0, len(data), every):
            for text in data[:i] + bytes([data[i] ^ 1 << i % 8]) + data[i + 1:], data[:i]:
                file.write_bytes(text)
                try: found = read_run(whole)
                except ValueError: yield True, None
                except Exception as e: yield False, repr(e)
                else: yield (found.meta, found.rows) == (before.meta, before.rows), f'{file.name}, byte {i}'
        file.write_bytes(data)


def bytes_of_checkpoints(tmp, draw, sample):
    "Each byte of the head, and some of the tensors: the state is the right one or the one before"
    kept = Checkpoints(tmp / 'a-0', dict(recipe={}, dataset_hash='0'))
    for step in 1, 2: kept.save(step, dict(step=step, tensor=torch.full((4096,), float(step))))
    last = kept.files()[0]
    data = last.read_bytes()
    places = [*range(400), *draw.sample(range(400, len(data)), sample)]
    for i in places:
        for text in data[:i] + bytes([data[i] ^ 1 << i % 8]) + data[i + 1:], data[:i]:
            last.write_bytes(text)
            try: state = kept.load()
            except Exception as e: yield False, repr(e)
            else: yield bool((state['tensor'] == state['step']).all()) and state['step'] in (1, 2), f'byte {i}'


def failing_calls(tmp, whole):
    "Every fsync, rename, chmod and unlink fails in turn; then the run goes on"
    for name in 'fsync', 'replace', 'chmod', 'unlink':
        real, k = getattr(os, name), 0
        while True:
            left = [k]
            def fails(*a, **kw):
                left[0] -= 1
                if left[0] == -1: raise OSError(errno.EIO, f'{name} fails')
                return real(*a, **kw)
            root = tmp / f'{name}{k}'
            with mock.patch.object(os, name, fails):
                with suppress(OSError): run(root)
            reached = left[0] < 0
            try: yield compare(run(root), whole) == '', f'{name} {k}'
            except Exception as e: yield False, f'{name} {k}: {e!r}'
            if not reached: break
            k += 1


def kills(tmp, whole, draw, n):
    "A writer is killed with SIGKILL at a random moment, and the run goes on"
    ctx = mp.get_context('fork')
    for i in range(n):
        p = ctx.Process(target=run, args=(tmp / f'kill{i}',))
        p.start()
        time.sleep(draw.uniform(0, .15))
        p.kill()
        p.join()
        try: yield compare(run(tmp / f'kill{i}'), whole) == '', f'kill {i}'
        except Exception as e: yield False, repr(e)


TRAIN = """
import sys, torch
from inception_repro.cli import main
from inception_repro.training import callbacks
torch.set_num_threads(1)
old = callbacks.TimeLimit.after_batch
def after_batch(self):
    print(self.count.step, flush=True)
    return old(self)
callbacks.TimeLimit.after_batch = after_batch
main()
"""


def signals(tmp, draw, n):
    "SIGTERM and SIGHUP during training: exit code 75 and a checkpoint"
    small = [o for s in ('classes=3', 'per_class=22', 'valid_per_class=4', 'epochs=10000') for o in ('--set', s)]
    for name in 'SIGTERM', 'SIGHUP': signal.signal(getattr(signal, name), signal.SIG_DFL) # `nohup` ignores one
    for i in range(n):
        args = [sys.executable, '-c', TRAIN, 'train', 'inception_resnet_v1', '--width', '.0625',
                '--runs', str(tmp / f's{i}'), *small]
        p = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[1])})
        for _ in range(draw.randrange(1, 6)): p.stdout.readline()
        p.send_signal((signal.SIGTERM, signal.SIGHUP)[i % 2])
        err = p.communicate(timeout=300)[1]
        states = list((tmp / f's{i}').glob('*/checkpoints/*/*.pt'))
        yield p.returncode == 75 and bool(states) and 'Traceback' not in err, err[-300:]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, n in dict(commands=300, recipes=3000, every=1, sample=500, kills=40, signals=4).items():
        ap.add_argument(f'--{name}', type=int, default=n)
    ap.add_argument('--seed', type=int, default=0)
    ap.add_argument('--out', type=Path, default=OUT)
    args = ap.parse_args()
    warnings.simplefilter('ignore')
    torch.set_num_threads(1) # a process may be forked only before it has threads
    draw, env, found, began = random.Random(args.seed), environment(), {}, time.monotonic()
    with TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        whole = run(tmp / 'whole')
        todo = {'a writer is killed': kills(tmp, whole, draw, args.kills),
                'fsync, rename, chmod or unlink fails': failing_calls(tmp, whole),
                'a byte of a checkpoint is damaged': bytes_of_checkpoints(tmp, draw, args.sample),
                'a byte of a record is damaged': bytes_of_records(run(tmp / 'bytes'), args.every),
                'a byte of an unfinished record is damaged': bytes_of_records(unfinished(tmp / 'going'), args.every),
                'a recipe is fuzzed': recipes(draw, args.recipes),
                'a command line is fuzzed': commands(draw, args.commands, tmp),
                'training is stopped by a signal': signals(tmp, draw, args.signals)}
        for name, cases in todo.items():
            results = list(cases)
            bad = [str(what) for ok, what in results if not ok]
            found[name] = dict(tried=len(results), survived=len(results) - len(bad), lost=len(bad), examples=bad[:5])
            print(f"{name}: {len(results)} tried, {len(bad)} lost {bad[:2]}", flush=True)
    heads = 'tried', 'survived', 'lost'
    print(text_table([[k, *(v[o] for o in heads)] for k, v in found.items()], ['fault', *heads], '<>>>'))
    settings = {k: v for k, v in vars(args).items() if k != 'out'}
    page = dict(settings=settings, seconds=round(time.monotonic() - began, 1), faults=found, environment=env)
    atomic_write(args.out, json.dumps(page, indent=1, ensure_ascii=False) + '\n')
    if any(v['lost'] for v in found.values()): raise SystemExit('something was lost')


if __name__ == '__main__': main()
