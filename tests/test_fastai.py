"""fastai's tools on this package's learner, loaders and optimizer.

Not in a notebook: these are many small calls of another package's interface.
"""
import json
import pickle

import numpy as np
import pytest
import torch
from fastai.callback.all import (
    CSVLogger, EarlyStoppingCallback, GradientAccumulation, MixUp, ProgressCallback, ReduceLROnPlateau,
    SaveModelCallback)
from fastai.callback.schedule import ParamScheduler
from fastai.interpret import ClassificationInterpretation, Interpretation
from fastai.learner import Recorder
from fastai.metrics import accuracy
from fastai.vision.all import ImageBlock, CategoryBlock, DataBlock, PILImage, Resize, vision_learner
from torch import nn
from torch.optim import lr_scheduler

from inception_repro import fit, inception_v4, preset, read_run
from inception_repro.architecture.networks import configure
from inception_repro.training.learner import learner, load_data
from inception_repro.training.optim import RMSPropTF
from inception_repro.training.recipe import replace
from inception_repro.training.schedule import stepped_decay

TINY = preset('demo', 'inception_resnet_v1', width=1 / 16, classes=3, per_class=8, valid_per_class=4, bs=8, epochs=1,
              evals=1)


@pytest.fixture(scope='module')
def data(): return load_data(TINY)


@pytest.fixture
def learn(data, tmp_path):
    o = learner(TINY, data, metrics=accuracy)
    o.path = tmp_path
    return o.remove_cbs(ProgressCallback)


def test_predictions(learn, data):
    p, y, decoded = learn.get_preds(with_decoded=True)
    assert p.shape == (12, 3) and torch.allclose(p.sum(1), torch.ones(12)) and (y == data.valid.y).all()
    assert (decoded == p.argmax(1)).all()
    net = learn.model.eval()
    with torch.no_grad(): ours = torch.cat([net(x).softmax(1) for x, _ in learn.dls.valid])
    assert torch.allclose(p, ours, atol=1e-5)
    name, i, q = learn.predict(data.valid.x[5])
    assert name == f'fractal {int(i)}' and torch.allclose(q, p[5], atol=1e-5)


@pytest.mark.parametrize('item', [
    PILImage.create(np.full((80, 90, 3), 99, np.uint8)), np.full((80, 90, 3), 99, np.uint8), 'file',
    torch.full((3, 80, 90), 99, dtype=torch.uint8)], ids=['pillow', 'array', 'file', 'tensor'])
def test_predict_takes_any_image(learn, item, tmp_path):
    if isinstance(item, str):
        item = tmp_path / 'a.png'
        PILImage.create(np.full((80, 90, 3), 99, np.uint8)).save(item)
    expected = learn.predict(torch.full((3, 64, 64), 99, dtype=torch.uint8))[2]
    assert torch.allclose(learn.predict(item)[2], expected, atol=1e-5)


def test_predict_names_what_is_no_image(learn):
    with pytest.raises(TypeError, match='an image is dict; give a path, a Pillow image'): learn.predict({})


def test_validate_and_summary(learn):
    loss, acc = learn.validate()
    p, y, losses = learn.get_preds(with_loss=True)
    assert acc == pytest.approx(float((p.argmax(1) == y).float().mean()))
    assert loss == pytest.approx(float(losses.mean()), rel=1e-4)
    assert f"Total params: {sum(p.numel() for p in learn.model.parameters()):,}" in learn.summary()


def test_pictures(learn):
    import matplotlib.pyplot as plt
    learn.dls.show_batch(max_n=4)
    assert plt.gca().figure.axes[0].get_title().startswith('fractal ')
    learn.show_results(max_n=4)
    assert plt.gca().figure.axes[0].get_title().count('fractal ') == 2
    Interpretation.from_learner(learn).plot_top_losses(3)
    plt.close('all')


def test_interpretation(learn):
    found = ClassificationInterpretation.from_learner(learn)
    assert found.confusion_matrix().sum() == 12 and list(found.vocab) == [f'fractal {i}' for i in range(3)]
    losses, idx = found.top_losses(2)
    assert losses[0] >= losses[1] and len(idx) == 2


def test_lr_find_leaves_everything_as_it_was(learn):
    before = [o.clone() for o in (*learn.model.state_dict().values(), *learn.average.net.module.state_dict().values())]
    learn.lr_find(num_it=6, show_plot=False)
    after = [*learn.model.state_dict().values(), *learn.average.net.module.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after)) and learn.count.step == 0
    assert len(learn.recorder.lrs) == 6 and learn.recorder.lrs[0] != learn.recorder.lrs[-1]


@pytest.mark.parametrize('cb', [CSVLogger, Recorder, SaveModelCallback, MixUp, EarlyStoppingCallback, ReduceLROnPlateau,
                                lambda: GradientAccumulation(16)], ids=lambda cb: cb.__name__)
