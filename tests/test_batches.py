"""Images as a network gets them: always the same bytes, also with workers, with fastai and on a GPU.

Not in a notebook: it compares many routes.
"""
import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest
import torch
from PIL import Image

from inception_repro.data import pixels
from inception_repro.data.augment import ROW, augment
from inception_repro.data.batches import Batches, Split
from inception_repro.data.fractals import fractals, generator
from inception_repro.data.load import load

from image_fixtures import quiet, root


# The same bytes

@pytest.mark.parametrize('size, count, digest', [(64, 20, '4b47a6a8bbdfe19c'), (33, 6, None)])
def test_fractals_do_not_depend_on_threads_or_on_what_else_is_made(size, count, digest):
    threads, found = torch.get_num_threads(), []
    for n in 1, 2, 3:
        torch.set_num_threads(n)
        found.append(fractals(5, count, size)[0])
    torch.set_num_threads(threads)
    assert all(torch.equal(found[0], o) for o in found)
    if digest: assert sha256(found[0].numpy().tobytes()).hexdigest()[:16] == digest
    few = fractals(2, 5, size)[0]
    assert torch.equal(few.view(2, 5, 3, size, size), found[0].view(5, count, 3, size, size)[:2, :5])


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
