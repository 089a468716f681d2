"""Data: layouts, bad input, the cache, files that stay files. Here and not in the notebooks, since it is a long table
of small folders that say little to a reader."""
import json, os, subprocess, sys, warnings
from hashlib import sha256

import numpy as np
import pytest
import torch
from PIL import Image

from inception_repro.data import pixels
from inception_repro.data.augment import ROW, augment
from inception_repro.data.batches import Batches, Split
from inception_repro.data.folders import list_images
from inception_repro.data.fractals import fractals, generator
from inception_repro.data.load import NAMES, load


def image(path, size=(9, 6), mode='RGB', **kwargs):
    "An image of noise, the same for the same name"
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(int.from_bytes(sha256(path.name.encode()).digest()[:4]))
    im = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)
    im.save(path, **kwargs)
    return path


@pytest.fixture
def root(tmp_path):
    "Two classes, three training images and one validation image of each"
    for c in 'ab':
        for i in range(3): image(tmp_path / f'pics/train/{c}/{c}{i}.png')
        image(tmp_path / f'pics/val/{c}/{c}9.png')
    return tmp_path / 'pics'


def quiet(root, **kwargs): return load(root, **(dict(size=8, cache=root.parent, progress=False) | kwargs))


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
def test_fastai_s_names(root, name, monkeypatch):
    from fastai.data import external
    asked = []
    monkeypatch.setattr(external, 'untar_data', lambda url: asked.append(url) or root)
    data = load(name, size=8, cache=root.parent, progress=False)
    assert data.name == name and asked[0].endswith('.tgz') and len(data.train) == 6


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
    (dict(source='xyz'), r"unknown dataset 'xyz'; give a folder, or one of fractals, imagenette,"),
    (dict(source='/no/where'), 'no folder /no/where; give one that has'),
    *((dict([(k, v)]), f'{k} is {v}; it must be a whole number')
      for k in ('size', 'classes', 'per_class', 'workers') for v in (-1, 0, .5)),
])
def test_bad_argument(kwargs, message):
    with pytest.raises(ValueError, match=message): load(**kwargs)


@pytest.mark.parametrize('kwargs, message', [
    (dict(bs=7), 'pics has 6 training images, fewer than a batch of 7'),
    (dict(bs=0), 'bs is 0; it must'), (dict(size=-3), 'size is -3; it must')])
def test_bad_batches(root, kwargs, message):
    with pytest.raises(ValueError, match=message): quiet(root).dataloaders(**kwargs)


# Bad images are skipped and reported

def truncate(p): p.write_bytes(p.read_bytes()[:-60])
def corrupt(p): p.write_bytes(p.read_bytes()[:40] + b'\xff' * 60 + p.read_bytes()[100:])


@pytest.mark.parametrize('name, make, why', [
    ('text.txt', lambda p: p.write_text('hello'), 'not an image'),
    ('empty.png', lambda p: p.write_bytes(b''), 'not an image'),
    ('short.png', lambda p: truncate(image(p)), 'unreadable'),
    ('short.jpg', lambda p: truncate(image(p, (64, 64))), 'unreadable'),
    ('spoilt.png', lambda p: corrupt(image(p)), '(unreadable|not an image)'),
])
def test_bad_image(root, name, make, why):
    make(root / 'train/a' / name)
    with pytest.warns(UserWarning, match=rf'1 of 9 images in .*pics are bad: train/a/{name}: {why}'): data = quiet(root)
    assert len(data.train) == 6 and data.bad[0][0] == f'train/a/{name}'
    with pytest.warns(UserWarning, match='1 of 9'): assert quiet(root).hash == data.hash  # said again from the cache
    files = quiet(root, max_bytes=0).dataloaders(bs=7, size=8, device='cpu', workers=0)
    with pytest.warns(UserWarning, match=f'{name}: {why}'): xb, yb = files.train.one_batch()
    assert len(xb) == len(yb) == 6


