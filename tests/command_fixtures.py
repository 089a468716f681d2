"The command as a shell sees it: its exit code, standard output and standard error."
import os
import signal
import subprocess
import sys
import warnings
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from unittest import mock

tiny = [o for s in ('classes=3', 'per_class=22', 'valid_per_class=4', 'evals=2', 'epochs=1')
        for o in ('--set', s)] + ['--set', 'width=0.0625']


def settings(fields): return [o for k, v in fields.items() for o in ('--set', f'{k}={v}')]


def shell(*args, cwd=None, **env):
    own = '-W', 'ignore', '-W', 'default::UserWarning'  # others change with the versions of what is installed
    done = subprocess.run([sys.executable, *own, '-c', 'from inception_repro.cli import main; main()', *map(str, args)],
                          capture_output=True, text=True, cwd=cwd, timeout=300,
                          env={**os.environ, 'COLUMNS': '120', 'FORCE_COLOR': '',
                               **{k: str(v) for k, v in env.items()}})
    return done.returncode, done.stdout, done.stderr


@contextmanager
def same_signals():
    "The command catches signals for the rest of its process"
    known = {k: signal.getsignal(k) for k in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try: yield
    finally:
        for k, f in known.items(): signal.signal(k, f)


def call(*args, cwd=None, **env):
    "As `shell`, but in this process: the seconds that a new process needs to import everything are saved"
    from inception_repro.cli import main
    out, err = StringIO(), StringIO()
    own = {'COLUMNS': '120', 'FORCE_COLOR': '', **{k: str(v) for k, v in env.items()}}
    with (mock.patch.dict(os.environ, own), mock.patch.object(sys, 'argv', ['inception-repro', *map(str, args)]),
          chdir(cwd or '.'), warnings.catch_warnings(), same_signals(), redirect_stdout(out), redirect_stderr(err)):
        warnings.simplefilter('ignore')
        warnings.simplefilter('default', UserWarning)
        try: main()
        except SystemExit as e: code = e.code or 0
    return code, out.getvalue(), err.getvalue()
