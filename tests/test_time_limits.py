"The seconds of a run, time limits, and what `fresh` deletes. Not in a notebook: it waits, or replaces the clock."
import shutil
import time
from functools import partial

import pytest

from inception_repro.training import callbacks, fit as train
from inception_repro.training.checkpoint import Checkpoints
from inception_repro.training.fit import fit
from inception_repro.training.learner import TrainingCallback
from inception_repro.training.recipe import replace
from inception_repro.training.records import compare, read_run

from training_fixtures import Once, Raise, STEPS, stop, TINY

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.mark.slow
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


def test_the_time_is_over_before_anything_is_made(whole, tmp_path, quiet, monkeypatch):
    late = dict(until=time.time(), device='cpu')
    assert compare(fit(TINY, whole.path.parents[1], **late), whole) == '' # what is finished needs none
    stop(TINY, tmp_path, quiet, 5)
    monkeypatch.setattr(train, 'load_data', None)
    with pytest.raises(train.OutOfTime, match='the time limit is reached; the same command resumes at step 5'):
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


@pytest.mark.slow
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
