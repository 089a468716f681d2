"""Images that remain files: processes that decode and remain, other decoders, one listing for each host.

Not in a notebook: it starts processes and replaces parts.
"""
import sys

import pytest
import torch

from inception_repro.data import load as load_module
from inception_repro.data.batches import Batches, Split
from inception_repro.data.load import load
from inception_repro.support.processes import Group
from inception_repro.training.fit import fit
from inception_repro.training.learner import load_data
from inception_repro.training.recipe import preset, replace
from inception_repro.training.records import read_run

from image_fixtures import image, quiet, root
from process_fixtures import on_processes
from training_fixtures import ENV, TINY, table


@pytest.fixture
def photos(tmp_path):
    "JPEG files, a PNG file, and later a damaged one"
    for c in 'ab':
        for i in range(4): image(tmp_path/f'photos/train/{c}/{c}{i}.jpg', (40, 30), quality=90)
        image(tmp_path/f'photos/val/{c}/{c}9.jpg', (40, 30), 'CMYK', quality=90)
    image(tmp_path/'photos/train/a/a4.png', (40, 30))
    return tmp_path/'photos'


def loader(root, workers=0, **kwargs):
    return quiet(root, max_bytes=0, **kwargs).dataloaders(3, 8, device='cpu', workers=workers)


def same(a, b):
    a, b = list(a), list(b)
    assert len(a) == len(b) > 0
    for (xa, ya), (xb, yb) in zip(a, b): assert torch.equal(xa, xb) and torch.equal(ya, yb)


def test_processes_that_decode_remain_from_one_epoch_to_the_next(photos):
    a, b = loader(photos).train, loader(photos, 1).train
    same(a, b)
    (process,) = b.kept._iterator._workers
    next(iter(b)) # the rest of this pass is not needed
    same(a, b.seek(1))
    assert b.kept._iterator._workers == [process] and process.is_alive()
    other, copied = iter(b.seek(0)), b.new()
    next(other)
    same(a.seek(5), b.seek(5)) # within another pass
    same(a.seek(0, 1), other)
    assert copied.kept is None
    b.close()
    process.join(20)
    assert not process.is_alive()


def test_a_killed_process_is_replaced(photos):
    b = loader(photos, 1).train
    list(b)
    process = b.kept._iterator._workers[0]
    process.kill() # as Ctrl-C ends it between two calls of `fit`
    process.join()
    same(loader(photos).train, b.seek(0))
    b.close()


def test_a_pass_that_ends_late_changes_nothing(photos):
    b = loader(photos, 1).train
    next(late := iter(b))
    same(loader(photos).train, b.seek(0)) # another pass, whose processes remain
    kept = b.kept
    late.close()
    assert b.kept is kept is not None
    next(late := iter(b))
    b.close()
    late.close()
    assert b.kept is None


def test_a_file_is_tried_again_in_the_next_epoch(photos):
    b, path = loader(photos, 1).train, photos/'train/a/a0.jpg'
    good = path.read_bytes()
    path.write_bytes(b'no image')
    with pytest.warns(match='not an image'): list(b)
    path.write_bytes(good)
    same(loader(photos).train.seek(1), b.seek(1))
    b.close()


def test_torchvision_decodes_jpegs(photos, monkeypatch):
    "Its pixels are others; a GPU decodes whole batches, here replaced by the CPU"
    cpu = loader(photos, decoder='torchvision')
    found, pillow = list(cpu.train), list(loader(photos).train)
    assert all(torch.equal(a[1], b[1]) and not torch.equal(a[0], b[0]) for a, b in zip(found, pillow))
    assert quiet(photos).hash != quiet(photos, decoder='torchvision').hash # in memory, each has its own cache
    monkeypatch.setattr(Batches, 'gpu_decodes', True)
    for n in 0, 1:
        gpu = loader(photos, n, decoder='torchvision')
        same(found, gpu.train)
        same(cpu.valid, gpu.valid)
        gpu.train.close(), gpu.valid.close()


