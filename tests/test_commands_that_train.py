"The commands `train`, `reproduce`, `rates` and `figures`, end to end. Not in a notebook: some start processes."
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_fixtures import call, settings, shell, tiny

root = Path(__file__).parents[1]


@pytest.fixture(scope='module')
def tiny_imagenet(tmp_path_factory):
    "200 classes in Tiny ImageNet's own layout: two noisy images of each to train on, one to validate"
    root, rng, lines = tmp_path_factory.mktemp('data') / 'tiny-imagenet-200', np.random.default_rng(0), []

    def write(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    for c in (f'n{c:08}' for c in range(200)):
        for i in range(2): write(root / f'train/{c}/images/{c}_{i}.JPEG')
        write(root / f'val/images/val_{c}.JPEG')
        lines.append(f'val_{c}.JPEG\t{c}\t0\t0\t63\t63\n')
    (root / 'val/val_annotations.txt').write_text(''.join(lines))
    return root


def test_train_then_again(tmp_path):
    args = ['train', 'inception_resnet_v1', '--runs', tmp_path / 'r', '--device', 'cpu',
            '--weights', tmp_path / 'w', *tiny]
    code, out, err = shell(*args)
    assert code == 0 and 'top-1 error' in out, err
    assert (tmp_path / 'w/fractals/inception_resnet_v1-0.safetensors').exists()
    before = (tmp_path / 'r/fractals/inception_resnet_v1-0.csv').read_bytes()
    assert call(*args)[0] == 0 and (tmp_path / 'r/fractals/inception_resnet_v1-0.csv').read_bytes() == before
    code, _, err = call(*args, '--lr', '.01')
    assert code == 1 and 'lr: 0.045 -> 0.01; choose another --runs, or replace it with --fresh' in err
    (kept := tmp_path / 'w/fractals/inception_resnet_v1-0.safetensors').unlink()
    code, out, err = call(*args)
    assert code == 1 and 'top-1 error' in out and not kept.exists()
    assert re.fullmatch(r'inception-repro: .*is finished, and its weights were not kept; '
                        r'train again with --fresh to have them\n', err)


def test_images_stay_files_where_memory_is_little(tiny_imagenet, tmp_path):
    "The option reaches the images: nothing is decoded into the cache"
    args = ['train', 'inception_resnet_v1', '--preset', 'tiny', '--data', tiny_imagenet,
            '--epochs', '1', '--device', 'cpu', '--bs', '100', '--width', '0.0625', '--size', '75', '--workers', '0',
            *(o for k in ('evals', 'per_class') for o in ('--set', f'{k}=1'))]
    for memory, cached in ('0', False), ('.1', True):
        code, _, err = call(*args, '--memory', memory, '--runs', tmp_path / memory, XDG_CACHE_HOME=tmp_path / 'cache')
        assert (code, bool([*tmp_path.glob('cache/*/*/*.pixels')])) == (0, cached), err


def test_reproduce_and_figures(tmp_path):
    "Runs that are given too little time stop; the same command with more of it ends them and draws"
    args = ['reproduce', '--out', tmp_path / 'o', '--device', 'cpu', *tiny]
    code, _, err = call(*args, '--minutes', '.001', '--jobs', '1')
    assert code == 75 and 'the time limit is reached; the same command resumes at step' in err
    code, _, err = call(*args, '--jobs', '1')
    assert code == 0, err
    names = {p.name for p in (tmp_path / 'o').iterdir()}
    assert names == {'runs', 'summary.md', *(f'fig{n}.{e}' for n in range(21, 27) for e in ('svg', 'png'))}
    # each warning is a line, from a process of its own too
    code, _, err = call(*args, '--weights', tmp_path / 'w', '--jobs', '2')
    assert code == 0 and len(err.splitlines()) == 7  # four networks, three controls
    assert all(re.match('inception-repro: .*its weights were not kept; train again with --fresh', o)
               for o in err.splitlines())
    code, out, _ = call('figures', tmp_path / 'o/runs/fractals', '--out', tmp_path / 'again')
    assert code == 0
    for p in (tmp_path / 'again').iterdir(): assert p.read_bytes() == (tmp_path / 'o' / p.name).read_bytes(), p.name


@pytest.mark.slow
def test_two_steps_of_the_gpu_runs(tiny_imagenet, tmp_path):
    """The command that trains on a GPU, with everything but its size: two steps of each network,
    §3.2's fair partner among them
    """
    from inception_repro.training.records import read_runs
    networks = ['inception_v3', 'inception_resnet_v1', 'inception_v4', 'inception_resnet_v2',
                'inception_resnet_v2.b10_20_10']
    small = dict(width=1/16, px=75, bs=100, epochs=1, evals=1, per_class=1, precision='bf16')
    args = ['reproduce', '--preset', 'tiny', '--data', tiny_imagenet, '--minutes', '5',
            '--device', 'cpu', '--jobs', '1', '--no-controls', '--models', ','.join(networks),
            '--runs', tmp_path / 'runs', '--out', tmp_path / 'o', *settings(small)]
    code, _, err = call(*args, XDG_CACHE_HOME=tmp_path / 'cache')
    assert code == 0, err
    runs = read_runs(tmp_path / 'runs/tiny-imagenet-200')
    assert sorted(r.meta['model'] for r in runs) == sorted(networks)
    for r in runs:
        assert r['step'].tolist() == [2] and r['images'].tolist() == [200]
        assert (r.meta['recipe']['precision'], r.meta['recipe']['classes'],
                r.meta['recipe']['compile']) == ('bf16', 200, True)
    names = {f'fig{n}.{e}' for n in range(21, 27) for e in ('svg', 'png')}
    assert {p.name for p in (tmp_path / 'o').iterdir()} == {'summary.md', *names}
    assert ('Tiny ImageNet' in (tmp_path / 'o/fig26.svg').read_text()
            and 'Inception-ResNet-v2 (10/20/10)' in (tmp_path / 'o/summary.md').read_text())


@pytest.mark.slow
def test_rates_on_any_images(tiny_imagenet, tmp_path):
    """Given too little time it stops, given more it goes on, draws and tells;
    the preset's rate falls as far in an epoch of it
    """
    from inception_repro.results.rates import read_study
    small = dict(width=1/16, px=75, bs=100, evals=1, per_class=1)
    args = ['rates', '--preset', 'tiny', '--data', tiny_imagenet, '--rates', '0.015,0.045',
            '--adamw', '', '--epochs', '1', '--seeds', '1', '--device', 'cpu', '--jobs', '1',
            '--runs', tmp_path / 'runs', '--out', tmp_path / 'o', *settings(small)]
    code, out, err = call(*args, '--minutes', '.0001', XDG_CACHE_HOME=tmp_path / 'cache')
    assert code == 75 and 'the time limit is reached; the same command resumes at step' in err
    assert not (tmp_path / 'o').exists()
    code, out, err = call(*args, XDG_CACHE_HOME=tmp_path / 'cache')
    assert code == 0, err
    assert {p.name for p in (tmp_path / 'o').iterdir()} == {
        f'{k}.{e}' for k in ('rates', 'best') for e in ('svg', 'png')} | {'rates.md'}
    found = read_study(tmp_path / 'runs')
    assert {k: sorted(r['step'][-1] for r in v) for k, v in found.items()} == {
        ('rmsprop_tf', lr): [2] * 4 for lr in (.015, .045)}
    recipes = [r.meta['recipe'] for v in found.values() for r in v]
    assert {(r['dataset'], r['epochs'], r['compress'], r['width'])
            for r in recipes} == {('tiny-imagenet-200', 1, 200., 1/16)}
    table = (tmp_path / 'o/rates.md').read_text()
    assert 'RMSProp 0.015' in table and 'AdamW' not in table and 'after 1 epoch (%)' in table


def test_figures_of_a_mixed_folder(tmp_path):
    shutil.copytree(root / 'figures/runs/fractals', tmp_path / 'mixed')
    file, = (tmp_path / 'mixed').glob('inception_v4-0.json')
    meta = json.loads(file.read_text())
    meta['recipe']['lr'] = .1
    del meta['seal']
    file.write_text(json.dumps(meta))
    code, _, err = call('figures', tmp_path / 'mixed', '--out', tmp_path / 'o')
    assert code == 1 and 'lr is 0.045 in' in err and err.endswith('; keep one recipe to a folder\n')
