"The command as a shell sees it: its exit code, standard output and standard error."
import os
import subprocess
import sys

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
