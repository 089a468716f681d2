"""Evaluation: crops computed by hand and by Pillow, ImageNet's published layout, killed processes, and the command.

Not in the notebooks: many unusual images, a synthetic development kit, and processes that are killed.
"""
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from inception_repro.evaluation.crops import LONGEST, crops_1, crops_12, crops_144, resized, views
from inception_repro.evaluation.evaluate import Candidate, candidates, evaluate
from inception_repro.evaluation.failures import (
    calibration, confusions, disagreements, plot_failures, show_images, top_losses)
from inception_repro.evaluation.predict import predict
from inception_repro.evaluation.predictions import Errors, Predictions, ensemble, errors, load_predictions, ranks
from inception_repro.evaluation.validation import blacklisted, find_blacklist, valid_images
from inception_repro.training.recipe import preset

root = Path(__file__).parents[1]


# crops: the squares' places along the longer side, and the corners' and the centre's in a square, by hand

SIDES = {299: (342, 384, 427, 470), 75: (86, 96, 107, 118)}  # 256, 288, 320, 352 × 299/224 and × 75/224
CORNERS = {299: {342: (43, 21), 384: (85, 42), 427: (128, 64), 470: (171, 85)},  # side - size, and half of it
           75: {86: (11, 5), 96: (21, 10), 107: (32, 16), 118: (43, 21)}}
LONG = {  # (width, height): for each scale the longer side, and half and all of what it has more than the shorter
    (500, 375): ((456, 57, 114), (512, 64, 128), (569, 71, 142), (627, 78, 157)),
    (375, 500): ((456, 57, 114), (512, 64, 128), (569, 71, 142), (627, 78, 157)),
    (299, 299): ((342, 0, 0), (384, 0, 0), (427, 0, 0), (470, 0, 0)),
    (64, 64): ((342, 0, 0), (384, 0, 0), (427, 0, 0), (470, 0, 0))}


def by_hand(w, h, scales, places):
    "Boxes as (resized width and height, left, top, right, bottom), one for each of the crops that are not mirrored"
    found = []
    for side, (long, half, end) in list(zip(SIDES[299], LONG[w, h]))[:scales]:
        whole = (long, side) if w > h else (side, long)
        room, mid = CORNERS[299][side]
        for at in (0, half, end)[places]:
            x, y = (at, 0) if w > h else (0, at)
            found += [(whole, (x + a, y + b, x + a + 299, y + b + 299))
                      for a, b in ((0, 0), (room, 0), (0, room), (room, room), (mid, mid))]
            found.append((whole, (x, y, x + side, y + side)))
    return sorted(found)


@pytest.mark.parametrize('wh', LONG)
@pytest.mark.parametrize('method, scales, places, n',
                         [(crops_144, 4, slice(None), 144), (crops_12, 1, slice(1, 2), 12)])
def test_boxes_by_hand(wh, method, scales, places, n):
    todo = method(*wh)
    every = [(c.whole, c.box) for c in todo for _ in range(c.weight)]
    assert len(every) == n and sorted(every) == sorted(by_hand(*wh, scales, places) * 2)
    assert sorted(o[:2] for o in todo if o.mirror) == sorted(o[:2] for o in todo if not o.mirror)
    assert len(todo) == (48 if wh[0] == wh[1] and n == 144 else n)


def test_boxes_at_demo_size():
    todo = crops_144(64, 64, 75)
    assert sorted({c.whole for c in todo}) == [(s, s) for s in SIDES[75]] and {c.weight for c in todo} == {3}
    for s in SIDES[75]:
        room, mid = CORNERS[75][s]
        lefts = sorted(c.box[0] for c in todo if c.whole == (s, s) and not c.mirror)
        assert lefts == sorted([0, 0, 0, room, room, mid])


@pytest.mark.parametrize('wh, box', {(500, 375): (31, 23, 469, 352), (375, 500): (23, 31, 352, 469),
                                     (299, 299): (19, 19, 280, 280), (64, 64): (4, 4, 60, 60)}.items())
def test_single_crop_by_hand(wh, box):
    assert [(c.whole, c.box, c.mirror, c.weight) for c in crops_1(*wh)] == [(wh, box, False, 1)]


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([75, 139, 299]))
@settings(max_examples=60, deadline=None)
def test_boxes_of_any_image(w, h, size):
    if max(w, h) > LONGEST * min(w, h):
        with pytest.raises(ValueError, match=f'{w}x{h} pixels'): crops_144(w, h, size)
        return
    for method, n in ((crops_144, 144), (crops_12, 12), (crops_1, 1)):
        todo = method(w, h, size)
        assert sum(c.weight for c in todo) == n and len({c[:3] for c in todo}) == len(todo)
        for (ww, hh), (l, t, r, b), *_ in todo:
            assert 0 <= l < r <= ww and 0 <= t < b <= hh and (method is crops_1 or r - l == b - t >= size)
    side = round(256 * size / 224)
    assert min(resized(w, h, side)) == side


