"Images that are bad, unusual or hidden. Not in a notebook: it is a long table of small folders."
import warnings

import numpy as np
import pytest
from PIL import Image

from image_fixtures import image, quiet, root


def truncate(p): p.write_bytes(p.read_bytes()[:-60])
def corrupt(p): p.write_bytes(p.read_bytes()[:40] + b'\xff' * 60 + p.read_bytes()[100:])


@pytest.mark.parametrize('name, make, why', [
    ('text', lambda p: p.write_text('hello'), 'not an image'),
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
    assert len(xb) == len(yb) == 7  # another image takes the place


def test_a_split_without_an_image_stops(root):
    for p in root.glob('train/*/*'): p.write_text('no')
    files = quiet(root, max_bytes=0).dataloaders(bs=6, size=8, device='cpu', workers=0)
    with pytest.warns(UserWarning, match='6 of 6 images in the training split are bad'):
        with pytest.raises(ValueError, match='no image of 6 can be read: .*: not an image'):
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
