"""Two datasets are told apart by their content, and nothing in a folder is dropped without a word.

Not in a notebook: folders are trained on twice.
"""
import os
import warnings

import numpy as np
import pytest
from PIL import Image

from inception_repro.data.load import load, own_data
from inception_repro.evaluation.validation import valid_images
from inception_repro.training.fit import fit
from inception_repro.training.recipe import preset, replace

ENV = dict(commit=None, device='cpu', python='3', torch='2', fastai='2', inception_repro='0')
RECIPE = preset('demo', 'inception_resnet_v1', dataset='pets', classes=2, per_class=None, valid_per_class=None, bs=8,
                width=1/16, epochs=1, evals=1)


def pets(root, seed):
    "Two classes of noise, uncompressed, so that all files have one size"
    rng = np.random.default_rng(seed)
    for side, n in ('train', 4), ('val', 2):
        for c in 'cat', 'dog':
            (root/side/c).mkdir(parents=True)
            for i in range(n):
                Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(root/side/c/f'{i}.bmp')
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch): monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))


@pytest.mark.parametrize('memory', [2**30, 0]) # in memory, and as files
def test_two_folders_of_one_name(tmp_path, memory):
    one, two = pets(tmp_path/'a/pets', 1), pets(tmp_path/'b/pets', 2)
    quiet = dict(device='cpu', env=ENV, progress=False, workers=0, max_bytes=memory)
    run = fit(RECIPE, tmp_path/'runs', one, **quiet)
    assert run.meta['finished']
    with pytest.raises(ValueError, match="other images that are also called 'pets'.*another out.*fresh=True"):
        fit(RECIPE, tmp_path/'runs', two, **quiet)
    before = run.path.stat().st_mtime_ns
    assert fit(RECIPE, tmp_path/'runs', one, **quiet).rows == run.rows and run.path.stat().st_mtime_ns == before
    os.rename(two.parent, tmp_path/'c')
    os.rename(one.parent, tmp_path/'b') # the same images in another place
    assert fit(RECIPE, tmp_path/'runs', tmp_path/'b/pets', **quiet).rows == run.rows


def test_two_dataloaders_of_one_name(tmp_path):
    "fastai's own loaders are told apart as well: from files by their contents, from anything else by a batch"
    from fastai.vision.data import ImageDataLoaders
    loaders = lambda root: ImageDataLoaders.from_folder(root, valid='val', bs=8, num_workers=0, device='cpu')
    recipe, quiet = replace(RECIPE, px=75), dict(device='cpu', env=ENV, progress=False)
    folders = [pets(tmp_path/k/'pets', seed) for k, seed in (('a', 1), ('b', 2), ('c', 1))]
    hashes = [own_data(loaders(o), 'pets').hash for o in folders]
    assert hashes[0] == hashes[2] != hashes[1]
    from fastai.vision.augment import Resize
    big = lambda k: ImageDataLoaders.from_folder(tmp_path/k/'pets', valid='val', bs=8, num_workers=0, device='cpu',
                                                 item_tfms=Resize(75))
    run = fit(recipe, tmp_path/'runs', big('a'), **quiet)
    assert fit(recipe, tmp_path/'runs', big('c'), **quiet).rows == run.rows
    with pytest.raises(ValueError, match="other images that are also called 'pets'"):
        fit(recipe, tmp_path/'runs', big('b'), **quiet)
    plain = [own_data(load(tmp_path/k/'pets', 16, progress=False).dataloaders(8, 16, device='cpu'), 'pets').hash
             for k in 'abc']
    assert plain[0] == plain[2] != plain[1]


@pytest.mark.parametrize('memory', [2**30, 0])
def test_replaced_image(tmp_path, memory):
    "Same size, same name, same time of modification"
    root = pets(tmp_path/'pets', 1)
    seen = lambda: (load(root, 16, max_bytes=memory, progress=False).hash, valid_images(root).stamp)
    before, file = seen(), root/'val/cat/0.bmp'
    assert seen() == before
    data, times = file.read_bytes(), file.stat()
    file.write_bytes(data[:-9] + bytes(9))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert all(a != b for a, b in zip(seen(), before))
    file.write_bytes(data)
    assert seen() == before


def test_nothing_is_dropped_silently(tmp_path):
    root = pets(tmp_path/'pets', 1)
    for name in 'train/cat/images/more.bmp', 'train/cat/young/x.bmp', 'val/y.bmp', 'train/z.bmp':
        (root/name).parent.mkdir(exist_ok=True)
        (root/name).write_bytes((root/'val/cat/0.bmp').read_bytes())
    (root/'val/dog/gone.bmp').symlink_to(tmp_path/'unmounted/gone.bmp')
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter('always')
        data = load(root, 16, progress=False)
    assert len(data.train) == 9 and len(data.valid) == 4 # `images` does not hide the files beside it
    said = ' '.join(str(o.message) for o in found)
    for name in 'train/cat/young/', 'train/z.bmp', 'val/y.bmp', 'val/dog/gone.bmp': assert name in said