def pillow(im, c, size):
    v = im.resize(c.whole, Image.Resampling.BILINEAR).crop(c.box).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(v.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if c.mirror else v).transpose(2, 0, 1).astype(int)


@pytest.mark.parametrize('wh', LONG)
def test_views_are_pillows(wh):
    # the hardest image
    im = Image.fromarray(np.random.default_rng(0).integers(0, 256, (wh[1], wh[0], 3), dtype=np.uint8))
    x = torch.tensor(np.asarray(im)).permute(2, 0, 1)
    for todo in crops_144(*wh)[::11], crops_12(*wh), crops_1(*wh):
        got = views(x, todo).int().numpy()
        assert max(abs(g - pillow(im, c, 299)).max() for g, c in zip(got, todo)) == 0


@pytest.mark.parametrize('mode', ['bilinear', 'bicubic'])
def test_views_as_a_gpu_makes_them_are_pillows(mode, monkeypatch):
    "The other branch of `_resize`, by a tensor that says it is on a GPU, on noise"
    from inception_repro.evaluation import crops
    class Elsewhere(torch.Tensor): device = property(lambda self: torch.device('cuda'))
    weights = crops._weights
    monkeypatch.setattr(crops, '_weights', lambda ni, nf, mode, device: weights(ni, nf, mode, 'cpu'))
    im = Image.fromarray(np.random.default_rng(1).integers(0, 256, (120, 160, 3), dtype=np.uint8))
    x = torch.tensor(np.asarray(im)).permute(2, 0, 1).as_subclass(Elsewhere)
    for w, h in (115, 120), (160, 90), (401, 120), (160, 13), (115, 86), (200, 150), (75, 75), (320, 240), (401, 13):
        got = crops._resize(x, w, h, mode).as_subclass(torch.Tensor).permute(1, 2, 0).numpy()
        apart = abs(got.astype(int) - np.asarray(im.resize((w, h), Image.Resampling[mode.upper()])))
        most = dict(bilinear=1, bicubic=5)[mode]  # of two directions, Pillow may begin with either
        assert apart.max() <= (0 if w == 160 or h == 120 else most)


# ImageNet as it is published: flat files, a development kit, a blacklist

CLASSES = ['n03', 'n01', 'n02', 'n04', 'n06', 'n05', 'n07']  # in the kit's order, which is not the sorted one
TRUTH = [1, 2, 3, 4, 5, 6, 7, 1]  # of the eight images, by the kit's numbers


class Reads(nn.Module):
    "Reads the class from the red level of an image; the probability falls with the distance from it"
    def __init__(self, classes=7): super().__init__(); self.classes = classes
    def forward(self, x):
        red = ((x[:, 0].mean((1, 2)) + 1) * 127.5 / 30).round()
        return -((torch.arange(self.classes) - red[:, None]) % 7)


@pytest.fixture
def ilsvrc(tmp_path):
    "A folder as ImageNet's archives unpack; image i says class (i mod 7) in sorted order"
    from scipy.io import savemat
    home = tmp_path / 'ilsvrc'
    (home / 'val').mkdir(parents=True)
    kit = home / 'ILSVRC2012_devkit_t12/data'
    kit.mkdir(parents=True)
    fields = [('ILSVRC2012_ID', 'O'), ('WNID', 'O'), ('num_children', 'O')]
    rows = [(i, w, 0) for i, w in enumerate(CLASSES, 1)] + [(8, 'n99', 3)]  # an inner node of WordNet is no class
    savemat(kit / 'meta.mat', dict(synsets=np.array(rows, dtype=fields)))
    (kit / 'ILSVRC2012_validation_ground_truth.txt').write_text('\n'.join(map(str, TRUTH)) + '\n')
    (kit / 'ILSVRC2014_clsloc_validation_blacklist.txt').write_text('2\n5\n36000\n')
    for i in range(1, 9):
        Image.new('RGB', (50 + i, 40), (30 * (i % 7), 9, 9)).save(home / f'val/ILSVRC2012_val_{i:08}.JPEG', quality=100,
                                                                  subsampling=0)
    return home


