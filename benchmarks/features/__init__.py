"""What works with the tools around this package: each feature is called, and its result is recorded.

    python -m benchmarks.features [--area fastai]

A feature is a function in a module of this folder, with the decorator `feature`, which names the area and the call as
a user writes it. It returns its result as a text, and raises an exception if the result is wrong. The record is
benchmarks/records/features.json; with `--area`, the other areas keep their rows.
"""
import argparse
import inspect
import json
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib

from inception_repro.support.files import atomic_write
from inception_repro.support.tables import text_table

OUT = Path(__file__).parents[1] / 'records/features.json'
PACKAGES = ('torch', 'torchvision', 'fastai', 'timm', 'segmentation_models_pytorch', 'huggingface_hub', 'ipython',
            'typer', 'rich')
FEATURES = []
TINY = dict(width=1 / 16, classes=2, per_class=8, valid_per_class=4, bs=8, epochs=1, evals=1, px=75)


def feature(area, name, call):
    "Register a feature: its area, what it is, and the call as a user writes it"
    def add(f):
        FEATURES.append(dict(area=area, feature=name, call=call, run=f))
        return f
    return add


def run(f):
    "The row of a feature: its call, result, and whether it passed"
    began = time.perf_counter()
    with TemporaryDirectory() as tmp:
        try: result, passed = (f['run'](Path(tmp)) if inspect.signature(f['run']).parameters else f['run']()), True
        except Exception as e: result, passed = f'{type(e).__name__}: {e}', False
    row = {k: f[k] for k in ('area', 'feature', 'call')}
    return row | dict(result=' '.join(str(result).split())[:160], passed=passed,
                      seconds=round(time.perf_counter() - began, 2))


def check(ok, text):
    "The text, if the result is right"
    if not ok: raise AssertionError(text)
    return text


def versions():
    found = {}
    for name in PACKAGES:
        try: found[name] = version(name)
        except PackageNotFoundError: pass
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    from . import jupyter, shell, with_fastai, with_timm  # each adds its features
    areas = list(dict.fromkeys(f['area'] for f in FEATURES))
    parser.add_argument('--area', choices=areas)
    parser.add_argument('--out', type=Path, default=OUT)
    args = parser.parse_args()
    matplotlib.use('Agg')
    old = json.loads(args.out.read_text(encoding='utf-8'))['features'] if args.area and args.out.exists() else []
    rows = [r for r in old if r['area'] != args.area]
    for f in FEATURES:
        if args.area in (None, f['area']):
            rows.append(run(f))
            print('ok  ' if rows[-1]['passed'] else 'FAIL', rows[-1]['call'], '→', rows[-1]['result'], flush=True)
    rows.sort(key=lambda r: areas.index(r['area']) if r['area'] in areas else len(areas))
    atomic_write(args.out, json.dumps(dict(versions=versions(), features=rows), indent=1, ensure_ascii=False) + '\n')
    failed = [r['feature'] for r in rows if not r['passed']]
    counts = [[a, sum(r['area'] == a and r['passed'] for r in rows), sum(r['area'] == a for r in rows)] for a in areas]
    print(text_table(counts, ['area', 'passed', 'features'], '<>>'))
    if failed: sys.exit(f"failed: {', '.join(failed)}")
