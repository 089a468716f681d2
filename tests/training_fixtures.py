"A small recipe, and ways to stop its run. The fixtures of the tests that use it are in conftest.py."
import pytest

from inception_repro.training.fit import fit
from inception_repro.training.learner import TrainingCallback
from inception_repro.training.recipe import preset

ENV = dict(commit=None, device='cpu', python='3', torch='2', fastai='2', inception_repro='0')
TINY = preset('demo', 'inception_resnet_v1', width=1/16, classes=3, per_class=22, valid_per_class=5, bs=16,
              epochs=2, evals=2)
STEPS = 8 # two epochs of four, the last two images of each left out


class Raise(TrainingCallback):
    "An exception at an event of a step"
    order = 100
    def __init__(self, step, event, exc=KeyboardInterrupt): self.stop_at, self.event, self.exc = step, event, exc

    def __call__(self, name):
        if name == self.event and self.count.step == self.stop_at: raise self.exc


class Once(TrainingCallback):
    "Time for one step"
    def before_fit(self): self.time_limit.until = 0.


def stop(recipe, out, quiet, step, event='after_backward', save_every=0, exc=KeyboardInterrupt):
    cbs = [Raise(step, event, exc), *([quiet['cbs']] if 'cbs' in quiet else [])]
    with pytest.raises(exc) as e: fit(recipe, out, **{**quiet, 'cbs': cbs}, save_every=save_every)
    return str(e.value)


def folder(out, recipe=TINY): return out/recipe.dataset/'checkpoints'/f'{recipe.model}-{recipe.seed}'


def table(run): return [line.rsplit(',', 1)[0] for line in run.path.read_text().splitlines()] # without seconds
