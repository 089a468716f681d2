"Runs that are killed, or started twice at the same time. Not in a notebook: they need processes to kill."
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from inception_repro.training import fit as train
from inception_repro.training.checkpoint import Checkpoints
from inception_repro.support.files import LOCK
from inception_repro.training.fit import fit
from inception_repro.training.recipe import replace
from inception_repro.training.records import compare, read_run

from slow_cases import slow
from training_fixtures import ENV, folder, stop, table, TINY

pytestmark = pytest.mark.usefixtures('one_thread')


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
    (folder(tmp_path)/LOCK).parent.mkdir(parents=True) # as a kill at the very end leaves it
    (folder(tmp_path)/LOCK).touch()
    fit(TINY, tmp_path, **quiet)
    assert sorted(p.suffix for p in (tmp_path/'fractals').iterdir()) == ['.csv', '.json']


def test_one_at_a_time(tmp_path):
    "The lock is deleted by everyone that leaves, and still nobody is in with another"
    from threading import Thread
    inside, most, errors = [], [], []
    def work():
        try: enter()
        except Exception as e: errors.append(e)
    def enter():
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
    assert not errors and max(most) == 1 and len(most) > 50 and tmp_path.exists()


@pytest.mark.parametrize('error', [FileExistsError, FileNotFoundError])
def test_a_folder_that_another_process_deletes_while_it_is_locked(error, tmp_path, monkeypatch):
    "filelock makes the folder, too; one that is gone a moment later is reported as existing or as missing"
    from filelock import FileLock
    tries, acquire = [], FileLock.acquire
    def fails_twice(self, *args, **kwargs):
        tries.append(1)
        if len(tries) < 3: raise error(17, 'File exists')
        return acquire(self, *args, **kwargs)
    monkeypatch.setattr(FileLock, 'acquire', fails_twice)
    with train.locked(tmp_path/'a'/'b'): assert len(tries) == 3
    (tmp_path/'file').touch() # which does not vanish
    with pytest.raises(OSError, match='it cannot be locked: the folder cannot be created: File exists'):
        with train.locked(tmp_path/'file'): pass


CHILD = f'''
import signal, sys, time, torch
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell\'s background processes ignore it
torch.set_num_threads(1)
from inception_repro.support.files import LOCK
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


@pytest.mark.parametrize('steps', ['4', *slow('2 5')])
def test_sigkill(whole, tmp_path, steps):
    "At moments of which nothing is known, once or twice"
    for upto in map(int, steps.split()):
        p = child(tmp_path)
        while int(p.stdout.readline()) < upto: pass
        time.sleep(random.random() / 20)
        p.send_signal(signal.SIGKILL)
        assert p.wait() == -signal.SIGKILL
    (folder(tmp_path)/f'.inception-repro-{"0" * 16}.tmp').write_bytes(b'half') # as a kill within a write leaves it
    p = child(tmp_path)
    p.communicate()
    again = read_run(tmp_path/'fractals/inception_resnet_v1-0.csv')
    assert p.returncode == 0 and compare(whole, again) == '' and table(whole) == table(again)
    assert sorted(o.suffix for o in again.path.parent.iterdir()) == ['.csv', '.json']


@pytest.mark.slow
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
