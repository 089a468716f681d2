"Runs that are stopped, killed, crowded or damaged. Not in a notebook: they need processes to kill."
import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from functools import partial
from itertools import product
from types import SimpleNamespace

import pytest
import torch

from inception_repro.training import callbacks, fit as train
from inception_repro.training.checkpoint import Checkpoints
from inception_repro.training.fit import fit
from inception_repro.training.learner import TrainingCallback, learner, load_data
from inception_repro.training.recipe import evaluation_steps, preset, replace
from inception_repro.training.records import compare, read_run

ENV = dict(commit=None, device='cpu', python='3', torch='2', fastai='2', inception_repro='0')
TINY = preset('demo', 'inception_resnet_v1', width=1/16, classes=3, per_class=22, valid_per_class=5, bs=16,
              epochs=2, evals=2)
STEPS = 8 # two epochs of four, the last two images of each left out


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    "The numbers depend on it, and the children use one"
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


@pytest.fixture(scope='module')
def data(): return load_data(TINY)


@pytest.fixture(scope='module')
def quiet(data): return dict(data=data, device='cpu', env=ENV, progress=False)


@pytest.fixture(scope='module')
def whole(tmp_path_factory, quiet):
    "The run that nothing happened to"
    return fit(TINY, tmp_path_factory.mktemp('whole'), **quiet)


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


@pytest.mark.parametrize('step, event, save_every', PLACES)
def test_resumes_anywhere(whole, tmp_path, quiet, step, event, save_every):
    if event == 'after_step': step += 1 # has counted itself
    stop(TINY, tmp_path, quiet, step, event, save_every)
    again = fit(TINY, tmp_path, **quiet)
    assert compare(whole, again) == '' and table(whole) == table(again)


@pytest.mark.parametrize('changes', [dict(optimizer='adamw', lr=.002, wd=.05), dict(precision='bf16'),
                                     dict(channels_last=False, clip=None, model='inception_v4', ema=.9)], ids=str)
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


def test_seconds_of_pieces_add_up(tmp_path, quiet):
    "What is trained after the last evaluation counts, too"
    recipe = replace(TINY, evals=1/2)
    class Slow(TrainingCallback):
        def after_batch(self): time.sleep(.05)
    for _ in range(STEPS):
        try: run = fit(recipe, tmp_path, **quiet, until=time.time() + 99, cbs=[Slow(), Once()])
        except train.OutOfTime: pass
    assert run.meta['finished'] and run['seconds'][-1] >= STEPS * .05


def test_seconds_are_of_steps(tmp_path, quiet, monkeypatch):
    "Neither evaluations nor checkpoints are in them; the wall time has both"
    class Slow(TrainingCallback):
        def after_batch(self): time.sleep(.02)
    def slow(f): return lambda *args: (time.sleep(.2), f(*args))[1]
    monkeypatch.setattr(callbacks, 'evaluate', slow(callbacks.evaluate))
    monkeypatch.setattr(Checkpoints, 'save', slow(Checkpoints.save))
    stop(TINY, tmp_path, {**quiet, 'cbs': Slow()}, 5)
    run = fit(TINY, tmp_path, **quiet, cbs=Slow())
    t = run.meta['time']
    assert t['wall'] - t['seconds'] >= 8 * .2 and t['seconds'] == run['seconds'][-1] >= STEPS * .02
    assert t['images_per_second'] == STEPS * TINY.bs / t['seconds']
    pieces = t['first'], *t['resumed']
    assert [(p['step'], p['steps']) for p in pieces] == [(0, 5), (5, 3)]
    assert sum(p['seconds'] for p in pieces) == pytest.approx(t['seconds'], abs=.01)
    assert all(p['images_per_second'] == pytest.approx(p['steps'] * TINY.bs / p['seconds']) for p in pieces)


def test_a_compiling_step_counts_as_the_mean_of_the_others(monkeypatch):
    now, watch = [0.], callbacks.Stopwatch(100., compiles=True)
    monkeypatch.setattr(callbacks.time, 'perf_counter', lambda: now[0])
    monkeypatch.setattr(watch, 'synchronize', lambda: None)
    def steps(*seconds):
        for s in seconds:
            now[0] += s
            watch.after_batch()
    def read():
        with watch.paused(): now[0] += 50 # an evaluation
        return watch.seconds
    watch.before_fit()
    steps(60)
    assert read() == 100
    steps(2)
    assert read() == 104
    steps(.5) # the mean falls, the seconds do not
    assert read() == 104
    steps(2, 2, 2)
    assert read() == pytest.approx(100 + 8.5 * 6/5)


