"""Any mistake at the command line is one sentence; signals end a run with a checkpoint.

Not in a notebook: processes are started and stopped.
"""
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
from command_fixtures import call, shell
from training_fixtures import ENV, TINY, folder

from inception_repro.evaluation.evaluate import evaluate
from inception_repro.support import files
from inception_repro.support.files import atomic_write, check_writable, locked, make_folder
from inception_repro.support.messages import error_line
from inception_repro.training.fit import fit
from inception_repro.training.recipe import preset
from inception_repro.training.records import read_run
from inception_repro.results.train_many import recipes
from slow_cases import slow


@pytest.mark.parametrize('words, change', [
    ('epochs is a number of many digits', dict(epochs=10**400)),
    ('width is 1e+308; use at most 16', dict(width=1e308)), ('px is 100000; use at most 4,096', dict(px=100000)),
    ('evals is', dict(evals=(10**400,))), ('dataset is', dict(dataset='a\x1bb')), ('dataset is', dict(dataset='a\n'))])
def test_absurd_sizes(words, change):
    with pytest.raises(ValueError, match=words.replace('+', r'\+')): preset('demo', 'inception_v4', **change)


def test_absurd_number_of_seeds():
    with pytest.raises(ValueError, match='at most 1000'): recipes('demo', 10**6)


@pytest.mark.parametrize('args', [
    ['train', 'inception_v4', '--set', 'width=1_0'], ['train', 'inception_v4', '--set', 'width=' + '(' * 5000],
    ['reproduce', '--seeds', '9' * 400], ['figures', '/dev/null'], ['records', '/proc/self/mem']])
def test_one_line(args):
    code, _, err = call(*args)
    assert code == 1 and err.startswith('inception-repro: ') and err.count('\n') == 1


def test_debug_shows_the_traceback():
    code, _, err = shell('train', 'inception_v4', '--debug', '--epochs', '0')
    assert code == 1 and 'Traceback' in err and err.rstrip().splitlines()[-1].startswith('ValueError: epochs is 0')


