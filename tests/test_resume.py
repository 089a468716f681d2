"Runs that are stopped and resumed give the same numbers. Not in a notebook: they are stopped in many places."
import json
import random
import time
from itertools import product

import pytest
import torch

from inception_repro.training import callbacks, fit as train
from inception_repro.training.checkpoint import Checkpoints
from inception_repro.training.fit import fit
from inception_repro.training.learner import load_data
from inception_repro.training.recipe import evaluation_steps, replace
from inception_repro.training.records import compare, read_run

from slow_cases import slow, some
from training_fixtures import ENV, folder, STEPS, stop, table, TINY

pytestmark = pytest.mark.usefixtures('one_thread')


def test_same_twice(whole, tmp_path, quiet):
    torch.rand(3), random.random()
    before = torch.get_rng_state(), random.getstate()
    again = fit(TINY, tmp_path, **quiet)
    assert compare(whole, again) == '' and table(whole) == table(again)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == random.getstate() # the caller's are his own
    assert whole['step'].tolist() == [2, 4, 6, 8] == evaluation_steps(TINY, 4)
    assert not list(whole.path.parent.glob('check*'))


EVENTS = ['before_batch', 'after_backward', 'after_step']
PLACES = random.Random(0).sample(list(product(range(STEPS), EVENTS, [0, 1e9])), 8)


@pytest.mark.parametrize('step, event, save_every', some(*PLACES[:3], of=PLACES))
def test_resumes_anywhere(whole, tmp_path, quiet, step, event, save_every):
    if event == 'after_step': step += 1 # has counted itself
    stop(TINY, tmp_path, quiet, step, event, save_every)
    again = fit(TINY, tmp_path, **quiet)
    assert compare(whole, again) == '' and table(whole) == table(again)


@pytest.mark.parametrize('changes', [
    dict(optimizer='adamw', lr=.002, wd=.05),
    *slow(dict(precision='bf16'), dict(channels_last=False, clip=None, model='inception_v4', ema=.9))], ids=str)
def test_resumes_variants(tmp_path, quiet, changes):
    recipe = replace(TINY, epochs=1, **changes)
    whole = fit(recipe, tmp_path/'whole', **quiet)
    for step in 3, 2: stop(recipe, tmp_path/'cut', quiet, step, 'before_batch', save_every=1e9 if step == 3 else 0)
    assert not torch.is_autocast_enabled('cpu')
    assert compare(whole, fit(recipe, tmp_path/'cut', **quiet)) == ''


def test_resumes_files(tmp_path):
    "Images that stay files, decoded by workers"
    from PIL import Image
    for split, n in ('train', 17), ('val', 3):
        for c in 'ab':
            (tmp_path/'photos'/split/c).mkdir(parents=True)
            for i in range(n):
                noise = torch.randint(0, 256, (40, 50, 3), dtype=torch.uint8,
                                      generator=torch.Generator().manual_seed(i))
                Image.fromarray(noise.numpy()).save(tmp_path/'photos'/split/c/f'{i}.png')
    recipe = replace(TINY, dataset='photos', classes=2, per_class=None, valid_per_class=None, bs=8, epochs=1, evals=1)
    source = dict(data=tmp_path/'photos', device='cpu', env=ENV, progress=False, max_bytes=0, workers=1)
    whole = fit(recipe, tmp_path/'whole', **source)
    stop(recipe, tmp_path/'cut', source, 2)
    assert compare(whole, fit(recipe, tmp_path/'cut', **source)) == ''


def test_an_older_checkpoint(whole, tmp_path, quiet):
    "Without a wall time: its seconds were that; a record without pieces gets what can be told"
    stop(TINY, tmp_path, quiet, 5)
    kept = Checkpoints(folder(tmp_path))
    state = kept.load()
    kept.save(5, {k: v for k, v in state.items() if k not in ('wall', 'memory')} | dict(seconds=1000.))
    p = tmp_path/'fractals/inception_resnet_v1-0.json'
    meta = json.loads(p.read_text())
    del meta['time']['first'], meta['time']['wall'], meta['data'], meta['seal']
    p.write_text(json.dumps(meta))
    again = fit(TINY, tmp_path, **quiet)
    assert compare(whole, again) == '' and again.meta['time']['wall'] > again.meta['time']['seconds'] > 1000
    assert again.meta['time']['first']['steps'] == 5