def test_an_older_checkpoint(whole, tmp_path, quiet):
    "Without a wall time: its seconds were that; a record without pieces gets what can be told"
    stop(TINY, tmp_path, quiet, 5)
    kept = Checkpoints(folder(tmp_path))
    state = kept.load()
    kept.save(5, {k: v for k, v in state.items() if k not in ('wall', 'memory')} | dict(seconds=1000.))
    p = tmp_path/'fractals/inception_resnet_v1-0.json'
    meta = json.loads(p.read_text())
    del meta['time']['first'], meta['time']['wall'], meta['data']
    p.write_text(json.dumps(meta))
    again = fit(TINY, tmp_path, **quiet)
    assert compare(whole, again) == '' and again.meta['time']['wall'] > again.meta['time']['seconds'] > 1000
    assert again.meta['time']['first']['steps'] == 5


def test_the_time_is_over_before_anything_is_made(whole, tmp_path, quiet, monkeypatch):
    late = dict(until=time.time(), device='cpu')
    assert compare(fit(TINY, whole.path.parents[1], **late), whole) == '' # what is finished needs none
    stop(TINY, tmp_path, quiet, 5)
    monkeypatch.setattr(train, 'load_data', None)
    with pytest.raises(train.OutOfTime, match='the time is over; the same command resumes at step 5'):
        fit(TINY, tmp_path, **late)
    with pytest.raises(train.OutOfTime, match='command resumes at step 0'): fit(TINY, tmp_path, **late, fresh=True)
    with pytest.raises(train.OutOfTime): fit(TINY, tmp_path/'new', **late | dict(until=float('nan')))
    assert (not (tmp_path/'new').exists()
            and read_run(tmp_path/'fractals/inception_resnet_v1-0.csv')['step'].tolist() == [2, 4])


def test_a_limit_leaves_room_for_its_checkpoint(tmp_path, quiet):
    class Dear(TrainingCallback):
        order = 51
        def after_batch(self): self.record_keeper.save_time = 90. * (self.count.step == 3)
    with pytest.raises(train.OutOfTime, match='at step 3'):
        fit(TINY, tmp_path, **quiet, until=time.time() + 60, cbs=Dear())


def test_fresh_goes_on_without_it(whole, tmp_path, quiet):
    "After a limit, Ctrl-C, and before it has begun"
    other, fresh = replace(TINY, lr=.01), dict(quiet, fresh=True)
    fit(other, tmp_path, **quiet)
    for way, exc in (Once(), train.OutOfTime), (Raise(1, 'before_batch'), KeyboardInterrupt):
        with pytest.raises(exc, match='the same command without fresh=True resumes at step [01]$'):
            fit(TINY, tmp_path, **fresh, cbs=way, until=time.time() + 99)
    assert compare(whole, fit(TINY, tmp_path, **quiet)) == ''
    with pytest.raises(KeyboardInterrupt, match='the same command resumes at step 0'):
        interrupted(other, tmp_path, fresh)
    assert compare(whole, fit(TINY, tmp_path, **quiet)) == '' # nothing was lost


def interrupted(recipe, out, kwargs):
    "Ctrl-C while the data are read"
    with pytest.MonkeyPatch.context() as m:
        m.setattr(train, 'load_data', lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt()))
        fit(recipe, out, **kwargs)


def test_weights_of_a_finished_run(whole, tmp_path, quiet):
    with pytest.warns(UserWarning, match='its weights were not kept'):
        fit(TINY, whole.path.parents[1], **quiet, save_weights=tmp_path/'w.safetensors')


def test_a_folder_that_is_not_there(whole, tmp_path, quiet):
    "A finished run does not hide a path that is spelt wrong"
    with pytest.raises(ValueError,
                       match=re.escape(f"no folder {tmp_path/'nowhere'}; give one that has train/ and val/")):
        fit(TINY, whole.path.parents[1], **quiet | dict(data=tmp_path/'nowhere'))
    with pytest.raises(ValueError, match="unknown dataset 'imagenete'; did you mean 'imagenette'"):
        fit(TINY, whole.path.parents[1], **quiet | dict(data='imagenete'))


