"Records of the shortcut experiment whose answers are known: no network was trained for them."
import json
from dataclasses import asdict

import numpy as np

from inception_repro.training.recipe import preset, replace, run_name
from inception_repro.training.records import COLUMNS, Record
from inception_repro.results.shortcut import ARMS

ENV = dict(commit=None, device='cpu x86_64', python='3', torch='2', fastai='2', inception_repro='0', threads=1)
BASE = preset('tiny40', px=107, epochs=4, compress=20.)
EPOCHS = np.array([.25, .5, .75, 1, 1.5, 2, 3, 4])
V4, R2 = 'inception_v4', 'inception_resnet_v2'
DROPS = {  # points below the chance level after four epochs
    V4: {'as printed': 3, 'without blocks': 26, 'shortcuts × 1': 6, 'shortcuts × 0.5': 20,
         'shortcuts × 0.2': 27, 'shortcuts × 0.1': 28},
    R2: {'as printed': 28, 'without blocks': 27, 'without additions': 2, 'scale 1': 10, 'scale 0.5': 18,
         'scale 0.2': 27, 'scale 0.1': 29, 'scale 1, batch norm': 8},
    'inception_v3': {'as printed': 5, 'without blocks': 25, 'shortcuts × 0.2': 27},
    'inception_resnet_v1': {'as printed': 27, 'without blocks': 24, 'without additions': 4, 'scale 1': 20}}


def line(drop): return lambda t: 97.5 - drop * t / 4


def write(root, model, arm, seed=0, error=None, noise=0., base=BASE, blocks=True, finished=True,
          dataset='synthetic', digest='0'):
    "The record of a run that was never trained: `error` of the epoch"
    recipe = replace(base, model=model, seed=seed, dataset=dataset, **ARMS[model][arm])
    name = run_name(recipe)
    rec = Record.create(root, name, seed, dataset, digest, asdict(recipe), ENV,
                        data=dict(classes=40, train=20000, valid=2000))
    rng, error = np.random.default_rng([seed, *name.encode()]), error or line(DROPS[model][arm])
    for i, e in enumerate(EPOCHS, 1):
        top1 = float(np.clip(error(e) + noise * rng.normal(), 0, 100))
        row = dict(epoch=e, step=round(625 * e), images=round(625 * e) * base.bs, top1=top1, top5=.8 * top1,
                   raw_top1=top1, raw_top5=.8 * top1, seconds=100. * i)
        rec.append(**{k: row.get(k, 1.) for k in COLUMNS})
    if finished: rec.finish()
    if blocks: write_blocks(rec.path, model, arm)
    return rec.path


def write_blocks(path, model, arm):
    "Gradients that fade towards the stem without additions"
    counts = dict(inception_v4=(4, 7, 3), inception_v3=(3, 4, 2)).get(model, (5, 10, 5))
    a, b, c = (0, 0, 0) if arm == 'without blocks' else counts
    layers = ['stem', *(f'inception_a.{i}' for i in range(a)), 'reduction_a', *(f'inception_b.{i}' for i in range(b)),
              'reduction_b', *(f'inception_c.{i}' for i in range(c))]
    added = 'scale' in arm or 'shortcuts' in arm or arm == 'as printed' and 'resnet' in model
    grad = [.1 * (1.02 if added else .8) ** i for i in range(len(layers))]
    ratio = [.3 if added and '.' in o else None for o in layers]
    samples = [dict(step=s, grad=[g * (1 + s / 1000) for g in grad], ratio=ratio, std=[1.] * len(layers))
               for s in (0, 1250, 2375)]
    path.with_suffix('.activity.json').write_text(json.dumps(dict(layers=[f'trunk.{o}' for o in layers],
                                                                  samples=samples)))


def whole(root, seeds=3, noise=.5, models=(V4, R2), skip=(), **kw):
    "Every arm; returns the folder of the dataset"
    for m in models:
        for a in ARMS[m]:
            for s in range(seeds):
                if (m, a) not in skip and (m, a, s) not in skip: write(root, m, a, s, noise=noise, **kw)
    return root / 'synthetic'


def cells(table): return [[o.strip() for o in row.strip('|').split('|')] for row in table.split('\n\n')[0].splitlines()]


def text(fig): return fig.texts[0].get_text().replace('\n', ' ')
