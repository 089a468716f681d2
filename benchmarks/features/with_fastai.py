"""Features with fastai"""
from . import TINY, check, feature


def learn(tmp=None, **kwargs):
    import fastai.vision.all  # noqa: F401, as in fastai's own notebooks: it adds methods such as summary
    from fastai.callback.progress import ProgressCallback
    from fastai.metrics import accuracy
    from inception_repro import preset
    from inception_repro.training.learner import learner, load_data
    r = preset('demo', 'inception_resnet_v1', **TINY)
    o = learner(r, load_data(r), metrics=accuracy, **kwargs).remove_cbs(ProgressCallback)
    o.logger = lambda *_: None
    if tmp: o.path = tmp
    return o


@feature('fastai', 'finding a learning rate', 'learn.lr_find()')
def lr_find(tmp):
    o = learn(tmp)
    o.lr_find(num_it=8, show_plot=False)
    return check(len(o.recorder.lrs) == 8 and o.count.step == 0, f'{len(o.recorder.lrs)} rates, network restored')


@feature('fastai', 'predictions', 'learn.get_preds()')
def get_preds():
    p, y = learn().get_preds()
    return check(p.shape == (8, 2) and abs(p.sum(1) - 1).max() < 1e-5, f'probabilities {tuple(p.shape)}')


@feature('fastai', 'the prediction for an image', 'learn.predict(image)')
def predict():
    import numpy as np
    name, i, p = learn().predict(np.zeros((80, 90, 3), np.uint8))
    return check(len(p) == 2, name)


@feature('fastai', 'losses and metrics', 'learn.validate()')
def validate():
    found = learn().validate()
    return check(len(found) == 2, 'loss and accuracy')


@feature('fastai', 'pictures of a batch', 'learn.dls.show_batch()')
def show_batch():
    import matplotlib.pyplot as plt
    learn().dls.show_batch(max_n=4)
    title = plt.gcf().axes[0].get_title()
    plt.close('all')
    return check(title.startswith('fractal'), f'first title: {title}')


@feature('fastai', 'pictures of predictions', 'learn.show_results()')
def show_results():
    import matplotlib.pyplot as plt
    learn().show_results(max_n=4)
    title = plt.gcf().axes[0].get_title()
    plt.close('all')
    return check(title.count('fractal') == 2, 'class and prediction')


@feature('fastai', 'layers', 'learn.summary()')
def summary():
    text = learn().summary()
    return check('Total params' in text, f'{len(text.splitlines())} lines')


@feature('fastai', 'a confusion matrix', 'ClassificationInterpretation.from_learner(learn)')
def confusion():
    from fastai.interpret import ClassificationInterpretation
    found = ClassificationInterpretation.from_learner(learn()).confusion_matrix()
    return check(found.sum() == 8, f'{found.shape[0]}×{found.shape[1]}')


def with_callback(name, **kwargs):
    "A feature that trains with a callback of fastai"
    def f(tmp):
        import fastai.callback.all as cbs
        o = learn(tmp)
        o.fit(1, cbs=getattr(cbs, name)(**kwargs))
        return check(len(o.recorder.values) == 1, f'{o.count.step} steps')
    text = ', '.join(f'{k}={v}' for k, v in kwargs.items())
    feature('fastai', f'the callback {name}', f'learn.fit(1, cbs={name}({text}))')(f)


for _name, _kwargs in [('CSVLogger', {}), ('SaveModelCallback', {}), ('EarlyStoppingCallback', {}), ('MixUp', {}),
                       ('GradientAccumulation', dict(n_acc=16))]: with_callback(_name, **_kwargs)


@feature('fastai', 'fit refuses what its loop cannot serve', 'fit(recipe, cbs=CSVLogger())')
def refuses(tmp):
    from fastai.callback.all import CSVLogger
    from inception_repro import fit
    try: fit('inception_v4', tmp, cbs=CSVLogger())
    except ValueError as e: return str(e)
    raise AssertionError('nothing was refused')


@feature('fastai', 'metrics, and a function for every row', 'fit(recipe, metrics=[accuracy], on_row=f)')
def rows(tmp):
    from fastai.metrics import accuracy
    from inception_repro import fit, preset
    found = []
    fit(preset('demo', 'inception_resnet_v1', **TINY), tmp, progress=False, device='cpu', metrics=[accuracy],
        on_row=found.append)
    return check(len(found) == 1 and 'accuracy' in found[0], f'{len(found[0])} values')


@feature('fastai', 'another width in vision_learner', "vision_learner(dls, configure('inception_v4', width=1/4))")
def width():
    from fastai.vision.all import vision_learner
    from torch import nn
    from inception_repro.architecture.networks import configure
    o = vision_learner(learn().dls, configure('inception_v4', width=1 / 16), pretrained=False,
                       loss_func=nn.CrossEntropyLoss())
    n = sum(p.numel() for p in o.model.parameters())
    return check(n < 2e6, f'{n:,} parameters')


@feature('fastai', "torch's schedulers take the optimizer", 'CosineAnnealingLR(RMSPropTF(params), 9)')
def schedulers():
    from torch import nn, optim
    from inception_repro.training.optim import RMSPropTF
    opt = RMSPropTF(nn.Linear(2, 2).parameters(), lr=.1)
    s = optim.lr_scheduler.CosineAnnealingLR(opt, 9)
    opt.step(), s.step()
    lr = opt.param_groups[0]['lr']
    return check(isinstance(opt, optim.Optimizer) and lr < .1, f'rate {lr:.4f} after a step')