@pytest.mark.slow
def test_stopped_again_and_again(whole, tmp_path, quiet):
    for step in range(STEPS): stop(TINY, tmp_path, quiet, step)
    again = fit(TINY, tmp_path, **quiet)
    assert compare(whole, again) == ''
    assert [r['step'] for r in again.meta['time']['resumed']] == list(range(STEPS))


def test_changed_recipe(tmp_path, quiet):
    stop(TINY, tmp_path, quiet, 5)
    other = replace(TINY, lr=.01, evals=1)
    with pytest.raises(ValueError, match=r'evals: \[2\] -> \[1\], lr: 0.045 -> 0.01; choose another out, or'):
        fit(other, tmp_path, **quiet)
    p = tmp_path/'fractals/inception_resnet_v1-0.json'
    assert not json.loads(p.read_text())['finished'] # and nothing has been touched
    assert fit(other, tmp_path, **quiet, fresh=True)['step'].tolist() == [4, 8]


def test_changed_data(tmp_path, quiet):
    stop(TINY, tmp_path, quiet, 5)
    other = load_data(replace(TINY, valid_per_class=6))
    with pytest.raises(ValueError, match='was made with other images that are also called'):
        fit(TINY, tmp_path, other, 'cpu', progress=False)


def test_older_recipe(whole, tmp_path, quiet):
    "A field that a record does not know yet has its default"
    stop(TINY, tmp_path, quiet, 5)
    p = tmp_path/'fractals/inception_resnet_v1-0.json'
    meta = json.loads(p.read_text())
    assert meta['recipe'].pop('hue') == 0. and meta.pop('seal')
    p.write_text(json.dumps(meta))
    assert fit(TINY, tmp_path, **quiet).rows[-1]['loss'] == whole.rows[-1]['loss']


@pytest.mark.slow
def test_other_threads(tmp_path, quiet):
    stop(TINY, tmp_path, quiet, 5)
    torch.set_num_threads(2)
    try:
        with pytest.warns(UserWarning, match=r'started with 1 threads and is resumed with 2.*set_num_threads\(1\)'):
            stop(TINY, tmp_path, quiet, 5)
    finally: torch.set_num_threads(1)


@pytest.mark.parametrize('save_every', [0, *slow(1e9)])
def test_a_large_network_is_saved_by_the_clock(whole, tmp_path, quiet, monkeypatch, save_every):
    "And at the end; rows that are younger than its checkpoint are written again"
    monkeypatch.setattr(callbacks, 'SMALL_NETWORK', 0)
    saved, save = [], Checkpoints.save
    monkeypatch.setattr(Checkpoints, 'save', lambda self, step, state: (saved.append(step), save(self, step, state)))
    stop(TINY, tmp_path, quiet, 7, save_every=save_every)
    assert len(read_run(tmp_path/'fractals/inception_resnet_v1-0.csv')) == 3
    assert saved == (list(range(1, 8)) if save_every == 0 else [])
    again = fit(TINY, tmp_path, **quiet, save_every=1e9)
    assert compare(whole, again) == '' and table(whole) == table(again)
    assert saved[-1] == 8 and [r['step'] for r in again.meta['time']['resumed']] == [7 if save_every == 0 else 0]


def test_finished_returns_at_once(whole, quiet, monkeypatch):
    monkeypatch.setattr(train, 'learner', None) # not even a network is made
    monkeypatch.setattr(train, 'load_data', None)
    root, stamp = whole.path.parents[1], whole.path.stat().st_mtime_ns
    start = time.perf_counter()
    assert compare(fit(TINY, root, device='cpu'), whole) == ''
    assert time.perf_counter() - start < .5 and whole.path.stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match='another recipe: lr'): fit(replace(TINY, lr=1.), root, device='cpu')
