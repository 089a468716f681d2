"""The command `evaluate`: weights and their records, mistakes, tables.

Not in a notebook: most of it is mistakes, and two runs are trained for it.
"""
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from inception_repro.evaluation.evaluate import Candidate, candidates, evaluate
from inception_repro.evaluation.predictions import ensemble, errors, load_predictions
from inception_repro.training.recipe import preset

from evaluation_fixtures import Reads

root = Path(__file__).parents[1]


def test_the_command_tells_of_images_that_could_not_be_read(shell, tmp_path, monkeypatch):
    for c in 'abc':
        for i in range(2):
            (tmp_path / f'val/{c}').mkdir(parents=True, exist_ok=True)
            Image.new('RGB', (80, 80), (90 * i, 9, 9)).save(tmp_path / f'val/{c}/{i}.png')
    (tmp_path / 'val/b/1.png').write_bytes(b'')
    monkeypatch.setattr(Candidate, 'build', lambda self, classes: Reads(classes))
    save_file({'x': torch.zeros(1)}, tmp_path / 'inception_v4-0.safetensors')
    code, out, err = shell('evaluate', str(tmp_path / 'inception_v4-0.safetensors'), '--data', str(tmp_path), '--table',
                           '--device', 'cpu')
    assert code == 0, err
    assert re.search(r'^inception-repro: 1 of 6 images in .* are bad: val/b/1.png: not an image', err, re.M)
    assert out.count('1 image could not be read, and counts as errors.') == 2
    assert 'Table 2.' in out and 'top-1 error (%)' in out


def test_weights_of_1001_classes_lose_the_background(tmp_path):
    recipe = preset('demo', 'inception_resnet_v1', width=1/16)
    net = Candidate('a', recipe.model, None, recipe)
    from inception_repro.architecture.build import build
    from inception_repro.training.recipe import network_of
    big = build(network_of(recipe, 1001)).eval()
    save_file(big.state_dict(), tmp_path / 'a.safetensors')
    small = replace(net, path=tmp_path / 'a.safetensors').build(1000).eval()
    x = torch.randn(2, 3, 75, 75)
    torch.testing.assert_close(small(x), big(x)[:, 1:])
    with pytest.raises(ValueError, match='has 1001 classes, the model 10'):
        replace(net, path=tmp_path / 'a.safetensors').build(10)


def test_what_does_not_fit_is_said_before_anything_is_predicted(trained, tmp_path, monkeypatch):
    build = Candidate.build
    def other(self, classes):
        if self.recipe.seed: raise ValueError('the second does not fit')
        return build(self, classes)
    monkeypatch.setattr(Candidate, 'build', other)
    with pytest.raises(ValueError, match='the second does not fit'):
        evaluate(trained / 'weights', runs=trained / 'runs', out=tmp_path / 'p', device='cpu', progress=False)
    assert not (tmp_path / 'p').exists()


@pytest.fixture
def shell(trained, monkeypatch, capsys):
    "The command in this process: its exit code, and what it says"
    from inception_repro import cli
    def run(*args):
        monkeypatch.chdir(trained)
        monkeypatch.setattr(sys, 'argv', ['inception-repro', *args])
        capsys.readouterr()
        try: code = cli.main() or 0
        except SystemExit as e: code = e.code or 0
        return code, *capsys.readouterr()
    return run


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    from inception_repro.training.fit import fit
    home = tmp_path_factory.mktemp('trained')
    small = dict(classes=3, per_class=22, valid_per_class=4, epochs=1, evals=1, width=1/16)
    for seed in 0, 1:
        fit(preset('demo', 'inception_resnet_v2', seed=seed, **small), home / 'runs', device='cpu',
            progress=False,
            save_weights=home / f'weights/inception_resnet_v2-{seed}.safetensors')
    return home


def test_command_on_a_folder_of_weights(trained, shell):
    code, out, err = shell('evaluate', 'weights', '--runs', 'runs', '--crops', '1,12', '--table', '--record',
                           'evaluation.json',
                           '--device', 'cpu')
    assert code == 0, err
    assert 'inception_resnet_v2-0, 1 crop: 12 of 12 images' in err and '| Inception-ResNet-v2 ' in out
    assert 'Table 5' in out and '| ensemble of 2' in out and 'Table 4' not in out and 'not on all of ImageNet' in out
    record = json.loads((trained / 'evaluation.json').read_text())
    assert [(r['name'], r['crops']) for r in record['results']] == [
        *((f'inception_resnet_v2-{i}', n) for n in ('1', '12') for i in (0, 1)),
        ('ensemble of 2', '1'), ('ensemble of 2', '12')]
    assert (trained / 'evaluation.json').stat().st_size < 10_000 and record['environment']['device'].startswith('cpu')
    preds = [load_predictions(trained / f'predictions/inception_resnet_v2-{i}-12') for i in (0, 1)]
    assert record['results'][-1]['top1'] == round(errors(ensemble(preds)).top1, 4)


def moved(trained, tmp_path, *places):
    "Copies of the first run's record, in folders"
    for p in places:
        (tmp_path / p).mkdir(parents=True)
        for kind in 'csv', 'json': shutil.copy(trained / f'runs/fractals/inception_resnet_v2-0.{kind}', tmp_path / p)