def test_errors_of_both_splits_by_hand(ilsvrc, tmp_path):
    # image    1    2    3    4    5    6    7    8     class by the kit: n03 n01 n02 n04 n06 n05 n07 n03
    # is       2    0    1    3    5    4    6    2     place of that among the sorted names
    # says     1    2    3    4    5    6    0    1
    # rank     2    6    6    7    1    6    7    2     1 + (is - says) mod 7; the blacklist has images 2 and 5
    images = valid_images(ilsvrc)
    assert images.classes == tuple(sorted(CLASSES))
    by_name = dict(zip(images.names, images.labels))
    assert [by_name[f'val/ILSVRC2012_val_{i:08}.JPEG'] for i in range(1, 9)] == [2, 0, 1, 3, 5, 4, 6, 2]
    for crops in 1, 12:
        pred = predict(Reads(), images, tmp_path / f'p{crops}', crops, 32, progress=False)
        assert dict(zip(images.names, ranks(pred).tolist())) == {f'val/ILSVRC2012_val_{i:08}.JPEG': r
                                                                 for i, r in enumerate([2, 6, 6, 7, 1, 6, 7, 2], 1)}
        black = np.array([n.endswith(('2.JPEG', '5.JPEG')) for n in images.names])
        assert errors(pred) == Errors(8, 7, 5) and errors(pred, ~black) == Errors(6, 6, 4)


def test_blacklist_beside_the_images_gives_both_splits(ilsvrc, tmp_path, monkeypatch):
    monkeypatch.setattr(Candidate, 'build', lambda self, classes: Reads(classes))
    save_file({'x': torch.zeros(1)}, tmp_path / 'inception_v4-0.safetensors')
    kw = dict(out=tmp_path / 'p', progress=False, device='cpu')
    rows = evaluate(tmp_path / 'inception_v4-0.safetensors', ilsvrc, bs=8, **kw)
    assert [(r['split'], r['images'], r['top1'], r['top5']) for r in rows] == [
        ('all', 8, 87.5, 62.5), ('non-blacklisted', 6, 100., pytest.approx(66.6667))]
    kit = ilsvrc / 'ILSVRC2012_devkit_t12/data/ILSVRC2014_clsloc_validation_blacklist.txt'
    # found there, it may name none
    for text, splits in ('9\n10\n', ['all']), ('36000', ['all']), ('8', ['all', 'non-blacklisted']):
        kit.write_text(text)
        assert [r['split'] for r in evaluate(tmp_path / 'inception_v4-0.safetensors', ilsvrc, bs=8, **kw)] == splits
    other = tmp_path / 'list.txt'
    other.write_text('9\n10\n')
    with pytest.raises(ValueError, match='list.txt names none of the 8 images'):
        evaluate(tmp_path / 'inception_v4-0.safetensors', ilsvrc, blacklist=other, **kw)
    for bad in b'', b'\xff\xd8\xff\xe0', '\N{SUPERSCRIPT TWO}'.encode():
        other.write_bytes(bad)
        with pytest.raises(ValueError, match='list.txt is not a blacklist'):
            evaluate(tmp_path / 'inception_v4-0.safetensors', ilsvrc, blacklist=other, **kw)


@pytest.mark.parametrize('home, kit',
                         [('ILSVRC/Data/CLS-LOC', 'ILSVRC/devkit/data'), ('ilsvrc', 'ilsvrc/ILSVRC2014_devkit/data'),
                                       ('ilsvrc/val', 'ILSVRC2014_devkit/data')])
def test_blacklist_of_imagenet_only(home, kit, tmp_path):
    "The kit may lie as in ILSVRC2015's archive; images of the same numbers from other sets are not on it"
    names = ['ILSVRC2012_val_00000036.JPEG', 'val_36.JPEG', 'n01440764_36.JPEG']
    folder = tmp_path / home.removesuffix('/val') / 'val/n01440764'
    path = tmp_path / kit / 'ILSVRC2015_clsloc_validation_blacklist.txt'
    for o in folder, path.parent: o.mkdir(parents=True)
    path.write_text('36\r\n')
    for n in names: Image.new('RGB', (9, 9)).save(folder / n)
    images = valid_images(tmp_path / home)
    assert find_blacklist(images.root) == path
    assert [Path(n).name for n, b in zip(images.names, blacklisted(images.names, path)) if b] == names[:1]


