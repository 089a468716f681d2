"The layouts of datasets, and bad layouts and arguments. Not in a notebook: it is a long table of small folders."
import shutil
from pathlib import Path

import numpy as np
import pytest

from inception_repro.data.folders import list_images
from inception_repro.data.load import NAMES, load

from image_fixtures import image, quiet, root


# Layouts

def test_both_forms_of_tiny_imagenet_are_the_same_data(tmp_path):
    for c in 'n1', 'n2':
        for i in range(2):
            image(tmp_path / f'own/train/{c}/images/{c}_{i}.JPEG')
            image(tmp_path / f'sorted/train/{c}/{c}_{i}.JPEG')
        (tmp_path / f'own/train/{c}/{c}_boxes.txt').write_text('n1_0.JPEG\t0\t0\t62\t57\n')
    for i, c in enumerate(['n2', 'n1']):
        image(tmp_path / f'own/val/images/val_{i}.JPEG')
        image(tmp_path / f'sorted/val/{c}/val_{i}.JPEG')
    (tmp_path / 'own/val/val_annotations.txt').write_text('val_0.JPEG\tn2\t0\t0\t9\t9\nval_1.JPEG\tn1\t0\t0\t9\t9\n')
    own, by_class = quiet(tmp_path / 'own'), quiet(tmp_path / 'sorted')
    assert own.hash == by_class.hash and own.classes == ('n1', 'n2') and own.bad == []


def imagenet(root):
    for c in 'n1', 'n2', 'n3': image(root / f'train/{c}/{c}_1.JPEG')
    for i in 1, 2, 3, 4: image(root / f'val/ILSVRC2012_val_{i:08d}.JPEG')
    return root


def labels(found): return [found.classes[y] for _, y in sorted(found.valid)]


@pytest.mark.parametrize('place', ['.', 'data', 'ILSVRC2012_devkit_t12/data', '../ILSVRC2012_devkit_t12/data'])
def test_devkit_numbers_are_meta_mat_s_and_not_the_alphabet_s(tmp_path, place):
    from scipy.io import savemat
    root = imagenet(tmp_path / 'imagenet')
    synsets = np.zeros((4, 1), dtype=[(o, 'O') for o in ('ILSVRC2012_ID', 'WNID', 'words', 'gloss', 'num_children')])
    for i, (n, wnid, children) in enumerate([(1, 'n3', 0), (2, 'n1', 0), (3, 'n2', 0), (4, 'n9', 3)]):
        synsets[i, 0] = (float(n), wnid, 'words', 'gloss', float(children))
    kit = root / place
    kit.mkdir(parents=True, exist_ok=True)
    savemat(kit / 'meta.mat', dict(synsets=synsets))
    (kit / 'ILSVRC2012_validation_ground_truth.txt').write_text('1\n2\n3\n1\n')
    assert labels(list_images(root)) == ['n3', 'n1', 'n2', 'n3']


def test_kaggle_s_labels(tmp_path):
    root = imagenet(tmp_path / 'ILSVRC/Data/CLS-LOC')
    rows = [f'ILSVRC2012_val_{i:08d},{c} 1 2 3 4 {c} 5 6 7 8' for i, c in enumerate(['n2', 'n3', 'n1', 'n1'], 1)]
    (tmp_path / 'LOC_val_solution.csv').write_text('\n'.join(['ImageId,PredictionString', *rows]))
    assert labels(list_images(root)) == ['n2', 'n3', 'n1', 'n1']


def test_labels_that_are_missing_are_named(tmp_path):
    root = imagenet(tmp_path / 'imagenet')
    with pytest.raises(ValueError, match=r'_ground_truth.txt and meta.mat\) or LOC_val_solution.csv'):
        list_images(root)
    (root / 'LOC_val_solution.csv').write_text('ImageId,PredictionString\nILSVRC2012_val_00000001,n2 1 2 3 4\n')
    with pytest.raises(ValueError, match='_00000002.JPEG has no label; the labels are of 1 files'): list_images(root)