@pytest.mark.skipif(os.name == 'nt', reason='a POSIX shell')
@pytest.mark.parametrize('how', ['models >&-', 'models 2>&-', 'models | head -c 1'])
def test_closed_output(how):
    code = f'{sys.executable} -c "from inception_repro.cli import main; main()" {how}'
    done = subprocess.run(['bash', '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0 and done.stderr == ''


@pytest.mark.parametrize('where', ['/proc/x', 'link', 'file'])
def test_folder_that_cannot_be_created(tmp_path, where):
    "It ends at once, with the reason"
    (tmp_path/'link').symlink_to(tmp_path/'unmounted')
    (tmp_path/'file').touch()
    out = where if where[0] == '/' else tmp_path/where
    with pytest.raises(OSError, match='the folder cannot be created'): fit(TINY, out, device='cpu', env=ENV)
    with pytest.raises(OSError): evaluate('inception_v4.released', 'fractals', out=out, device='cpu')
    assert not (tmp_path/'unmounted').exists()


def test_results_are_writable_before_training(tmp_path):
    with pytest.raises(OSError, match='it cannot be written'):
        fit(TINY, tmp_path/'runs', device='cpu', env=ENV, save_weights='/proc/x/w.safetensors')
    assert not (tmp_path/'runs').exists()
    with pytest.raises(OSError, match='/proc/x/r.json'):
        evaluate('inception_v4.released', 'fractals', out=tmp_path/'p', record='/proc/x/r.json', device='cpu')
    assert not (tmp_path/'p').exists()


def test_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(*_): raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(files.os, 'fsync', full)
    with pytest.raises(OSError) as e: atomic_write(tmp_path/'a.json', 'x')
    assert error_line(e.value) == f"{tmp_path/'a.json'}: No space left on device" and os.listdir(tmp_path) == []

    def full(f): raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.undo()
    with pytest.raises(OSError, match='w.pt'): atomic_write(tmp_path/'w.pt', full)


def test_links_are_not_followed_by_locks_and_temporary_files(tmp_path, monkeypatch):
    "Planted by another user"
    victim = tmp_path/'victim'
    victim.write_text('mine')
    shared = make_folder(tmp_path/'shared')
    (shared/files.LOCK).symlink_to(victim)
    with pytest.raises(OSError, match='it cannot be locked'):
        with locked(shared): pass
    monkeypatch.setattr(files.secrets, 'token_hex', lambda n: '0' * 16)
    (shared/f".inception-repro-{'0' * 16}.tmp").symlink_to(victim)
    with pytest.raises(FileExistsError): atomic_write(shared/'a.txt', 'new')
    assert victim.read_text() == 'mine'


def test_record_to_a_device_and_through_a_link(tmp_path):
    link = tmp_path/'record.json'
    (tmp_path/'there').mkdir()
    link.symlink_to(tmp_path/'there/record.json')
    for text in 'one', 'two':
        atomic_write(check_writable(link), text)
        assert link.is_symlink() and (tmp_path/'there/record.json').read_text() == text
    code = "from inception_repro.support.files import atomic_write; atomic_write('/dev/stdout', 'to a pipe')"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout == 'to a pipe'


@pytest.mark.skipif(not os.access('/dev/shm', os.W_OK), reason='needs a disk in memory')
def test_a_disk_below_dev():
    with TemporaryDirectory(dir='/dev/shm') as tmp:
        for text in 'one', 'two':
            assert atomic_write(check_writable(Path(tmp)/'new/record.json'), text).read_text() == text
        with locked(Path(tmp)/'new'): pass
        assert os.listdir(Path(tmp)/'new') == ['record.json']


@pytest.mark.skipif(not os.path.exists('/proc/self'), reason='needs Linux')
def test_why_nothing_can_be_written():
    with pytest.raises(OSError) as e: check_writable('/proc/x/record.json')
    assert error_line(e.value) == '/proc/x/record.json: it cannot be written: No such file or directory'


def test_file_system_without_locks(tmp_path, monkeypatch):
    filelock = pytest.importorskip('filelock')

    def acquire(self, *a, **k): raise OSError(errno.ENOLCK, 'No locks available')
    monkeypatch.setattr(filelock.FileLock, 'acquire', acquire)
    with pytest.raises(OSError, match='its file system has no locks; choose a folder on another disk with out'):
        with locked(tmp_path/'a'): pass


def test_forked_process_does_not_keep_the_lock(tmp_path):
    if not hasattr(os, 'fork'): pytest.skip('no fork')
    with locked(tmp_path/'a'):
        if not (child := os.fork()):
            time.sleep(60)
            os._exit(0)
    try:
        with locked(tmp_path/'a'): pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


CHILD = """
import sys
from inception_repro.cli_run import run_command
from inception_repro.training.fit import fit
from inception_repro.training.learner import TrainingCallback
from training_fixtures import ENV, TINY
import torch
torch.set_num_threads(1)
class Say(TrainingCallback):
    def after_batch(self): print(self.count.step, flush=True)
run_command(lambda: fit(TINY, sys.argv[1], device='cpu', env=ENV, progress=False, save_every=1e9, cbs=Say()))
"""


@pytest.mark.parametrize('name', ['SIGTERM', *slow('SIGHUP')])
def test_signals(tmp_path, name):
    "Checkpoint, message, exit code 75; the same command resumes"
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    p = subprocess.Popen([sys.executable, '-c', CHILD, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         text=True, env=env)
    assert p.stdout.readline() == '1\n'
    p.send_signal(getattr(signal, name))
    out, err = p.communicate()
    last = int(folder(tmp_path).glob('*.pt').__next__().stem)
    assert p.returncode == 75
    assert f'{name} was received; the same command resumes at step {last}' in err.splitlines()[-1]
    run = read_run(tmp_path/'fractals/inception_resnet_v1-0.csv')
    assert not run.meta['finished'] and 1 <= last == max(int(o) for o in out.split() or ['1'])


def test_public_weights_without_a_network(monkeypatch):
    "One request, no retries, and one message with the ways out, for Python and for a shell"
    import huggingface_hub
    from inception_repro.architecture.networks import create_model
    from inception_repro.support.messages import shell_text
    asked = []

    def head(url, timeout):
        asked.append(timeout)
        raise ConnectionError('[Errno -3] Temporary failure in name resolution\nHEAD https://x')

    def get(*a, local_files_only=False):
        assert local_files_only  # a download would retry for half a minute
        raise FileNotFoundError('not in the cache')
    monkeypatch.setattr(huggingface_hub, 'get_hf_file_metadata', head)
    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', get)
    with pytest.raises(OSError) as e: create_model('inception_v4.released', pretrained=True)
    python, shell = str(e.value), shell_text(e.value)
    for text, way in (python, '`load_weights`'), (shell, '`inception-repro evaluate`'):
        assert 'no connection ([Errno -3] Temporary failure in name resolution); download https://' in text
        assert way in text and 'HF_HOME' in text and 'HEAD' not in text
    assert 'load_weights' not in shell and asked == [5]


@pytest.mark.parametrize('kind, words', [
    ('RepositoryNotFoundError', 'no such repository'), ('EntryNotFoundError', 'has no such file'),
    ('OfflineModeIsEnabled', 'HF_HUB_OFFLINE is set'), ('HfHubHTTPError', 'the server answered 503')])
def test_why_there_is_no_download(kind, words, monkeypatch):
    import huggingface_hub
    from huggingface_hub import errors
    from inception_repro.architecture.weights import hub_file
    error = getattr(errors, kind).__new__(getattr(errors, kind))
    error.args, error.response = ('HEAD https://x',), SimpleNamespace(status_code=503)

    def fails(*a, **k): raise error
    monkeypatch.setattr(huggingface_hub, 'get_hf_file_metadata', fails)
    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', fails)
    with pytest.raises(OSError, match=words): hub_file('a/b', 'c')


def test_a_signal_while_modules_are_imported(monkeypatch):
    "The module that notices it may be there, and its functions not yet"
    from types import ModuleType
    from inception_repro import cli_run
    handlers = {}
    monkeypatch.setattr(cli_run.signal, 'getsignal', lambda n: signal.SIG_DFL)
    monkeypatch.setattr(cli_run.signal, 'signal', handlers.__setitem__)
    cli_run._catch_signals()
    monkeypatch.setitem(sys.modules, 'inception_repro.training.callbacks', ModuleType('callbacks'))
    with pytest.raises(cli_run.Terminated, match='SIGTERM was received'):
        handlers[signal.SIGTERM](signal.SIGTERM, None)