def test_a_batch_without_an_image_stops(root):
    for p in root.glob('train/*/*'): p.write_text('no')
    files = quiet(root, max_bytes=0).dataloaders(bs=6, size=8, device='cpu', workers=0)
    with pytest.warns(UserWarning, match='6 of 6 images in a batch are bad'):
        with pytest.raises(ValueError, match='no image of a batch of 6 can be read: .*: not an image'):
            files.train.one_batch()


def test_a_single_pixel_is_kept_and_reported(root):
    image(root / 'train/a/dot.png', (1, 1))
    with pytest.warns(UserWarning, match='train/a/dot.png: only 1x1 pixels'): data = quiet(root)
    x = data.train.x[3]
    assert len(data.train) == 7 and (x == x[:, :1, :1]).all()


def test_the_first_three_are_named_and_all_counted(root):
    for i in range(5): (root / f'train/a/z{i}.png').write_text('no')
    message = r'5 of 13 images .*z0.png.*z1.png.*z2.png: not an image; \.\.\.$'
    with pytest.warns(UserWarning, match=message): data = quiet(root)
    assert len(data.bad) == 5


@pytest.mark.parametrize('mode, suffix', [('L', 'jpg'), ('L', 'png'), ('1', 'png'), ('P', 'png'), ('RGBA', 'png'),
                                          ('LA', 'png'), ('CMYK', 'jpg'), ('RGB', 'webp'), ('RGB', 'bmp')])
def test_every_mode_and_format_becomes_rgb(root, mode, suffix):
    image(root / f'train/a/z.{suffix}', (16, 8), mode)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        data = quiet(root, size=16)
    assert data.train.x.shape == (7, 3, 16, 16) and data.train.aspect[3] == 2
    assert mode not in ('L', '1', 'LA') or (data.train.x[3] == data.train.x[3, :1]).all()


def test_sixteen_bits_are_not_cut_off(root):
    Image.fromarray(np.linspace(0, 65535, 64, dtype=np.uint16).reshape(1, 64).repeat(64, 0)).save(
        root / 'train/a/z.png')
    x = quiet(root, size=64).train.x[3]
    assert x.float().mean() == pytest.approx(127.5, abs=2) and x.unique().numel() > 60


def test_hidden_files_do_not_count(root):
    (root / 'train/.DS_Store').write_text('x')
    (root / 'train/a/.DS_Store').write_text('x')
    (root / '.cache').mkdir()
    assert len(quiet(root).train) == 6


# The cache

def flip(p): p.write_bytes(bytes([p.read_bytes()[0] ^ 1]) + p.read_bytes()[1:])
def edit(p, **kwargs): p.write_text(json.dumps(json.loads(p.read_text()) | kwargs))


@pytest.mark.parametrize('file, damage', [
    ('train.pixels', flip), ('valid.pixels', flip), ('train.pixels', lambda p: p.write_bytes(p.read_bytes()[:-1])),
    ('valid.pixels', lambda p: p.unlink()), ('valid.pixels', lambda p: p.write_bytes(b'')),
    ('manifest.json', lambda p: p.unlink()), ('manifest.json', lambda p: p.write_text('{"format": 1')),
    ('manifest.json', lambda p: p.write_text('[]')), ('manifest.json', lambda p: edit(p, train={})),
    ('manifest.json', lambda p: edit(p, format=0))])
def test_a_damaged_cache_is_made_anew(root, file, damage):
    good = quiet(root)
    folder = next(root.parent.rglob('manifest.json')).parent
    damage(folder / file)
    again = quiet(root)
    assert again.hash == good.hash
    assert sorted(os.listdir(folder)) == ['manifest.json', 'train.pixels', 'valid.pixels']
    time = (folder / 'manifest.json').stat().st_mtime_ns
    quiet(root)
    assert (folder / 'manifest.json').stat().st_mtime_ns == time  # and then kept


@pytest.mark.parametrize('change', [
    lambda r: image(r / 'train/a/new.png'), lambda r: (r / 'train/a/a0.png').unlink(),
    lambda r: (r / 'train/b/b1.png').rename(r / 'train/a/b1.png'), lambda r: image(r / 'val/a/a9.png', (5, 5)),
    lambda r: os.utime(r / 'val/a/a9.png', ns=(0, 0))])