@pytest.mark.parametrize('name', [o for o in NAMES if o != 'fractals'])
def test_fastai_s_names(root, name, monkeypatch, tmp_path):
    from fastai.data import external
    asked = []
    def untar(url, data, base):
        asked.append(url)
        return Path(shutil.copytree(root, data / name))
    monkeypatch.setattr(external, 'untar_data', untar)
    monkeypatch.setattr('inception_repro.data.load.check_reachable', lambda url: None)
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.delenv('FASTAI_HOME', raising=False)
    data = load(name, size=8, cache=tmp_path / 'cache', progress=False)
    assert data.name == name and asked[0].endswith('.tgz') and len(data.train) == 6
    assert (tmp_path / 'cache/fastai/data' / name).is_dir()


def test_generated_images_are_each_caller_s_own():
    "They are kept for the next run of the process; what one caller writes into them, another does not see"
    first, again = (load('fractals', size=8, classes=2, per_class=3, valid_per_class=2) for _ in range(2))
    for split in 'train', 'valid':
        a, b = getattr(first, split), getattr(again, split)
        assert (a.x == b.x).all() and (a.y == b.y).all()
        a.x[:], a.y[:] = 255, 1
    last = load('fractals', size=8, classes=2, per_class=3, valid_per_class=2)
    assert last.hash == again.hash and all((o.x == p.x).all() and (o.y == p.y).all() for o, p in
                                           ((last.train, again.train), (last.valid, again.valid)))


def test_valid_is_another_name_for_val_and_counts_select(root):
    (root / 'val').rename(root / 'valid')
    data = quiet(root, per_class=2, classes=1)
    assert (data.classes, len(data.train), len(data.valid)) == (('a',), 2, 1)
    with pytest.raises(ValueError, match='has 2 classes, not 3'): quiet(root, classes=3)


# Bad layouts and arguments stop

@pytest.mark.parametrize('spoil, message', [
    (lambda r: (r / 'train/c').mkdir(), r'1 classes of .*train are not in .*val: c'),
    (lambda r: image(r / 'val/c/c.png'), r'1 classes of .*val are not in .*train: c'),
    (lambda r: [(r / s / 'c').mkdir() for s in ('train', 'val')], r'1 classes of .*train have no image: c'),
    (lambda r: [o.unlink() for o in (r / 'val/a').iterdir()], r'1 classes of .*val have no image: a'),
    (lambda r: (r / 'val').rename(r / 'test'), r'needs the folders train/<class>/ and val/; it has test, train'),
    (lambda r: [o.write_bytes(b'no') for o in (r / 'train/b').iterdir()],
     r"no image of class 'b' in train can be read.*b0.png"),
])
def test_bad_layout(root, spoil, message):
    spoil(root)
    with pytest.raises(ValueError, match=message): quiet(root)
    assert not [o for o in root.parent.rglob('*.pixels')]  # and nothing half-made is left


@pytest.mark.parametrize('kwargs, message', [
    (dict(source='imagenete'), "unknown dataset 'imagenete'; did you mean 'imagenette'"),
    (dict(source='xyz'), "unknown dataset 'xyz'; no folder has this name: give one that exists, or one of fractals,"),
    (dict(source='/no/where'), 'no folder /no/where; give one that has'),
    *((dict([(k, v)]), f'{k} is {v}; it must be a whole number')
      for k in ('size', 'classes', 'per_class', 'workers') for v in (-1, 0, .5)),
])
def test_bad_argument(kwargs, message):
    with pytest.raises(ValueError, match=message): load(**kwargs)


@pytest.mark.parametrize('kwargs, message', [
    (dict(bs=7), 'pics has 6 training images, fewer than a batch of 7; use bs=6 or less'),
    (dict(bs=0), 'bs is 0; it must'), (dict(size=-3), 'size is -3; it must')])
def test_bad_batches(root, kwargs, message):
    with pytest.raises(ValueError, match=message): quiet(root).dataloaders(**kwargs)
