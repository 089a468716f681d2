"""Images of unusual depth, unreadable files in runs that read from disk, and few classes. In a file of their own, since
each is a small folder or file that says little to a reader."""
import struct
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from inception_repro.data.pixels import decode, to_rgb
from inception_repro.evaluation.predictions import Predictions, ensemble, errors, ranks
from inception_repro.evaluation.validation import valid_images
from inception_repro.training.fit import fit
from inception_repro.training.recipe import preset

from image_fixtures import image, quiet, root


# Grey images with more than 8 bits

RAMP = np.linspace(0, 1, 64).reshape(8, 8)


def reread(path): return np.asarray(to_rgb(Image.open(path)))[..., 0]


@pytest.mark.parametrize('kind, white, suffix', [
    ('<u2', 65535, 'tif'), ('>u2', 65535, 'tif'), ('<u2', 65535, 'png'), ('>u2', 65535, 'png'), ('i4', 65535, 'pgm'),
    ('i4', 255, 'tif'), ('i4', 65535, 'tif'), ('i4', 2**31 - 1, 'tif'), ('f4', 1, 'tif'), ('f4', 255, 'tif'),
    ('f4', 65535, 'tif'), ('f4', 1, 'pfm')])
def test_a_ramp_from_black_to_white_stays_one(tmp_path, kind, white, suffix):
    a = (RAMP * white).astype(kind)
    if suffix == 'pfm': (tmp_path/'a.pfm').write_bytes(b'Pf\n8 8\n-1.0\n' + a[::-1].astype('<f4').tobytes())
    else: Image.fromarray(a).save(tmp_path/f'a.{suffix}')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert abs(reread(tmp_path/f'a.{suffix}') - 255 * RAMP).max() <= 1


def test_twelve_bits(tmp_path):
    "Two values in three bytes, which is how TIFF stores them"
    v = np.round(RAMP * 4095).astype(int).reshape(-1, 2)
    packed = np.stack([v[:, 0] >> 4, (v[:, 0] & 15) << 4 | v[:, 1] >> 8, v[:, 1] & 255], 1).astype(np.uint8).tobytes()
    tags = {256: 8, 257: 8, 258: 12, 259: 1, 262: 1, 273: 128, 277: 1, 278: 8, 279: len(packed)}
    entries = b''.join(struct.pack('<HHII', k, 4, 1, v) for k, v in tags.items())
    head = b'II*\0' + struct.pack('<IH', 8, len(tags)) + entries
    (tmp_path/'a.tif').write_bytes(head.ljust(128, b'\0') + packed)
    assert Image.open(tmp_path/'a.tif').mode == 'I;16'
    assert abs(reread(tmp_path/'a.tif') - 255 * RAMP).max() <= 1