def test_the_lock_is_left_to_its_owner(whole, quiet):
    with train.locked(folder(whole.path.parents[1])):
        fit(TINY, whole.path.parents[1], **quiet)
        with pytest.raises(RuntimeError, match='in use'):
            with train.locked(folder(whole.path.parents[1])): pass
    fit(TINY, whole.path.parents[1], **quiet)


def test_nothing_is_left_behind(tmp_path, quiet):
    "Of a run that could not begin, no folder; of one that was stopped, checkpoints alone"
    with pytest.raises(ValueError, match='fewer than a batch'): fit(replace(TINY, bs=200), tmp_path, **quiet)
    assert not (tmp_path/'fractals/checkpoints').exists()
    stop(TINY, tmp_path, quiet, 5)
    assert {p.suffix for p in folder(tmp_path).iterdir()} == {'.pt'}
    fit(TINY, tmp_path, **quiet)
    (folder(tmp_path)/'lock').parent.mkdir(parents=True) # as a kill at the very end leaves it
    (folder(tmp_path)/'lock').touch()
    fit(TINY, tmp_path, **quiet)
    assert sorted(p.suffix for p in (tmp_path/'fractals').iterdir()) == ['.csv', '.json']


def test_one_at_a_time(tmp_path):
    "The lock is deleted by everyone that leaves, and still nobody is in with another"
    from threading import Thread
    inside, most = [], []
    def work():
        until = time.monotonic() + 1
        while time.monotonic() < until:
            with suppress(RuntimeError), train.locked(tmp_path/'a'/'b'):
                inside.append(1)
                most.append(len(inside))
                time.sleep(.0005)
                inside.pop()
    threads = [Thread(target=work) for _ in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert max(most) == 1 and len(most) > 50 and tmp_path.exists()


def test_live_bar(tmp_path, quiet, monkeypatch):
    "In a terminal, without a warning"
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        fit(replace(TINY, epochs=1), tmp_path, **{**quiet, 'progress': True})


def test_stopped_again_and_again(whole, tmp_path, quiet):
    for step in range(STEPS): stop(TINY, tmp_path, quiet, step)
    again = fit(TINY, tmp_path, **quiet)
    assert compare(whole, again) == ''
    assert [r['step'] for r in again.meta['time']['resumed']] == list(range(STEPS))


CHILD = f'''
import signal, sys, time, torch
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell\'s background processes ignore it
torch.set_num_threads(1)
from inception_repro.training.fit import fit
from inception_repro.training.learner import TrainingCallback
from inception_repro.training.recipe import Recipe
class Say(TrainingCallback):
    order = 100
    def after_batch(self):
        print(self.count.step, flush=True)
        time.sleep(.3 * (self.count.step >= 3)) # whoever reads this has time to act on it
fit(Recipe(**{dict(TINY.__dict__)!r}), sys.argv[1], device='cpu', env={ENV!r}, progress=False, save_every=0, cbs=Say())
'''


def child(out, **kw):
    return subprocess.Popen([sys.executable, '-c', CHILD, out], stdout=subprocess.PIPE, text=True, **kw)


def test_sigkill(whole, tmp_path):
    "Twice, at moments of which nothing is known"
    for upto in 2, 5:
        p = child(tmp_path)
        while int(p.stdout.readline()) < upto: pass
        time.sleep(random.random() / 20)
        p.send_signal(signal.SIGKILL)
        assert p.wait() == -signal.SIGKILL
    (folder(tmp_path)/'.000000000009.pt.1.tmp').write_bytes(b'half') # as a kill within a write leaves it
    p = child(tmp_path)
    p.communicate()
    again = read_run(tmp_path/'fractals/inception_resnet_v1-0.csv')
    assert p.returncode == 0 and compare(whole, again) == '' and table(whole) == table(again)
    assert sorted(o.suffix for o in again.path.parent.iterdir()) == ['.csv', '.json']


def test_ctrl_c(whole, tmp_path, quiet):
    p = child(tmp_path, stderr=subprocess.PIPE)
    while int(p.stdout.readline()) < 3: pass
    p.send_signal(signal.SIGINT)
    err = p.communicate()[1]
    assert p.returncode and 'stopped; the same command resumes at step' in err.splitlines()[-1]
    assert compare(whole, fit(TINY, tmp_path, **quiet)) == ''


def test_refused_while_running(tmp_path, quiet):
    p = child(tmp_path)
    p.stdout.readline()
    with pytest.raises(RuntimeError, match='is in use by another process; wait for it, or choose another out'):
        fit(TINY, tmp_path, **quiet)
    with pytest.raises(RuntimeError, match='in use'): fit(TINY, tmp_path, **quiet, fresh=True)
    p.kill()
    p.wait()


@pytest.mark.parametrize('damage', ['cut', 'empty', 'bit'])
def test_damaged_checkpoint(whole, tmp_path, quiet, damage):
    stop(TINY, tmp_path, quiet, 5)
    last, before = sorted(folder(tmp_path).glob('*.pt'), reverse=True)
    bytes_ = bytearray(last.read_bytes())
    bytes_[len(bytes_) // 2] ^= 16
    last.write_bytes(dict(cut=bytes(bytes_[:len(bytes_) // 2]), empty=b'', bit=bytes(bytes_))[damage])
    with pytest.warns(UserWarning, match=f'{last.name} is damaged; the one before it is used'):
        again = fit(TINY, tmp_path, **quiet)
    assert compare(whole, again) == ''
    assert again.meta['time']['resumed'][0]['step'] == int(before.stem) == 4


def test_all_checkpoints_damaged(whole, tmp_path, quiet):
    stop(TINY, tmp_path, quiet, 5)
    for p in folder(tmp_path).glob('*.pt'): p.write_bytes(b'gone')
    with pytest.warns(UserWarning), pytest.raises(ValueError, match='are damaged; start the run again with fresh=True'):
        fit(TINY, tmp_path, **quiet)
    assert compare(whole, fit(TINY, tmp_path, **quiet, fresh=True)) == ''


def test_lost_files(whole, tmp_path, quiet):
    "Without its record a checkpoint is nothing; without its checkpoints a record starts again"
    for lost in 'csv', 'pt':
        stop(TINY, tmp_path/lost, quiet, 5)
        for p in [*(tmp_path/lost).rglob(f'*.{lost}')]: p.unlink()
        assert compare(whole, fit(TINY, tmp_path/lost, **quiet)) == ''


def test_rows_lost(tmp_path, quiet):
    stop(TINY, tmp_path, quiet, 7)
    p = tmp_path/'fractals/inception_resnet_v1-0.csv'
    lines = p.read_text().splitlines(True)
    p.write_text(''.join(lines[:2] + lines[3:]))
    with pytest.raises(ValueError, match='lacks the rows of steps 4; .* fresh=True'): fit(TINY, tmp_path, **quiet)


@pytest.mark.skipif(not os.path.exists('/proc/self/fd'), reason='asks Linux for the name of an open file')
@pytest.mark.parametrize('what', ['checkpoint', 'row'])
def test_full_disk(whole, tmp_path, quiet, monkeypatch, what):
    real, calls = os.fsync, []
    def full(fd):
        name = os.readlink(f'/proc/self/fd/{fd}')
        calls.append(name)
        if name.endswith('.csv') == (what == 'row') and sum((o.endswith('.csv')) == (what == 'row') for o in calls) > 5:
            raise OSError(errno.ENOSPC, 'No space left on device')
        real(fd)
    with monkeypatch.context() as m:
        m.setattr(os, 'fsync', full)
        recipe = TINY if what == 'checkpoint' else replace(TINY, evals=4)
        if what == 'row': whole = None
        with pytest.raises(OSError, match='the disk is full; make room, then the same command resumes at step') as e:
            fit(recipe, tmp_path, **quiet, save_every=0)
        assert e.value.errno == errno.ENOSPC
    again = fit(recipe, tmp_path, **quiet)
    assert again.meta['finished'] and (whole is None or compare(whole, again) == '')
    if whole is None: assert again['step'].tolist() == list(range(1, STEPS + 1))


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
    with pytest.raises(ValueError, match='was made with another recipe: dataset_hash'):
        fit(TINY, tmp_path, other, 'cpu', progress=False)


def test_older_recipe(whole, tmp_path, quiet):
    "A field that a record does not know yet has its default"
    stop(TINY, tmp_path, quiet, 5)
    p = tmp_path/'fractals/inception_resnet_v1-0.json'
    meta = json.loads(p.read_text())
    assert meta['recipe'].pop('hue') == 0.
    p.write_text(json.dumps(meta))
    assert fit(TINY, tmp_path, **quiet).rows[-1]['loss'] == whole.rows[-1]['loss']


def test_other_threads(tmp_path, quiet):
    stop(TINY, tmp_path, quiet, 5)
    torch.set_num_threads(2)
    try:
        with pytest.warns(UserWarning, match=r'started with 1 threads and is resumed with 2.*set_num_threads\(1\)'):
            stop(TINY, tmp_path, quiet, 5)
    finally: torch.set_num_threads(1)


@pytest.mark.parametrize('lr', [1e30, 1e4])
def test_not_finite(tmp_path, quiet, lr):
    wild = replace(TINY, lr=lr, clip=None)
    for _ in range(2): # again: the same end
        with pytest.raises(FloatingPointError, match=r'(nan|inf) at step \d, epoch [\d.]+, learning rate .*fresh'):
            fit(wild, tmp_path, **quiet)
    assert compare(fit(TINY, tmp_path, **quiet, fresh=True), fit(TINY, tmp_path/'b', **quiet)) == ''


def test_a_wild_loss_is_not_saved(tmp_path, quiet):
    "Here the limit would save it"
    class Wild(TrainingCallback):
        order = 54 # after `RecordKeeper`, before `TimeLimit`
        def after_batch(self):
            if self.count.step != 3: return
            self.count.total.fill_(float('nan'))
            self.time_limit.until = 0.
    with pytest.raises(FloatingPointError, match='the loss is nan at step 3'):
        fit(TINY, tmp_path, **quiet, until=time.time() + 1e6, cbs=Wild())
    assert [int(p.stem) for p in Checkpoints(folder(tmp_path)).files()] == [2]


def test_a_gpu_does_not_know_the_step():
    keep = callbacks.RecordKeeper(TINY, SimpleNamespace(path='r.csv'), None, 4)
    total = SimpleNamespace(device=SimpleNamespace(type='cuda'))
    keep.learn = SimpleNamespace(count=SimpleNamespace(step=50, at=12.5, total=total),
                                 opt=SimpleNamespace(hypers=[dict(lr=.1)]))
    with pytest.raises(FloatingPointError, match='the loss is nan by step 50, epoch 12.5, learning rate 0.1'):
        keep.check(float('nan'))


@pytest.mark.parametrize('save_every', [1e9, 0])
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


def test_all_are_begun_afresh_at_once(tmp_path, monkeypatch):
    "So that the command without it goes on with all of them, also those that had no time yet"
    from inception_repro.results import train_many
    old = [replace(TINY, model=m, epochs=1, evals=1) for m in ('inception_resnet_v1', 'inception_v3')]
    todo = [replace(r, lr=.01) for r in old]
    train_all = partial(train_many.train_all, runs=tmp_path, device='cpu', jobs=1, progress=False)
    train_all(old)
    with pytest.raises(train.OutOfTime, match='the same command resumes at step 0'):
        train_all(todo, fresh=True, until=time.time())
    assert all(read_run(p).meta['finished'] for p in train_all(old)) # nothing was begun, so nothing is lost
    fits = []
    def one(r, **kwargs):
        if fits: kwargs['until'] = time.time() # is over after the first
        fits.append(r)
        return fit(r, **{k: v for k, v in kwargs.items() if k != 'weights'})
    with monkeypatch.context() as m:
        m.setattr(train_many, '_fit', one)
        with pytest.raises(train.OutOfTime, match='the same command without fresh=True resumes at step 0'):
            train_all(todo, fresh=True, until=time.time() + 99)
    assert [read_run(p).meta['recipe']['lr'] for p in train_all(todo)] == [.01, .01]


def test_fresh_deletes_nothing_where_the_images_are_not(whole, tmp_path):
    from inception_repro.results import train_many
    runs = shutil.copytree(whole.path.parents[1], tmp_path/'runs')
    with pytest.raises(ValueError, match='nowhere'):
        train_many.train_all([TINY], runs, str(tmp_path/'nowhere'), 'cpu', fresh=True, progress=False)
    assert compare(whole, read_run(runs/whole.path.relative_to(whole.path.parents[1]))) == ''


def test_stopped_side_by_side(tmp_path, monkeypatch):
    from inception_repro.results import train_many
    monkeypatch.setattr(train_many, '_train_in_parallel', lambda *a: (_ for _ in ()).throw(KeyboardInterrupt()))
    for fresh, words in (False, ''), (True, ' without fresh=True'):
        with pytest.raises(KeyboardInterrupt, match=f'^stopped; the same command{words} resumes$'):
            train_many.train_all([TINY] * 2, tmp_path, device='cpu', jobs=2, progress=False, fresh=fresh)


@pytest.mark.parametrize('device', ['gpu', 'cuda:x', 'cuda:', 'xla', 'CPU', 'meta'])
def test_unknown_device(tmp_path, device):
    with pytest.raises(ValueError, match=f"^unknown device '{device}'; one of cpu, cuda, cuda:N$"):
        fit(TINY, tmp_path, device=device)
    assert not list(tmp_path.iterdir())


def test_devices_that_are_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    assert [str(train.find_device(d)) for d in (None, 'cpu', torch.device('cpu'), 'cuda:1')] == [
        'cuda', 'cpu', 'cpu', 'cuda:1']
    with pytest.raises(ValueError, match="device is 'cuda:2', but torch finds 2, cuda:0 to cuda:1"):
        train.find_device('cuda:2')


def test_finished_returns_at_once(whole, quiet, monkeypatch):
    monkeypatch.setattr(train, 'learner', None) # not even a network is made
    monkeypatch.setattr(train, 'load_data', None)
    root, stamp = whole.path.parents[1], whole.path.stat().st_mtime_ns
    start = time.perf_counter()
    assert compare(fit(TINY, root, device='cpu'), whole) == ''
    assert time.perf_counter() - start < .5 and whole.path.stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match='another recipe: lr'): fit(replace(TINY, lr=1.), root, device='cpu')


def test_killed_when_all_was_done(whole, tmp_path, quiet, monkeypatch):
    "After the last checkpoint, before the record says so; and after that, before the folder is gone"
    with monkeypatch.context() as m:
        m.setattr(train.Record, 'finish', lambda self: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt): fit(TINY, tmp_path, **quiet)
    with monkeypatch.context() as m:
        clean = Checkpoints.clean
        def killed(self, all=False):
            if all: raise KeyboardInterrupt # nothing is deleted
            clean(self)
        m.setattr(Checkpoints, 'clean', killed)
        with pytest.raises(KeyboardInterrupt): fit(TINY, tmp_path, **quiet)
    assert list(folder(tmp_path).glob('*.pt'))
    assert compare(whole, fit(TINY, tmp_path, **quiet)) == ''
    assert not folder(tmp_path).exists()


def test_bf16_step(data):
    recipe = replace(TINY, precision='bf16')
    learn, seen = learner(recipe, data), []
    hook = learn.model.trunk.register_forward_hook(lambda m, i, o: seen.append(o.dtype))
    learn.add_cb(Raise(1, 'after_batch'))
    with pytest.raises(KeyboardInterrupt): learn.fit(1)
    assert seen == [torch.bfloat16] and learn.pred.dtype == learn.loss.dtype == torch.float32
    assert {p.dtype for p in learn.model.parameters()} == {torch.float32}


def test_auxiliary_head(data):
    "At 299 pixels Inception-v3 learns from both heads, with a weight of 0.4 on the second"
    recipe = replace(TINY, model='inception_v3', px=299, aux=.4, bs=2)
    learn = learner(recipe, data)
    xb, yb = learn.dls.one_batch()
    learn.model.train()
    main, aux = learn.model(xb)
    ce = lambda o: torch.nn.functional.cross_entropy(o, yb, label_smoothing=.1)
    torch.testing.assert_close(learn.loss_func((main, aux), yb), ce(main) + .4 * ce(aux))
    learn.add_cb(Raise(1, 'after_batch'))
    with pytest.raises(KeyboardInterrupt): learn.fit(1)
    assert learn.model.aux.classifier.weight.grad is None and learn.average.net.n_averaged == 1


def test_keeps_two(tmp_path):
    kept = Checkpoints(tmp_path)
    for i in range(5): kept.save(i, dict(step=i))
    assert [p.name for p in kept.files()] == ['000000000004.pt', '000000000003.pt'] and kept.load() == dict(step=4)


def test_lines_for_a_log(tmp_path, quiet, capsys):
    fit(TINY, tmp_path, **{**quiet, 'progress': True})
    lines = capsys.readouterr().out.splitlines()
    name = 'inception_resnet_v1 seed 0'
    assert [o.split(', top-1')[0] for o in lines] == [f'{name}, epoch {e} of 2' for e in (1, 1, 2, 2)]


def test_no_warnings(tmp_path, quiet):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        fit(replace(TINY, epochs=1), tmp_path, **quiet)


@pytest.mark.parametrize('minutes', ['-5', '0', 'nan'])
def test_minutes_that_are_none(minutes, monkeypatch, capsys):
    from inception_repro import cli
    monkeypatch.setattr(sys, 'argv', ['inception-repro', 'train', 'inception_v3', '--minutes', minutes])
    with pytest.raises(SystemExit) as e: cli.main()
    assert e.value.code == 1 and f'--minutes is {minutes}; use a number above 0' in capsys.readouterr().err


def test_plan_tells_each_as_it_comes(tmp_path, monkeypatch, capsys):
    "On the preset's own batch; what was told stays, should the next one fail"
    from inception_repro import cli
    from inception_repro.training import learner
    seen = []
    def step(recipe, *rest):
        if seen: raise RuntimeError('out of memory')
        seen.append(recipe.bs)
        return dict(forward=2.)
    monkeypatch.setattr(learner, 'profile_step', step)
    with pytest.raises(RuntimeError):
        cli.plan('demo', 'cpu', models='inception_v3,inception_resnet_v2.b10_20_10', record=tmp_path/'a.json')
    out = capsys.readouterr().out
    assert seen == [32] and len(out.splitlines()) == 2 and out.splitlines()[1].split()[5:7] == ['32', '16']
    assert not (tmp_path/'a.json').exists()
    seen.clear()
    cli.plan('demo', 'cpu', models='inception_resnet_v1', record=tmp_path/'a.json')
    kept = json.loads((tmp_path/'a.json').read_text())
    assert [kept['preset'], kept['rows'][0]['model'], kept['rows'][0]['images_per_second']] == [
        'demo', 'inception_resnet_v1', 16]
    assert kept['environment']['torch'] == torch.__version__
    with pytest.raises(ValueError, match='steps is 0; use a whole number of at least 1'):
        cli.plan('demo', 'cpu', steps=0)
    with pytest.raises(ValueError, match="unknown model 'inception_v5'"): cli.plan('demo', 'cpu', models='inception_v5')


needs_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')


@needs_a_gpu
def test_a_gpu_is_never_waited_for(data):
    "Nothing in a step waits, from the batch's images to the running average"
    class Strict(TrainingCallback):
        order = -200
        def after_batch(self): torch.cuda.set_sync_debug_mode('error')  # from the second step on
        def after_train(self): torch.cuda.set_sync_debug_mode('default')
    learn = learner(replace(TINY, precision='bf16', epochs=1), data, 'cuda')
    try: learn.add_cb(Strict()).fit(1)
    finally: torch.cuda.set_sync_debug_mode('default')
    assert learn.count.step == STEPS // 2


@needs_a_gpu
@pytest.mark.parametrize('compile', [False, True])
def test_a_gpu_run_in_pieces(tmp_path, data, compile):
    recipe, place = replace(TINY, precision='bf16', compile=compile), dict(data=data, device='cuda', progress=False)
    with pytest.raises(KeyboardInterrupt): fit(recipe, tmp_path, cbs=[Raise(STEPS // 2 + 1, 'after_batch')], **place)
    run = fit(recipe, tmp_path, **place)
    assert run.meta['finished'] and run['step'].tolist() == evaluation_steps(recipe, STEPS // 2)
    assert run.meta['environment']['cuda'] and run.meta['environment']['peak_memory'] > 0
    assert [p['step'] for p in run.meta['time']['resumed']] == [STEPS // 2]