def test_callbacks_work_on_the_learner(learn, cb, tmp_path):
    learn.fit(1, cbs=cb())
    assert learn.count.step == (1 if 'lambda' in str(cb) else 3)
    if cb is not Recorder: assert len(learn.recorder.values) == 1
    if cb is CSVLogger: assert (tmp_path / 'history.csv').read_text().startswith('epoch,train_loss,valid_loss,accuracy')
    if cb is SaveModelCallback: assert (tmp_path / 'models/model.pth').exists()


def test_twice_and_one_cycle(learn):
    learn.fit(1)
    learn.fit(1)
    assert learn.count.step == 6
    assert learn.recorder.lrs == [pytest.approx(stepped_decay(i / 3, compress=6.)) for i in (3, 4, 5)]
    learn.fit_one_cycle(1, .01)
    assert max(learn.recorder.lrs) < .02


@pytest.mark.parametrize('cb, text', [
    (CSVLogger(), 'fit takes no CSVLogger: its record is a CSV file'), (Recorder, 'fit takes no Recorder'),
    (SaveModelCallback(), 'SaveModelCallback: it evaluates'), (GradientAccumulation(), 'use bs= and replicas='),
    (ParamScheduler({}), 'the recipe has the schedule')])
def test_fit_refuses_in_one_sentence(data, cb, text, tmp_path):
    with pytest.raises(ValueError, match=text): fit(TINY, tmp_path, data, cbs=[cb])
    assert not [*tmp_path.iterdir()]


def test_rows_and_metrics(data, tmp_path):
    rows = []
    def wrong(pred, y): return (pred.argmax(1) != y).float().mean()
    run = fit(replace(TINY, evals=2), tmp_path, data, progress=False, metrics=[accuracy, wrong], on_row=rows.append)
    assert [r['step'] for r in rows] == run['step'].tolist() and rows[-1]['top1'] == run['top1'][-1]
    kept = json.loads(run.path.with_suffix('.metrics.json').read_text())
    assert [o['accuracy'] for o in kept] == [r['accuracy'] for r in rows]
    assert all(r['wrong'] == pytest.approx(r['top1'] / 100) for r in rows)


def test_loaders_of_your_own(tmp_path):
    for i in range(24):
        p = tmp_path / f"{'train' if i % 3 else 'valid'}/{'ab'[i % 2]}/{i}.png"
        p.parent.mkdir(parents=True, exist_ok=True)
        PILImage.create(np.random.default_rng(i).integers(0, 256, (80, 80, 3), dtype=np.uint8)).save(p)
    from fastai.vision.all import GrandparentSplitter, get_image_files, parent_label
    block = DataBlock((ImageBlock, CategoryBlock), get_items=get_image_files, get_y=parent_label, item_tfms=Resize(75),
                      splitter=GrandparentSplitter())
    dls = block.dataloaders(tmp_path, bs=4, num_workers=0)
    with pytest.raises(ValueError, match="recipe's dataset is 'fractals'; give it another name"):
        fit(TINY, tmp_path / 'r', dls, progress=False)
    run = fit(replace(TINY, dataset='own'), tmp_path / 'r', dls, device='cpu', progress=False)
    assert run.meta['data'] == dict(classes=2, train=16, valid=8) and run['images'][-1] == 16
    assert run.meta['recipe']['bs'] == 4 and run.meta['recipe']['px'] == 75 and run.meta['dataset'] == 'own'
    assert read_run(run.path)['step'].tolist() == run['step'].tolist()


def test_width_of_vision_learner(data):
    narrow = configure('inception_v4', width=1 / 16)
    dls = data.dataloaders(4, 75, device='cpu')
    learn = vision_learner(dls, narrow, pretrained=False, loss_func=nn.CrossEntropyLoss())
    assert learn.get_preds()[0].shape == (12, 3)
    assert sum(p.numel() for p in learn.model.parameters()) < 1e6 and narrow != inception_v4


@pytest.mark.parametrize('schedule', [
    lambda o: lr_scheduler.StepLR(o, 1, .5), lambda o: lr_scheduler.CosineAnnealingLR(o, 4),
    lambda o: lr_scheduler.OneCycleLR(o, .1, total_steps=5, cycle_momentum=False),
    lambda o: lr_scheduler.LambdaLR(o, lambda i: .9**i)], ids=['step', 'cosine', 'one cycle', 'lambda'])
def test_torch_schedulers(schedule):
    nets = [nn.Linear(3, 2) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    opts = [RMSPropTF(n.parameters(), lr=.1) for n in nets]
    assert isinstance(opts[0], torch.optim.Optimizer)
    s = schedule(opts[0])
    for _ in range(3):
        opts[1].set_hyper('lr', opts[0].param_groups[0]['lr'])
        for n, o in zip(nets, opts):
            o.zero_grad()
            n(torch.ones(4, 3)).sum().backward()
            o.step()
        s.step()
    assert torch.equal(nets[0].weight, nets[1].weight) and opts[0].param_groups[0]['lr'] != .1
    again = pickle.loads(pickle.dumps(opts[0]))
    assert again.param_groups[0]['lr'] == opts[0].param_groups[0]['lr']
    assert 'params' not in again.state_dict()['hypers'][0]