@pytest.mark.parametrize('damage', [lambda b: b[:300], lambda b: b'no image', lambda b: b[:1] + b'damage' + b[7:]])
def test_a_damaged_file_is_replaced_whatever_decodes(damage, photos, monkeypatch):
    for path in photos/'train/b/b1.jpg', photos/'val/a/a9.jpg': path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(match='1 of .* bad'): found = [list(o) for o in loader(photos, decoder='torchvision')]
    monkeypatch.setattr(Batches, 'gpu_decodes', True)
    with pytest.warns(match='1 of .* bad') as told: again = [list(o) for o in loader(photos, decoder='torchvision')]
    for a, b in zip(found, again): same(a, b)
    assert sum('the GPU cannot decode' in str(o.message) for o in told) in (0, 2) # one for each split
    assert [len(y) for _, y in found[1]] == [1] and {len(y) for _, y in found[0]} == {3}


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_a_gpu_decodes_jpegs(photos):
    cpu = loader(photos, decoder='torchvision')
    gpu = quiet(photos, max_bytes=0, decoder='torchvision').dataloaders(3, 8, device='cuda', workers=1)
    for a, b in zip(cpu, gpu):
        assert b.gpu_decodes
        for (xa, ya), (xb, yb) in zip(a, b, strict=True):
            assert xb.is_cuda and torch.equal(ya, yb.cpu()) and (xa - xb.cpu()).abs().mean() < .05


def test_torchvision_is_optional(photos, monkeypatch):
    monkeypatch.setitem(sys.modules, 'torchvision.io', None)
    with pytest.raises(ValueError, match='the decoder is torchvision, which cannot be imported .*; install it, or use '
                                         'decoder=pillow'): load(photos, decoder='torchvision')
    assert len(quiet(photos).train) == 9


def test_the_recipe_and_its_images_have_one_decoder(photos):
    recipe = preset('demo', dataset='photos', classes=2, decoder='torchvision')
    assert load_data(recipe, photos, cache=photos.parent, progress=False).decoder == 'torchvision'
    with pytest.raises(ValueError, match='loaded with the decoder pillow, and the recipe has torchvision'):
        load_data(recipe, quiet(photos))
    with pytest.raises(ValueError, match="decoder is 'nvjpeg'; use 'pillow' or 'torchvision'"): preset(decoder='nvjpeg')


def test_images_in_memory_are_copied_to_the_device_of_a_lone_process_only():
    split = Split(torch.zeros(8, 3, 8, 8, dtype=torch.uint8), torch.zeros(8, dtype=torch.long), torch.ones(8))
    assert Batches(split, 'a').to('meta').dataset.x.is_meta
    assert not Batches(split, 'a', group=Group(1, 2), parts=2).to('meta').dataset.x.is_meta


FILES = replace(TINY, dataset='photos', classes=2, per_class=None, valid_per_class=None, bs=4,
                replicas=2, epochs=1, evals=1)


def train(recipe, root, out):
    "How often a process has listed the folder"
    listed, old = [], load_module.list_images
    load_module.list_images = lambda *args: listed.append(1) or old(*args)
    fit(recipe, out, root, 'cpu', env=ENV, progress=False, workers=1, max_bytes=0, cache=out)
    return len(listed)


@pytest.mark.slow
def test_a_folder_is_listed_once_on_each_host(photos, tmp_path, one_thread):
    assert on_processes(2, train, FILES, photos, tmp_path/'two') == [1, 0]
    one = fit(FILES, tmp_path/'one', photos, 'cpu', env=ENV, progress=False, workers=0, max_bytes=0, cache=tmp_path)
    two = read_run(next(tmp_path.glob('two/photos/*.csv')))
    assert table(one) == table(two) and one.meta['dataset_hash'] == two.meta['dataset_hash']
