"""A finished record that was altered is never read as if it were whole.

Not in a notebook: every byte of a record is damaged.
"""
import json
import shutil
from pathlib import Path

import pytest
from command_fixtures import call

from inception_repro.cli_records import check_records
from inception_repro.evaluation.tables import read_rows
from inception_repro.results.trials import read_result
from inception_repro.training.recipe import evaluation_steps, preset
from inception_repro.training.records import COLUMNS, Record, compare, read_run, read_runs

root = Path(__file__).parents[1]
ENV = dict(commit=None, device='cpu', python='3', torch='2', fastai='2', inception_repro='0')


def written(folder, model='inception_v4', seed=0, finished=True, offset=0.):
    "A run that was never trained, with a real recipe"
    recipe = preset('demo', model, seed=seed, per_class=64, epochs=2)
    rec = Record.create(folder, model, seed, 'fractals', '0', recipe, ENV, data=dict(classes=10, train=640, valid=500))
    for step in evaluation_steps(recipe, 20):
        row = dict(epoch=step / 20, step=step, images=32 * step, top1=90 - step + offset, top5=50 - step)
        rec.append(**{k: row.get(k, .5) for k in COLUMNS})
    if finished: rec.finish()
    return rec.path


def rows(path): return path.read_text().splitlines(True)


@pytest.mark.parametrize('change', [
    lambda lines: lines[:3],  # cut at a line end
    lambda lines: [lines[0], *lines[2:]],  # the first evaluation is deleted
    lambda lines: [*lines[:2], *lines[3:]],
    lambda lines: [o.replace('80.0', '70.0') for o in lines],
    lambda lines: [lines[0], *(','.join([*o.split(',')[:5], *reversed(o.split(',')[5:7]), *o.split(',')[7:]])
                               for o in lines[1:])],  # two columns are exchanged
    lambda lines: [*lines, lines[-1].replace('2.0,40', '2.5,50')]])
def test_altered_table(tmp_path, change):
    path = written(tmp_path)
    path.write_text(''.join(change(rows(path))))
    with pytest.raises(ValueError, match=r'inception_v4-0\.csv'): read_run(path)
    with pytest.raises(ValueError): read_runs(path.parent)


def test_table_of_another_run(tmp_path):
    path, other = written(tmp_path), written(tmp_path, seed=1, offset=1.)
    shutil.copy(other, path)
    with pytest.raises(ValueError, match='was altered: the table is not the one'): read_run(path)


@pytest.mark.parametrize('name', ['inception_v4-1', 'inception_v3-0', 'best'])
def test_renamed(tmp_path, name):
    path = written(tmp_path)
    for p in path, path.with_suffix('.json'): p.rename(p.with_name(name + p.suffix))
    with pytest.raises(ValueError, match=f"its file name says '{name}', its .json 'inception_v4-0'"):
        read_run(path.with_name(f'{name}.csv'))


@pytest.mark.parametrize('field, value', [
    ('seed', 1), ('dataset_hash', '1'), ('finished', False), ('commit', 'x'), ('lr', .01), ('wall', 5.)])
def test_altered_page(tmp_path, field, value):
    path = written(tmp_path)
    page = json.loads(path.with_suffix('.json').read_text())
    for part in page, page['environment'], page['recipe'], page['time']:
        if field in part: part[field] = value
    path.with_suffix('.json').write_text(json.dumps(page))
    with pytest.raises(ValueError, match='inception_v4-0'): read_run(path)


@pytest.mark.parametrize('finished', [True, False])
@pytest.mark.parametrize('suffix', ['.csv', '.json'])
def test_damaged_byte(tmp_path, suffix, finished):
    "It is noticed, or changes nothing; in an unfinished table the checkpoint notices it. `benchmarks.faults` tries all"
    path = written(tmp_path, finished=finished)
    before, file = read_run(path), path.with_suffix(suffix)
    whole = file.read_bytes()
    for i in range(0, len(whole), 3 if finished else 11):
        file.write_bytes(whole[:i] + bytes([whole[i] ^ 1 << i % 8]) + whole[i + 1:])
        try: run = read_run(path)
        except ValueError as e: assert 'inception_v4-0' in str(e)
        else: assert suffix == '.csv' and not finished or (run.meta, run.rows) == (before.meta, before.rows)
        file.write_bytes(whole[:i])  # cut
        try: run = read_run(path)
        except ValueError: pass
        else: assert not finished or suffix == '.json' and i == len(whole) - 1
    file.write_bytes(whole)
    assert compare(path, before) == ''


