"""Files that somebody has altered or made to do harm are one clear error, and nothing is computed from them.

Not in a notebook: it is a long table of bad values. `test_robust_records.py` damages bytes, this file the meaning.
"""
import json
import shutil
from dataclasses import fields

import numpy as np
import pytest
import torch

from inception_repro.architecture.weight_files import read_weights
from inception_repro.cli import draw_figure
from inception_repro.cli_options import read_recipe
from inception_repro.evaluation.predict import predict
from inception_repro.evaluation.predictions import load_predictions
from inception_repro.evaluation.validation import valid_images
from inception_repro.results.contribution import check_contribution
from inception_repro.results.shortcut import arms
from inception_repro.results.stability import main as stability
from inception_repro.support.files import LOCK, check_writable, locked
from inception_repro.training.integrity import seal
from inception_repro.training.recipe import Recipe, preset
from inception_repro.training.records import Record, read_run, read_runs
from test_robust_records import rows, written

VALUES = None, 'x', '', -1, 0, 1.5, 10**12, 10**400, 1e308, [], ['x'], [1e12], {}, dict(name=3), True


def resealed(path, part, key, value):
    "A forged record: one value is another one, and the seal fits"
    page, text = json.loads(path.with_suffix('.json').read_text()), path.read_text()
    (page[part] if part else page)[key] = value
    page['seal'] = seal({k: v for k, v in page.items() if k != 'seal'}, text)
    path.with_suffix('.json').write_text(json.dumps(page))


@pytest.mark.parametrize('part, keys', [
    ('recipe', [f.name for f in fields(Recipe)]),
    (None, ['data', 'model', 'seed', 'dataset', 'environment', 'finished']),
    ('data', ['train', 'classes']), ('environment', ['commit'])])
def test_forged_records(tmp_path, part, keys):
    "Each value of each field: a record or a `ValueError`, at once; a contribution is refused, and no error"
    path = written(tmp_path)
    js = path.with_suffix('.json')
    whole = js.read_text()
    for key in keys:
        for value in VALUES:
            resealed(path, part, key, value)
            try: read_run(path)
            except ValueError as e: assert str(path.with_suffix('')) in str(e)
            else: assert all(check_contribution(path.parent, 'demo').values())
            js.write_text(whole)


def test_a_forged_table(tmp_path):
    path = written(tmp_path)
    for value in '9' * 400, '9' * 5000, '1e999', '-1', '٣', '0x10':
        lines = rows(path)
        path.write_text(''.join([*lines[:-1], lines[-1].replace(',40,', f',{value},')]))
        resealed(path, None, 'finished', True)
        with pytest.raises(ValueError, match='inception_v4-0.csv'): read_run(path)
        path.write_text(''.join(lines))


def test_rows_of_an_unfinished_run(tmp_path):
    "Each row is under the seal as soon as it is written"
    path = written(tmp_path, finished=False)
    whole, text = rows(path), path.read_text()
    for wrong in (text.replace('80.0,40.0', '70.0,40.0'), ''.join(whole[:-1]), text[:-5],
                  text.replace('.5,', '.6,', 1)):
        path.write_text(wrong)
        with pytest.raises(ValueError, match='inception_v4-0.csv was altered'): read_run(path)
        with pytest.raises(ValueError, match='was altered'): read_runs(path.parent, unfinished=True)
    path.write_text(text)
    again = Record.resume(path, 20)
    path.write_text(text)  # a kill between the new seal and the shorter table
    assert len(read_run(path)) == 4
    again.finish()


def test_files_beside_a_record(tmp_path):
    path = written(tmp_path, finished=False)
    beside = path.with_suffix('.activity.json')
    beside.write_text('{"samples": [1]}')
    rec = Record.resume(path)
    rec.finish()
    assert read_run(path).meta['finished']
    beside.write_text('{"samples": [2]}')
    with pytest.raises(ValueError, match='the .activity.json beside it is not the one that the run has written'):
        read_run(path)
    beside.unlink()  # it may be left out
    assert read_run(path).meta['finished']


def net(): return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()) # colours are classes


