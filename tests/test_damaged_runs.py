"Runs whose files are damaged or lost, and a full disk. Not in a notebook: it damages many files."
import errno
import os

import pytest

from inception_repro.training.checkpoint import Checkpoints
from inception_repro.training.fit import fit
from inception_repro.training.recipe import replace
from inception_repro.training.records import compare

from slow_cases import slow
from training_fixtures import folder, STEPS, stop, TINY

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.mark.parametrize('damage', ['bit', *slow('cut', 'empty')])
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
    with pytest.raises(ValueError, match='row 2 is of step 6, and the recipe has step 4; .* fresh=True'):
        fit(TINY, tmp_path, **quiet)


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


def test_keeps_two(tmp_path):
    kept = Checkpoints(tmp_path)
    for i in range(5): kept.save(i, dict(step=i))
    assert [p.name for p in kept.files()] == ['000000000004.pt', '000000000003.pt'] and kept.load() == dict(step=4)
