"Crops computed by hand and by Pillow. Not in a notebook: there are many unusual sizes."
import numpy as np
import pytest
import torch
from PIL import Image
from hypothesis import given, settings
from hypothesis import strategies as st

from inception_repro.evaluation.crops import LONGEST, crops_1, crops_12, crops_144, resized, views


# The squares' places along the longer side, and the corners' and the centre's in a square, by hand

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