def test_contradictions_without_a_seal(tmp_path):
    "Older records: what can be seen is an error, the rest a warning"
    path = written(tmp_path)
    js, whole = path.with_suffix('.json'), rows(path)
    page = {k: v for k, v in json.loads(js.read_text()).items() if k != 'seal'}
    js.write_text(json.dumps(page))
    with pytest.warns(UserWarning, match='1 records have no seal, such as inception_v4-0'): read_runs(path.parent)
    for text, words in ((whole[:-1], 'it is finished, and step 40 has no row'),
                        ([whole[0], *whole[2:]], 'row 1 is of step 20, and the recipe has step 10'),
                        ([o.replace('320,', '321,') for o in whole], 'number of images'),
                        ([o.replace('80.0,40.0', '40.0,80.0') for o in whole], 'a top-5 error is at most')):
        path.write_text(''.join(text))
        with pytest.raises(ValueError, match=words): read_run(path)


def test_seal_is_added_but_never_replaced(tmp_path):
    path = written(tmp_path)
    js = path.with_suffix('.json')
    whole, text = js.read_text(), path.read_text()
    js.write_text(json.dumps({k: v for k, v in json.loads(whole).items() if k != 'seal'}))
    assert check_records(tmp_path, seal=True) == {path: 'sealed now'} and js.read_text() == whole
    path.write_text(text.replace('80.0', '70.0'))
    assert 'was altered' in check_records(tmp_path, seal=True)[path] and js.read_text() == whole


def test_altered_trial(tmp_path):
    source = next((root / 'figures/runs/stability/fractals').glob('*.json'))
    path = tmp_path / source.name
    path.write_text(source.read_text().replace('"seconds": ', '"seconds": 1'))
    with pytest.raises(ValueError, match='was altered: the fields'): read_result(path)
    shutil.copy(source, tmp_path / 'other.json')
    with pytest.raises(ValueError, match='was altered: it is of'): read_result(tmp_path / 'other.json')
    assert read_result(source).samples


def test_fresh_start_over_an_old_record(tmp_path, monkeypatch):
    "A kill after the new .json was written leaves no old table beside it"
    path, real = written(tmp_path), Record.write_meta

    def killed(self):
        real(self)
        raise KeyboardInterrupt
    monkeypatch.setattr(Record, 'write_meta', killed)
    with pytest.raises(KeyboardInterrupt):
        Record.create(tmp_path, 'inception_v4', 0, 'fractals', '0', preset('demo', 'inception_v4'), ENV, overwrite=True)
    assert not path.exists()


@pytest.mark.parametrize('old, new', [
    ('"top1": 65.25', '"top1": 65.2'), ('"images": 2000', '"images": 1999'), ('"page": "b', '"page": "c'),
    ('"page": ', '"rows": 3, "page": '), ('"results": [', '"results": {'), ('"seal"', '"deal"')])
def test_altered_evaluation(tmp_path, old, new):
    "By every command that reads it; without its seal, a record is read with a warning"
    text = (root / 'figures/evaluation/tiny-imagenet-40.json').read_text()
    path = tmp_path / 'evaluation/results.json'
    path.parent.mkdir()
    path.write_text(text)
    assert read_rows(path) and check_records(tmp_path) == {path: 'sealed'}
    assert old in text
    path.write_text(text.replace(old, new, 1))
    if old == '"seal"':
        with pytest.warns(UserWarning, match='results.json has no seal'): assert len(read_rows(path)) == 15
        assert check_records(tmp_path, seal=True) == {path: 'sealed now'} and read_rows(path)
        return
    words = 'is no record of an evaluation' if 'results' in old else 'was altered: '
    with pytest.raises(ValueError, match=words): read_rows(path)
    for command in 'records', 'claims':
        code, out, err = call(command, tmp_path)
        assert code == 1 and words in out + err and 'Traceback' not in err


def test_impossible_evaluation(tmp_path):
    page = json.loads((root / 'figures/evaluation/tiny-imagenet-40.json').read_text())
    page['results'][0]['top5'] = 70.
    (tmp_path/'a.json').write_text(json.dumps({k: v for k, v in page.items() if k != 'seal'}))
    with pytest.raises(ValueError, match='a.json was altered: .* a top-1 error of 65.25 and a top-5 error of 70.0'):
        read_rows(tmp_path/'a.json')
