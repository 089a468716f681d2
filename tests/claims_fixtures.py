"Records of networks that were never trained, whose verdicts are known."
import json
from dataclasses import asdict

from inception_repro.results.judgement import Records
from inception_repro.results.plotting import large
from inception_repro.training.recipe import evaluation_steps, preset
from inception_repro.training.records import COLUMNS, Record

ENV = dict(commit=None, device='no device', python='3', torch='2', fastai='2', inception_repro='0')
PURE, RESIDUAL = large


def write(folder, model, half, end=20., seed=0, dataset='fractals', epochs=16, finished=True, digest='0', **changes):
    "A network that was never trained: its error falls to `end`, by half in every `half` epochs"
    base, _, arm = model.partition('+')
    named = dict(no_blocks=dict(scale=0.) if 'resnet' in base else dict(shortcut=0.),
                 no_addition=dict(addition=False), projection_norm=dict(projection_norm=True))
    for mark in filter(None, arm.split('+')): # such as 'shortcut0.2'
        changes |= named.get(mark) or {mark.rstrip('0123456789.'): float(mark.lstrip('shortcutale'))}
    made = preset('demo', base, dataset=dataset, epochs=epochs, seed=seed, **changes)
    recipe, steps = json.loads(json.dumps(asdict(made))), 4000 // made.bs
    size = dict(classes=10, train=4000, valid=500)
    rec = Record.create(folder, model, seed, dataset, digest, recipe, ENV, data=size)
    for step in evaluation_steps(made, steps):
        top1 = end + .01 * seed + (90 - end) * 2 ** (-step / steps / half)
        row = dict(epoch=step / steps, step=step, images=step * made.bs, top1=top1, top5=top1 / 2, seconds=step / steps)
        rec.append(**{k: row.get(k, 1.) for k in COLUMNS})
    if finished: rec.finish()


def judged(judge, root, nets, study='runs', seeds=3, **kw):
    "The verdict on networks of a half-life and a final error each"
    for m, (half, end) in nets.items():
        for s in range(seeds): write(root / study, m, half, end, s, **kw)
    return judge(Records(root))
