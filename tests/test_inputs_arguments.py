"""Arguments as other libraries give them: NumPy's numbers in a recipe, indices of feature maps. In a file of their own:
it is a table of values."""
from dataclasses import fields
from fractions import Fraction

import numpy as np
import pytest
import torch

from inception_repro.architecture.networks import create_model
from inception_repro.data.load import load
from inception_repro.training.fit import run_loop
from inception_repro.training.learner import learner
from inception_repro.training.recipe import replace
from inception_repro.training.records import as_json

from slow_cases import slow
from training_fixtures import TINY

PLAIN = dict(lr=.25, epochs=3, bs=8, evals=(2, 1), scale=(.5, .25, .125), clip=None, wd=.0, merge=False, compile=False,
             optimizer='adamw', momentum=.5, width=.125, seed=7)
FLOATS, WHOLE = [np.float64, np.float32, np.float16, torch.tensor], [np.int64, np.uint8, np.int32, torch.tensor]


def strange(v, real, whole):
    "A value in another library's type"
    if isinstance(v, tuple): return np.array(v) if real is np.float64 else [strange(o, real, whole) for o in v]
    kind = {bool: np.bool_, str: np.str_, float: real, int: whole}.get(type(v))
    return v if kind is None else kind(v)


@pytest.mark.parametrize('real, whole', [*zip(FLOATS, WHOLE), (Fraction, np.int16)])
def test_numbers_of_other_libraries_become_plain_ones(real, whole):
    base = replace(TINY, model='inception_resnet_v1')
    a = replace(base, **PLAIN)
    b = replace(base, **{k: strange(v, real, whole) for k, v in PLAIN.items()})
    assert a == b and as_json(a) == as_json(b) and repr(a) == repr(b)
    kinds = lambda v: list(map(kinds, v)) if isinstance(v, tuple) else type(v)
    assert [kinds(getattr(b, f.name)) for f in fields(b)] == [kinds(getattr(a, f.name)) for f in fields(a)]


@pytest.mark.parametrize('optimizer', ['rmsprop_tf', 'adamw'])
def test_fastai_trains_with_them(data, optimizer):
    learn = learner(replace(TINY, optimizer=np.str_(optimizer), lr=np.float64(.045), wd=np.float32(1e-4),
                            momentum=np.float16(.5), bs=np.int64(TINY.bs)), data)
    run_loop(learn, 1)
    assert learn.count.step == len(learn.dls.train)


@pytest.mark.parametrize('change', [
    dict(lr=np.float64('nan')), dict(lr=np.array([[.1]])), dict(lr=torch.tensor(-1.)), dict(epochs=np.float32(1.5)),
    dict(lr=np.complex64(1)), dict(lr=np.array([.1, .2])), dict(seed=np.int64(-1)), dict(merge=np.int64(2))])
def test_bad_numbers_of_other_libraries_are_named(change):
    with pytest.raises(ValueError, match=f'{[*change][0]} is '): replace(TINY, **change)


@pytest.mark.parametrize('whole', [np.int64, np.uint8, torch.tensor])
def test_datasets_and_batches_take_them(whole):
    sizes = dict(classes=2, per_class=4, valid_per_class=2, size=16, seed=3)
    found = load(**{k: whole(v) for k, v in sizes.items()})
    assert found.hash == load(**sizes).hash
    dls = found.dataloaders(whole(4), whole(75), device='cpu', workers=0)
    assert dls.train.one_batch()[0].shape == (4, 3, 75, 75)


@pytest.mark.parametrize('change, words', [
    (dict(bs=np.float64(4)), 'bs is .*it must be a whole number of at least 1'), (dict(size=np.int64(0)), 'size is')])
def test_bad_numbers_of_batches_are_named(change, words):
    data = load(classes=2, per_class=4, valid_per_class=2, size=16)
    with pytest.raises(ValueError, match=words): data.dataloaders(**change)
    with pytest.raises(ValueError, match='seed is 1.5; it must be a whole number of at least 0'): load(seed=1.5)


# Feature maps

def features(*args, **kwargs):
    torch.manual_seed(0)
    return create_model(*args, width=1/16, features_only=True, **kwargs).eval()


@pytest.fixture(scope='module')
def x(): return torch.randn(2, 3, 96, 96)


@pytest.mark.parametrize('name', ['inception_resnet_v1', *slow('inception_v3')])
@pytest.mark.parametrize('out', [
    (), (0,), (1, 1), (3, 1), (-1, 0, -1), [2], np.int64(2), 1, range(2), np.array([0, 3])])
def test_feature_maps_are_a_list_in_the_order_of_the_indices(name, out, x):
    idxs = [int(out)] if np.ndim(out) == 0 else list(out)
    every, some = features(name), features(name, out_indices=out)
    found = some(x)
    assert isinstance(found, list) and len(found) == len(idxs) == len(some.feature_info.channels())
    for i, y in zip(idxs, found): assert torch.equal(y, every(x)[i])


@pytest.mark.parametrize('name', ['inception_resnet_v1', *slow('inception_v3')])
@pytest.mark.parametrize('out', [(0,), (1,), (2, 0), (3,), None])
@pytest.mark.parametrize('checkpointing', [False, True])
def test_every_module_of_a_feature_network_runs(name, out, checkpointing, x):
    "Data parallelism refuses parameters without a gradient"
    net = features(name, out_indices=out).train()
    net.set_grad_checkpointing(checkpointing)
    sum(y.sum() for y in net(x)).backward()
    assert all(p.grad is not None for p in net.parameters())
    whole = create_model(name, width=1/16)
    assert net.state_dict().keys() <= whole.state_dict().keys()
    assert (len(net.state_dict()) < len(whole.trunk.state_dict())) == (out is not None)


def test_data_parallel_trains_a_part(x, tmp_path):
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available(): pytest.skip('needs gloo')
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        net = torch.nn.parallel.DistributedDataParallel(features('inception_v4', out_indices=(1,)).train())
        for _ in range(2): net(x)[0].sum().backward() # the second one fails if a parameter had no gradient
    finally: torch.distributed.destroy_process_group()


@pytest.mark.parametrize('out', [5, (0, 9), 1.5, 'last', [None], ('0',)])
def test_indices_that_do_not_exist_are_named(out):
    with pytest.raises(ValueError, match='out_indices is .*; there are 5 feature maps, 0 to 4'):
        features('inception_v4', out_indices=out)