def test_altered_predictions(tmp_path):
    images, quiet = valid_images(classes=3, per_class=2), dict(size=32, progress=False)
    before = predict(net(), images, tmp_path, **quiet)
    file = tmp_path/'probabilities.f16'
    data = np.fromfile(file, np.float16)
    data[[0, 1]] = data[[1, 0]] if data[0] != data[1] else data[[0, 2]]  # the row still sums to one
    data[3:6] = data[:3]
    data.tofile(file)
    with pytest.raises(ValueError, match='damaged, it was altered; predict again with fresh=True'):
        load_predictions(tmp_path)
    with pytest.warns(UserWarning, match='was altered; all images are predicted again'):
        assert (predict(net(), images, tmp_path, **quiet).p == before.p).all()
    for name, text in (('predictions.json', '[]'), ('predictions.json', '{'), ('unreadable.json', '[1]'),
                       ('unreadable.json', '{"a": 1}')):
        (tmp_path/name).write_text(text)
        with pytest.raises(ValueError, match=f'{name} is damaged, .*; predict again with fresh=True'):
            load_predictions(tmp_path)
        assert (predict(net(), images, tmp_path, fresh=True, **quiet).p == before.p).all()


@pytest.mark.parametrize('name, data', [
    ('a.toml', b'\x89PNG\xff\xfe'), ('a.json', b'[1, 2]'), ('a.json', b'null'), ('a.json', b'[' * 10**5),
    ('a.toml', b'recipe = 3'), ('a.json', b'{"recipe": [1]}'), ('a.toml', b'epochs = ' + b'9' * 5000)])
def test_no_recipe(tmp_path, name, data):
    (tmp_path/name).write_bytes(data)
    with pytest.raises(ValueError, match=f'{name} is neither TOML nor the .json of a record, '):
        read_recipe(tmp_path/name)


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_a_recipe_from_windows(tmp_path, encoding):
    (tmp_path/'a.toml').write_text('lr = 0.5\r\n', encoding)
    assert read_recipe(tmp_path/'a.toml') == dict(lr=.5)


def test_a_checkpoint_that_holds_itself(tmp_path):
    a = {}
    a['a'] = a
    torch.save(a, tmp_path/'a.pt')
    with pytest.raises(ValueError, match='a.pt holds itself'): read_weights(tmp_path/'a.pt')


def test_absurd_sizes_are_refused_at_once(tmp_path):
    from inception_repro.benchmarking.bench import bench
    from inception_repro.results.plan import plan
    for wrong, words in (
            (lambda: arms(preset('demo'), 10**9), 'at most 1000'),
            (lambda: stability(seeds=10**9, out=tmp_path), 'at most 1000'),
            (lambda: stability(wide_steps=-3, out=tmp_path), 'wide_steps is -3; use 1 to'),
            (lambda: bench(width=1e308), 'width is 1e.308; use at most 1,000'),
            (lambda: preset('demo', epochs=10**6, evals=10**4, per_class=1), 'at most 1,000,000 in all'),
            (lambda: preset('demo', ''), "unknown model ''"), (lambda: bench(px=10**9), 'px is 1000000000'),
            (lambda: bench(bs=10**30), 'bs is 1000'), (lambda: plan(steps=10**9), 'steps is'),
            (lambda: draw_figure('9' * 5000), 'unknown figure'), (lambda: draw_figure('²'), 'unknown figure')):
        with pytest.raises(ValueError, match=words): wrong()
    with pytest.raises(OSError, match='it cannot be written'): stability(out='/proc/x')


def test_nothing_is_left_of_a_figure_that_cannot_be_drawn(tmp_path):
    with pytest.raises(ValueError, match='end its name in'): draw_figure('fig04', tmp_path/'new/a.txt')
    assert not (tmp_path/'new').exists()


def test_a_file_of_yours_is_no_lock(tmp_path):
    (tmp_path/'lock').write_text('notes')
    with locked(tmp_path): assert (tmp_path/LOCK).exists()
    assert (tmp_path/'lock').read_text() == 'notes' and not (tmp_path/LOCK).exists()
    with pytest.raises(IsADirectoryError): check_writable(tmp_path)
    shutil.rmtree(tmp_path)


def test_a_url_without_a_network(tmp_path, monkeypatch):
    from inception_repro.architecture.networks import create_model
    from inception_repro.architecture.weights import load_weights
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path/'hub'))
    with pytest.raises(OSError, match='cannot be downloaded: .*; without a network, download it elsewhere'):
        load_weights(create_model('inception_v4', 5, width=1/16), 'http://127.0.0.1:9/a.pth')
    assert not (tmp_path/'hub').exists()