def test_weights_in_folders_of_datasets(trained, shell, tmp_path):
    "As `reproduce --weights` leaves them, with the records of `rates` beside the run's"
    shutil.copytree(trained / 'weights', tmp_path / 'weights/fractals')
    shutil.copytree(trained / 'runs', tmp_path / 'runs')
    moved(trained, tmp_path, 'runs/rates/adamw-0.001/fractals')
    code, out, err = shell('evaluate', str(tmp_path / 'weights'), '--runs', str(tmp_path / 'runs'), '--predictions',
                           str(tmp_path / 'p'),
                           '--device', 'cpu')
    assert code == 0 and 'ensemble of 2' in out, err
    shutil.copytree(trained / 'weights', tmp_path / 'weights/photos')
    with pytest.raises(ValueError, match='weights/fractals and .*weights/photos; give one of these'):
        candidates(tmp_path / 'weights')


@pytest.mark.parametrize('weights, places, words', [
    ('fractals', ['fractals', 'photos'], None), ('.', ['fractals', 'rates/adamw-0.001/fractals'], None),
    ('.', ['.', 'fractals'], None), ('photos', ['rates/adamw-0.001/fractals'], None),
    ('.', ['fractals', 'photos'], 'has records in .*fractals and .*photos; give'),
    ('.', ['rates/a/fractals', 'rates/b/fractals'], 'has records in'),
    ('photos', ['fractals', 'others'], 'has records in')])
def test_which_record_is_meant(weights, places, words, trained, tmp_path):
    "The first of the places, unless there are words against it"
    moved(trained, tmp_path, *(f'runs/{p}' for p in places))
    for p in places[1:]:
        f = tmp_path / f'runs/{p}/inception_resnet_v2-0.json'
        f.write_text(f.read_text().replace('"seed": 0', '"seed": 7'))
    file = tmp_path / 'weights' / weights / 'inception_resnet_v2-0.safetensors'
    file.parent.mkdir(parents=True)
    shutil.copy(trained / 'weights' / file.name, file)
    if words:
        with pytest.raises(ValueError, match=words): candidates(file, tmp_path / 'runs')
    else: assert candidates(file, tmp_path / 'runs')[0].recipe.seed == 0


@pytest.mark.parametrize('args, code, words', [
    (['inception_v9'], 1, "unknown network 'inception_v9'; did you mean 'inception_v3'? one of"),
    (['inception_v3'], 1, 'a folder with val/'),
    (['inception_v3', '--data', 'fractals'], 1,
     'inception_v3 has 1000 classes, the images 20; give images of the same classes'),
    (['weights', '--runs', 'runs', '--crops', 'ten'], 1, "--crops takes numbers, such as 1,12,144, not 'ten'"),
    (['weights', '--runs', 'runs', '--data', 'nowhere'], 1, "'nowhere'"),
    (['weights', '--runs', 'runs', '--data', str(root)], 1, 'the networks were trained on fractals, not on'),
    (['weights'], 1, 'the weights have no records beside them, give --runs, the folder of the records'),
    (['inception_v4.released', '--data', 'fractals'], 1, 'give images of the same classes, or'),
    (['--crops', '1'], 2, "Missing argument"),
])
def test_mistakes_are_one_line(shell, args, code, words):
    got, out, err = shell('evaluate', *args)
    assert (got, out) == (code, '') and words in err and 'Traceback' not in err
    if code == 1: assert err.startswith('inception-repro: ') and err.count('\n') == 1


def test_every_way_of_a_table_is_a_command(tmp_path, monkeypatch):
    "The commands that the tables name, with a folder that is not there, fail for that reason only"
    from inception_repro.cli import app
    from inception_repro.evaluation.tables import row_command, tables
    from typer.testing import CliRunner
    monkeypatch.chdir(tmp_path)  # the commands name `weights` and `runs`, and `make reproduce` leaves such folders
    told = {c for t in tables.values() for r in t.rows if r.models for c in row_command(r).split('`')[1::2]}
    assert len([c for c in told if ' train ' in c]) == 1 + 4 + 1 + 3  # seeds of the four networks
    for c in told:
        done = CliRunner().invoke(app, c.replace('IMAGENET', str(tmp_path / 'none')).split()[1:])
        assert isinstance(done.exception, ValueError) and 'no ' in str(done.exception), (c, done.exception)


def test_tables_need_no_torch():
    code = ('import sys, inception_repro.evaluation.tables; '
            'sys.exit(any(m in sys.modules for m in ("torch", "fastai", "matplotlib.pyplot")))')
    subprocess.run([sys.executable, '-c', code], check=True)


def test_candidates_need_a_name_or_a_record(trained, tmp_path):
    assert [c.recipe.seed for c in candidates(trained / 'weights', trained / 'runs')] == [0, 1]
    assert candidates(trained / 'weights')[0].recipe is None  # without its record, the paper's network
    with pytest.raises(ValueError, match='does not fit inception_resnet_v2'):
        candidates(trained / 'weights')[0].build(3)