def test_an_unreadable_image_is_wrong_counted_and_named(ilsvrc, tmp_path):
    right = ilsvrc / 'val/ILSVRC2012_val_00000005.JPEG'  # the only one that the network is right about
    before = errors(predict(Reads(), valid_images(ilsvrc), tmp_path / 'a', 1, 32, progress=False))
    right.write_bytes(right.read_bytes()[:200])
    with pytest.warns(UserWarning, match='1 of 8 images in .* are bad: val/ILSVRC2012_val_00000005.JPEG: '):
        pred = predict(Reads(), images := valid_images(ilsvrc), tmp_path / 'b', 1, 32, progress=False)
    assert (before.wrong1, errors(pred).wrong1, errors(pred).wrong5, errors(pred).unreadable) == (7, 8, 6, 1)
    (i, why), = pred.reasons.items()
    assert pred.images[i].endswith('00000005.JPEG') and ('unreadable' in why or 'not an image' in why)
    assert i not in top_losses(pred, 8)
    assert sum(n for *_, n in confusions(pred)) == 7 and calibration(pred).count.sum() == 7
    assert sum(disagreements(pred, pred)[0].values()) == 8 and plot_failures(pred) and show_images(images, [i], pred)


def test_an_image_that_could_be_read_later(ilsvrc, tmp_path):
    "Begun again, or gone on with before its row was written, it has no reason any more"
    one, folder = ilsvrc / 'val/ILSVRC2012_val_00000005.JPEG', tmp_path / 'p'
    good = one.read_bytes()
    run = lambda **kw: predict(Reads(), valid_images(ilsvrc), folder, 1, 32, progress=False, bs=2, **kw)
    before = run()
    one.write_bytes(bytes(len(good)))
    with pytest.warns(UserWarning, match='not an image'): assert run(fresh=True).reasons
    one.write_bytes(good)
    rows = (folder / 'probabilities.f16').read_bytes()
    (folder / 'probabilities.f16').write_bytes(rows[:2 * 7 * 2])  # a kill after two images
    for again in run(), run(fresh=True): assert again.reasons == {} and (again.p == before.p).all()


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
    assert 'Table 2.' in out and 'top-1 error, %' in out


def test_a_line_of_pixels_is_unreadable_for_144_crops(tmp_path):
    (tmp_path / 'val/a').mkdir(parents=True)
    Image.new('RGB', (201, 2)).save(tmp_path / 'val/a/line.png')
    Image.new('RGB', (200, 2)).save(tmp_path / 'val/a/strip.png')
    with pytest.warns(UserWarning, match='val/a/line.png: 201x2 pixels'):
        pred = predict(Reads(1), valid_images(tmp_path), tmp_path / 'p', 144, 8, progress=False)
    assert pred.reasons == {0: '201x2 pixels: a side is more than 100 times the other; crop the image first'}
    assert errors(pred).unreadable == 1


@pytest.mark.parametrize('classes', [5, 9])
def test_other_numbers_of_classes_than_the_network(ilsvrc, tmp_path, classes):
    with pytest.raises(ValueError, match=f'the network has {classes} classes, the images 7'):
        predict(Reads(classes), valid_images(ilsvrc), tmp_path / 'p', 1, 32, progress=False)


def test_classes_in_the_networks_order(ilsvrc, tmp_path):
    names = tmp_path / 'classes.txt'
    names.write_text('\n'.join(f'n{i:02} words' for i in range(10)))
    pred = predict(Reads(10), images := valid_images(ilsvrc, names), tmp_path / 'p', 1, 32, progress=False)
    assert len(images.classes) == 10 and len(pred) == 8
    assert sorted(images.labels) == sorted(int(CLASSES[t - 1][1:]) for t in TRUTH)
    names.write_text('n01\nn02\n')
    with pytest.raises(ValueError, match='images of 5 classes that are not among the 2 known: n03, n04, n05'):
        valid_images(ilsvrc, names)


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


# ensembles

def made_up(name, n=40, classes=6, seed=0):
    p = np.random.default_rng(seed).dirichlet([.3] * classes, n).astype(np.float16).astype(np.float32)
    return Predictions(name, p, tuple(map(str, range(n))), np.arange(n) % classes, tuple('abcdef'[:classes]), 'x')


def test_ensembles_by_hand():
    three = [made_up(o, seed=i) for i, o in enumerate('abc')]
    assert (ensemble(three[:1]).p == three[0].p).all()
    assert (ensemble(three[:2]).p == (three[0].p.astype(float) + three[1].p) / 2).all()
    one = ensemble(three, [1, 2, 3])
    for order in (2, 1, 0), (1, 0, 2):
        again = ensemble([three[i] for i in order], [(1, 2, 3)[i] for i in order])
        assert (again.p == one.p).all() and errors(again) == errors(one)
        assert (ensemble([three[i] for i in order]).p == ensemble(three).p).all()