def test_a_changed_source_is_decoded_again(root, change, monkeypatch):
    quiet(root)
    decoded = []
    monkeypatch.setattr(pixels, 'read', lambda *args, old=pixels.read: decoded.append(args) or old(*args))
    quiet(root)
    assert not decoded
    change(root)
    assert len(quiet(root).train) + 2 == len(decoded)


def test_an_interrupted_cache_leaves_nothing(root, monkeypatch):
    def stop(*args): raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(pixels, 'read', stop)
        with pytest.raises(KeyboardInterrupt): quiet(root)
    assert not [o for o in root.parent.joinpath('inception_repro').rglob('*') if o.is_file()]
    assert len(quiet(root).train) == 6


def test_sizes_and_selections_have_caches_of_their_own(root):
    hashes = {quiet(root).hash, quiet(root, size=9).hash, quiet(root, per_class=2).hash, quiet(root).hash}
    assert len(hashes) == 3 and len(list(root.parent.rglob('manifest.json'))) == 3


def test_progress_is_shown_to_a_terminal(root, capsys, monkeypatch):
    quiet(root, progress=True)
    assert capsys.readouterr().out == ''  # a log
    monkeypatch.setattr('sys.stdout.isatty', lambda: True)
    quiet(root, size=9, progress=True)
    assert '100' in capsys.readouterr().out


# The same bytes

@pytest.mark.parametrize('size, digest', [(64, '4b47a6a8bbdfe19c'), (33, None)])
def test_fractals_do_not_depend_on_threads_or_on_what_else_is_made(size, digest):
    threads, found = torch.get_num_threads(), []
    for n in 1, 2, 3:
        torch.set_num_threads(n)
        found.append(fractals(5, 20, size)[0])
    torch.set_num_threads(threads)
    assert all(torch.equal(found[0], o) for o in found)
    if digest: assert sha256(found[0].numpy().tobytes()).hexdigest()[:16] == digest
    few = fractals(2, 5, size)[0]
    assert torch.equal(few.view(2, 5, 3, size, size), found[0].view(5, 20, 3, size, size)[:2, :5])


def test_fractals_ignore_and_keep_torch_s_own_random_state():
    torch.manual_seed(3)
    expect = torch.rand(3)
    torch.manual_seed(3)
    x, _ = fractals(2, 3, 16)
    assert torch.equal(torch.rand(3), expect) and torch.equal(fractals(2, 3, 16)[0], x)
    assert not torch.equal(fractals(2, 3, 16, seed=1)[0], x)


def test_every_instance_is_a_picture():
    x, _ = fractals(20, 10, 32)
    lit = (x.float().amax(1) > 60).float().mean((1, 2))
    assert lit.min() > .02 and lit.mean() > .15


def test_batches_start_anywhere(root):
    x, y = fractals(2, 10, 16)
    whole = [list(Batches(Split(x, y, torch.ones(20)), 'ab', 4, 12, True, seed=5).seek(e)) for e in (0, 1)]
    for e in 1, 0:
        for start in 4, 0, 2, 5:
            part = list(Batches(Split(x, y, torch.ones(20)), 'ab', 4, 12, True, seed=5).seek(e, start))
            assert len(part) == 5 - start
            for (xa, ya), (xb, yb) in zip(part, whole[e][start:]): assert torch.equal(xa, xb) and torch.equal(ya, yb)
    assert sorted(torch.cat([yb for _, yb in whole[0]]).tolist()) == y.tolist()


def test_augmentation_is_each_image_s_own():
    x, _ = fractals(1, 6, 24)
    u, a = torch.rand(6, ROW, generator=generator('t')), torch.tensor([1., 1, .5, 2, 3, .3])
    whole = augment(x, u, 30, a, hue=.2)
    for i in range(6): assert torch.allclose(augment(x[i:i+1], u[i:i+1], 30, a[i:i+1], hue=.2)[0], whole[i], atol=1e-5)