def test_sixteen_bits_are_the_bytes_of_earlier_versions(tmp_path):
    "Their hash must not change: every value, divided by 257 and rounded down"
    v = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    for suffix in 'png', 'tif', 'pgm':
        (Image.fromarray(v.astype('i4')) if suffix == 'pgm' else Image.fromarray(v)).save(tmp_path/f'a.{suffix}')
        assert (reread(tmp_path/f'a.{suffix}') == v // 257).all()


@pytest.mark.parametrize('values, said', [
    ([-5, 300], 'values from -5 to 300'), ([0, np.nan], 'values from nan to nan'),
    ([0, np.inf], 'values from 0 to inf'), ([0, 1e9], r'values from 0 to 1e\+09')])
def test_values_that_are_no_brightness_are_reported(root, values, said):
    Image.fromarray(np.array([values, values], np.float32)).save(root/'val/a/z.tif')
    with pytest.warns(UserWarning, match=f'1 of 9 .* val/a/z.tif: unreadable .{said}; rescale them'): quiet(root)
    images = valid_images(root)
    assert 'rescale them' in images.read(images.names.index('val/a/z.tif'))[1]


def test_the_orientation_in_a_file_is_ignored_everywhere(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    p = image(root/'val/a/a0.jpg', (16, 8), exif=exif, quality=95)
    a = np.asarray(Image.open(p))
    assert a.shape == (8, 16, 3) and decode(p, 8)[1] == (16, 8)
    assert (valid_images(root)[0] == a).all() and quiet(root).valid.aspect[0] == 2


# Unreadable files

def spoil(paths):
    for p in paths: p.write_bytes(b'no image')


def batches(root, bs, train=True, workers=0):
    dls = quiet(root, max_bytes=0).dataloaders(bs=bs, size=8, device='cpu', workers=workers)
    return dls.train if train else dls.valid


@pytest.mark.filterwarnings('ignore:.*are bad')
@pytest.mark.parametrize('bs', [1, 2, 3, 6])
@pytest.mark.parametrize('n', [1, 2, 5])
def test_training_batches_keep_their_size(root, bs, n):
    spoil([*sorted(root.glob('train/*/*'))][:n])
    dl = batches(root, bs)
    for epoch in range(2):
        found = list(dl)
        assert [len(x) for x, _ in found] == [bs] * len(dl) and all(len(x) == len(y) for x, y in found)
    assert n < 3 or all((y == 1).all() for _, y in found)  # the labels are those of the images that took the places
    assert sorted(p.split('/')[-1] for p, _ in dl.bad) == ['a0.png', 'a1.png', 'a2.png', 'b0.png', 'b1.png'][:n]


@pytest.mark.filterwarnings('ignore:.*are bad')
def test_the_image_that_takes_the_place_does_not_depend_on_workers_or_the_start(root):
    spoil([root/'train/a/a1.png', root/'train/b/b2.png'])
    for epoch in 0, 1:
        whole = list(batches(root, 2).seek(epoch))
        for dl, start in (batches(root, 2, workers=2), 0), (batches(root, 2), 1), (batches(root, 2), 2):
            for (xa, ya), (xb, yb) in zip(whole[start:], dl.seek(epoch, start), strict=True):
                assert torch.equal(xa, xb) and torch.equal(ya, yb)


def test_each_file_is_reported_once(root):
    spoil([root/'train/a/a1.png', root/'train/b/b2.png'])
    dl = batches(root, 2)
    with pytest.warns(UserWarning, match='1 of 6 images in the training split are bad: .*: not an image') as said:
        for _ in range(3): list(dl)
    said = [str(o.message) for o in said if 'training split' in str(o.message)]
    assert sum(o.count('a1.png') for o in said) == sum(o.count('b2.png') for o in said) == 1


@pytest.mark.filterwarnings('ignore:.*are bad')
@pytest.mark.parametrize('bs', [1, 2])
def test_evaluation_leaves_unreadable_images_out(root, bs):
    image(root/'val/a/a8.png')
    spoil([root/'val/a/a8.png', root/'val/a/a9.png'])
    found = list(batches(root, bs, train=False))
    assert torch.cat([y for _, y in found]).tolist() == [1] and len(found) == 1


@pytest.mark.filterwarnings('ignore:.*are bad')
@pytest.mark.parametrize('train', [True, False])
@pytest.mark.parametrize('workers', [0, 2])
def test_a_split_without_any_image_stops(root, train, workers):
    spoil(root.glob('train/*/*' if train else 'val/*/*'))
    with pytest.raises(ValueError, match=f'no image of {6 if train else 2} can be read: .*[ab][0-9].png: not an image'):
        list(batches(root, 2, train, workers))


@pytest.mark.filterwarnings('ignore:.*are bad')
def test_training_stops_when_all_files_vanish_within_an_epoch(root):
    found = iter(batches(root, 2))
    next(found)
    for p in root.glob('train/*/*'): p.unlink()
    with pytest.raises(ValueError, match='no image of 6 can be read: .*: unreadable .*No such file'): list(found)


@pytest.mark.filterwarnings('ignore:.*are bad')
def test_a_run_with_unreadable_files_ends_well(root, tmp_path):
    "A batch of two with one unreadable file would leave batch normalisation a single image, and with two none"
    for i in range(3): image(root/f'train/a/more{i}.png', (80, 80))
    spoil(sorted(root.glob('train/*/*'))[:4])
    spoil([root/'val/b/b9.png'])
    recipe = preset(dataset='pics', classes=None, per_class=None, valid_per_class=None, width=.05, bs=4, replicas=2,
                    epochs=2, evals=1)
    run = fit(recipe, tmp_path/'runs', root, 'cpu', progress=False, workers=0, max_bytes=0)
    assert run['step'].tolist() == [2, 4] and run.meta['finished']


# Few classes

def predictions(p, labels): return Predictions('x', np.array(p, np.float32), tuple(map(str, range(len(p)))),
                                              np.array(labels), tuple('abcdef'[:len(p[0])]), 's')


@pytest.mark.parametrize('n', [1, 2, 3, 4, 5, 6])
def test_an_unreadable_image_is_an_error_of_every_kind(n):
    good, bad = [1.] + [0.] * (n - 1), [np.nan] * n
    e = errors(predictions([good, bad], [0, 0]))
    assert (e.wrong1, e.wrong5, e.unreadable) == (1, 1, 1)
    e = errors(ensemble([predictions([good, good], [0, 0]), predictions([good, bad], [0, 0])]))
    assert (e.wrong1, e.wrong5, e.unreadable) == (1, 1, 1)
    assert ranks(predictions([good, bad], [0, 0]))[1] > 5
