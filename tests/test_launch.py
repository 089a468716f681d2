"The command with `--processes`: restarts, signals, exit codes. Not in a notebook: it starts and kills processes."
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from inception_repro.training.fit import fit
from inception_repro.training.learner import TrainingCallback
from inception_repro.training.recipe import replace
from inception_repro.training.records import read_run

from training_fixtures import TINY, table

pytestmark = pytest.mark.usefixtures('one_thread')
TWO = replace(TINY, replicas=2)
CHANGES = 'width=.0625 classes=3 per_class=22 valid_per_class=5 bs=16 epochs=2 evals=2 replicas=2'


class AtStep(TrainingCallback):
    "Something happens in one process after a step of the first attempt"
    order = 100
    def __init__(self, step, rank, number, to_parent=False):
        self.at, self.rank, self.number, self.to_parent = step, rank, number, to_parent
    def after_batch(self):
        first = os.environ['TORCHELASTIC_RESTART_COUNT'] == '0' and os.environ['RANK'] == str(self.rank)
        if self.count.step == self.at and first: os.kill(os.getppid() if self.to_parent else os.getpid(), self.number)


def worker(*what):
    "What a process does in place of `python -m inception_repro`"
    from inception_repro.training import fit as module
    from inception_repro.cli import main
    module.fit = lambda recipe, *args, **kw: fit(recipe, *args, save_every=0, cbs=AtStep(*what), **kw)
    main()


LAUNCHER = '''
import signal, sys
from inception_repro.cli_launch import launch
signal.signal(signal.SIGINT, signal.default_int_handler) # a shell's background processes ignore it
code = f"from test_launch import worker; worker(*{sys.argv[1]})"
sys.exit(launch(2, 1, [sys.executable, '-c', code, *sys.argv[2:]]))
'''


def command(runs, what, *more):
    "Exit code and standard error of `train` in two processes"
    sets = [o for c in CHANGES.split() for o in ('--set', c)]
    paths = [str(Path(__file__).parent), *sys.path]
    p = subprocess.run([sys.executable, '-c', LAUNCHER, repr(tuple(map(int, what))), 'train', TINY.model, *sets,
                        '--runs', str(runs), '--processes', '2', '--device', 'cpu', *more],
                       text=True, capture_output=True, timeout=300,
                       env=os.environ | dict(OMP_NUM_THREADS='1', PYTHONPATH=os.pathsep.join(paths)))
    return p.returncode, p.stderr, p.stdout


def record(runs): return read_run(runs/f'fractals/{TINY.model}-0.csv')


@pytest.mark.slow
def test_a_process_is_killed_and_all_start_again(tmp_path, quiet):
    code, err, out = command(tmp_path/'killed', (5, 1, signal.SIGKILL), '--fresh')
    assert code == 0 and out.count('top-1 error') == 1, err
    one, run = fit(TWO, tmp_path/'one', **quiet), record(tmp_path/'killed')
    assert table(run) == table(one) and [o['step'] for o in run.meta['time']['resumed']] == [5]


@pytest.mark.slow
def test_signals_stop_all_processes_with_a_checkpoint(tmp_path, quiet):
    code, err, _ = command(tmp_path, (3, 0, signal.SIGTERM, True))
    assert code == 75 and err.count('SIGTERM was received; the same command resumes at step') == 1, err
    code, err, _ = command(tmp_path, (6, 1, signal.SIGINT, True))
    assert code == 130 and 'SIGINT was received' in err, err
    run = record(tmp_path)
    assert not run.meta['finished'] and [o['step'] >= 3 for o in run.meta['time']['resumed']] == [True]
