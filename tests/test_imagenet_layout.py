"""ImageNet as it is published: flat files, a development kit, a blacklist; and images that cannot be read.

Not in a notebook: the development kit is synthetic.
"""
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from inception_repro.evaluation.evaluate import Candidate, evaluate
from inception_repro.evaluation.failures import (
    calibration, confusions, disagreements, plot_failures, show_images, top_losses)
from inception_repro.evaluation.predict import predict
from inception_repro.evaluation.predictions import Errors, errors, ranks
from inception_repro.evaluation.validation import blacklisted, find_blacklist, valid_images

from evaluation_fixtures import Reads

CLASSES = ['n03', 'n01', 'n02', 'n04', 'n06', 'n05', 'n07']  # in the kit's order, which is not the sorted one
TRUTH = [1, 2, 3, 4, 5, 6, 7, 1]  # of the eight images, by the kit's numbers


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
    "It is another image: the predictions are not continued, and begun again it has no reason any more"
    one, folder = ilsvrc / 'val/ILSVRC2012_val_00000005.JPEG', tmp_path / 'p'
    good = one.read_bytes()
    run = lambda **kw: predict(Reads(), valid_images(ilsvrc), folder, 1, 32, progress=False, bs=2, **kw)
    before = run()
    one.write_bytes(bytes(len(good)))
    with pytest.warns(UserWarning, match='not an image'): assert run(fresh=True).reasons
    one.write_bytes(good)
    rows = (folder / 'probabilities.f16').read_bytes()
    (folder / 'probabilities.f16').write_bytes(rows[:2 * 7 * 2])  # a kill after two images
    with pytest.raises(ValueError, match='holds other predictions, stamp is'): run()
    again = run(fresh=True)
    assert again.reasons == {} and (again.p == before.p).all()


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