@pytest.mark.parametrize('change, words', [
    (dict(images=tuple('x' * i for i in range(40))), 'different images: 40, such as 0, and 40, such as '),
    (dict(stamp='y'), 'different images'), (dict(labels=np.zeros(40, int)), 'different images'),
    (dict(classes=tuple('ABCDEF')), 'different classes: 6, such as a, and 6, such as A')])
def test_predictions_of_different_sets_make_no_ensemble(change, words):
    with pytest.raises(ValueError, match=words): ensemble([made_up('a'), replace(made_up('b'), **change)])


def test_a_network_that_says_nothing_is_not_right():
    same = replace(made_up('a'), p=np.full((40, 6), 1 / 6, np.float32))
    assert errors(same) == Errors(40, 40, 40)


def test_half_precision_changes_no_error(tmp_path):
    "Probabilities down to 1e-9, where a half would be zero, keep their order on disk"
    class Sharp(nn.Module):
        def forward(self, x): return -20 * x.new_tensor([0., .2, .4, .5, .6, .7, 1.]).expand(len(x), 7)
    images = valid_images('fractals', 7, 2, 16)
    pred = predict(Sharp(), images, tmp_path / 'p', 1, 16, progress=False)
    assert pred.p[0, -1] < 3e-9 and ranks(pred).tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]


@pytest.mark.parametrize('terminal', [True, False])
def test_progress_of_what_is_left(terminal, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: terminal)
    images, folder = valid_images('fractals', 7, 2, 16), tmp_path / 'p'
    run = lambda: (predict(Reads(), images, folder, 1, 16, bs=4, name='reads'), capsys.readouterr().out)[1]
    bar = '14/14, ' if terminal else '14 of 14 images'
    for left in 14, 6, 0:  # of 14, the first time, after a kill, and when all is done
        if left < 14: os.truncate(folder / 'probabilities.f16', (14 - left) * 2 * 7)
        said = run()
        assert (bar in said and 'images/s' in said and '\n' in said[-9:]) == (left > 0), said


# kills

CHILD = '''
import sys, time, torch
from pathlib import Path
from torch import nn
from inception_repro.evaluation.predict import predict
from inception_repro.evaluation.validation import valid_images
class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 4))
    def forward(self, x): time.sleep(PAUSE); return self.net(x)
def run(folder):
    return predict(Slow(), valid_images('fractals', 4, 30, 32), folder, 12, 32, bs=36, progress=False, workers=1)
'''


def test_killed_at_random_nothing_is_counted_twice(tmp_path):
    scope = {}
    exec(CHILD.replace('PAUSE', '0'), scope)
    whole = scope['run'](tmp_path / 'whole')
    draw, rows = random.Random(0), tmp_path / 'killed/probabilities.f16'
    for aim in sorted(draw.randrange(8, 8 * 100) for _ in range(2)):  # bytes after which to kill
        p = subprocess.Popen([sys.executable, '-W', 'ignore', '-c',
                              CHILD.replace('PAUSE', '.01') + 'run(Path(sys.argv[1]))', tmp_path / 'killed'])
        end = time.monotonic() + 60
        while p.poll() is None and time.monotonic() < end and (not rows.exists() or rows.stat().st_size < aim):
            time.sleep(.001)
        assert p.poll() is None, 'it ended before it was killed'
        p.send_signal(signal.SIGKILL)
        p.wait()
        assert aim <= rows.stat().st_size < 8 * 120
        with open(rows, 'ab') as f: f.write(bytes(draw.randrange(30)))  # a torn row, as a crash may leave one
        with pytest.raises(ValueError, match='of 120 images; run the same evaluation again'):
            load_predictions(tmp_path / 'killed')
    again = scope['run'](tmp_path / 'killed')
    assert rows.read_bytes() == (tmp_path / 'whole/probabilities.f16').read_bytes() and (again.p == whole.p).all()
    assert errors(again) == errors(whole)


# the command

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
    assert 'inception_resnet_v2-0, 1 crop: 12 of 12 images' in out and '| Inception-ResNet-v2 ' in out
    assert 'Table 5' in out and '| ensemble of 2' in out and 'Table 4' not in out and 'not of all of ImageNet' in out
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
    code, out, err = shell('evaluate', str(tmp_path / 'weights'), '--runs', str(tmp_path / 'runs'), '--out',
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


def test_every_way_of_a_table_is_a_command(tmp_path):
    "The commands that the tables name, with a folder that is not there, fail for that reason only"
    from inception_repro.cli import app
    from inception_repro.evaluation.tables import row_command, tables
    from typer.testing import CliRunner
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