def test_files_are_the_same_with_workers_and_from_any_batch(root):
    data = quiet(root, max_bytes=0)
    a, b = (data.dataloaders(bs=2, size=8, device='cpu', workers=n).train for n in (0, 2))
    whole = list(a)
    assert len(whole) == 3 and a.epoch == 1
    for (xa, ya), (xb, yb) in zip(whole[1:], b.seek(0, 1)): assert torch.equal(xa, xb) and torch.equal(ya, yb)
    assert data.hash == quiet(root, max_bytes=0).hash != quiet(root).hash


def test_large_jpegs_stream_at_their_crop(root):
    "Pillow may decode at a fraction of the size: the box must still be the image's"
    g = np.linspace(0, 255, 640).astype(np.uint8)
    Image.fromarray(np.stack([np.tile(g, (480, 1))] * 3, -1)).save(root / 'train/a/a0.jpg', quality=95)
    for box in (0., 0., 1., 1.), (.25, .5, .5, .25), (.1, .0, .3, .9):
        x, wh = pixels.decode(root / 'train/a/a0.jpg', 16, lambda _: box)
        expect = 255 * (box[1] + box[3] * (np.arange(16) + .5) / 16)
        assert wh == (640, 480) and np.abs(x[0].mean(0) - expect).max() < 3


# With fastai

@pytest.mark.parametrize('streams', [False, True])
def test_learner(root, streams, tmp_path):
    from fastai.callback.core import Callback
    from fastai.learner import Learner, load_learner
    from fastai.metrics import accuracy
    dls = quiet(root, max_bytes=0 if streams else 10**6).dataloaders(bs=3, size=8, device='cpu', workers=0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2))
    learn = Learner(dls, model, torch.nn.CrossEntropyLoss(), metrics=accuracy, path=tmp_path)
    learn.fit(2, 1e-2)
    assert len(learn.recorder.values) == 2 and dls.train.epoch == 2 and len(learn.validate()) == 2
    preds, targs = learn.get_preds()
    assert targs.tolist() == [0, 1] and len(learn.get_preds(ds_idx=0)[0]) == 6
    learn.export('x.pkl')
    assert (tmp_path / 'x.pkl').stat().st_size < 20_000  # no images in it
    assert load_learner(tmp_path / 'x.pkl', pickle_module=__import__('pickle')).dls.vocab == ('a', 'b')


def test_import_is_light():
    code = '''import sys, inception_repro.data.load
heavy = {'fastai', 'matplotlib', 'scipy', 'torchvision'} & set(sys.modules)
assert not heavy, heavy'''
    subprocess.run([sys.executable, '-c', code], check=True)


LEVEL = 2 / 255  # of a byte, in [-1, 1]


def views(device, floats=False):
    "Both splits of some images, by a device's route; those of the CPU by that of numbers instead of bytes"
    data = load(classes=2, per_class=16, valid_per_class=4, size=32)
    dls = data.dataloaders(bs=8, size=40, device=device, hue=.1)
    for o in dls.train, dls.valid:
        if floats: o.dataset = Split(o.dataset.x.float(), o.dataset.y, o.dataset.aspect)
        assert o.dataset.x.is_cuda == (device == 'cuda')
    return [batch for o in (dls.train, dls.valid) for batch in o]


def far(a, b):
    "The largest difference between two routes' images, whose labels are the same"
    assert len(a) == len(b) == 5 and all(torch.equal(ya, yb.cpu()) for (_, ya), (_, yb) in zip(a, b))
    return max((xa - xb.cpu()).abs().max().item() for (xa, _), (xb, _) in zip(a, b))


def test_bytes_are_rounded_views():
    "The quick way on a CPU rounds rows, then columns; contrast and colours are up to three times as far apart"
    assert 0 < far(views('cpu'), views('cpu', floats=True)) < 3 * LEVEL


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_a_gpu_gets_the_same_views():
    gpu = views('cuda')
    assert all(x.is_cuda for x, _ in gpu)
    assert far(views('cpu', floats=True), gpu) < 1e-4
    assert far(views('cpu'), gpu) < 3 * LEVEL
