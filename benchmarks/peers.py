"""The peers: what each needs, prepared as its own users would prepare it, with the same weights as ours.

A peer that is not installed raises ImportError when its turn comes to prepare, and the table says so.
"""
import copy
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import torch

from inception_repro.bench import answer, compile_for_answers, learn
from inception_repro.fold import seasoned
from inception_repro.models import create_model
from inception_repro.weights import convert

PEERS = 'timm', 'torchvision', 'pytorchcv', 'onnxruntime', 'openvino', 'fastai'
LAST = dict(memory_format=torch.channels_last)
TIMM = {'inception_v3': 'inception_v3', 'inception_v4.released': 'inception_v4',
        'inception_resnet_v2.released': 'inception_resnet_v2'}
CV = {'inception_v4.released': 'inceptionv4', 'inception_resnet_v2.released': 'inceptionresnetv2'}


def versions():
    "Of the peers that are installed"
    found = {}
    for name in PEERS:
        with suppress(PackageNotFoundError): found[name] = version(name)
    return found


def timm_net(name, seed=0):
    "timm's network, its batch normalisations filled"
    import timm
    torch.manual_seed(seed)
    return seasoned(timm.create_model(TIMM[name]), seed)


def same_as(peer, name):
    "Our network with a peer's weights; Inception-v3 counts the padding in its averages as the peers do"
    net = create_model(name, **(dict(padded=True) if name == 'inception_v3' else {})).eval()
    missing, unexpected = net.load_state_dict(convert(peer.state_dict(), net), strict=False)
    if missing or unexpected: raise ValueError(f'weights of {name} do not fit: {(missing + unexpected)[:3]}')
    return net


def torchvision_net(name, peer):
    "torchvision's Inception-v3 with timm's weights, whose names it shares"
    if name != 'inception_v3': raise ValueError('only Inception-v3 is in torchvision')
    from torchvision.models import inception_v3
    net = inception_v3(weights=None, init_weights=False, transform_input=False, aux_logits=False)
    net.load_state_dict(peer.state_dict())
    return net.eval()


def cv_net(name, peer):
    "pytorchcv's network with timm's weights, which come in the same order"
    if name not in CV: raise ValueError('not in pytorchcv')
    from pytorchcv.model_provider import get_model
    net = get_model(CV[name])
    net.load_state_dict(dict(zip(net.state_dict(), peer.state_dict().values(), strict=True)))
    return net.eval()


def onnx_file(net, x, folder):
    "The network as an ONNX file for images of this size"
    path = folder / 'net.onnx'
    if not path.exists(): torch.onnx.export(net, (x,), path, dynamo=True, verbose=False)
    return path


def onnxruntime(net, x, folder):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = ort.InferenceSession(onnx_file(net, x, folder), options, providers=['CPUExecutionProvider'])
    feed = {session.get_inputs()[0].name: x.numpy()}
    return lambda: torch.from_numpy(session.run(None, feed)[0])


def openvino(net, x, precision):
    import openvino as ov
    model = ov.convert_model(net, example_input=x, input=[tuple(x.shape)])
    config = dict(INFERENCE_PRECISION_HINT=precision, PERFORMANCE_HINT='LATENCY',
                  INFERENCE_NUM_THREADS=torch.get_num_threads())
    compiled = ov.Core().compile_model(model, 'CPU', config)
    return lambda: torch.from_numpy(compiled([x.numpy()])[0])


def answering(name, peer, x, folder, bf16, compiled):
    "Contenders that answer; timm's network as its users find it comes first"
    last = x.contiguous(**LAST)
    channels_last = lambda net: copy.deepcopy(net).to(**LAST)
    ways = {'timm': lambda: answer(peer, x), 'timm, channels last': lambda: answer(channels_last(peer), last)}
    if compiled: ways['timm, compiled'] = lambda: answer(compile_for_answers(channels_last(peer)), last)
    ways |= {'torchvision': lambda: answer(torchvision_net(name, peer).to(x.device), x),
             'pytorchcv': lambda: answer(cv_net(name, peer).to(x.device), x)}
    if x.device.type == 'cpu':
        ways |= {'ONNX Runtime': lambda: onnxruntime(peer, x, folder), 'OpenVINO': lambda: openvino(peer, x, 'f32')}
    if bf16:
        ways['timm, channels last, bf16 autocast'] = lambda: answer(channels_last(peer), last, 'bf16')
        if x.device.type == 'cpu': ways['OpenVINO bf16'] = lambda: openvino(peer, x, 'bf16')
        if compiled:
            half = lambda: compile_for_answers(channels_last(peer).bfloat16())
            ways['timm bf16, compiled'] = lambda: answer(half(), last.bfloat16())
    return ways


def timm_step(net, x, y, bf16=False, per_tensor=False):
    "A training step with timm's optimizer and average"
    from timm.optim import RMSpropTF
    from timm.utils import ModelEmaV2, ModelEmaV3
    decay = [p for p in net.parameters() if p.ndim > 1]
    rest = [p for p in net.parameters() if p.ndim <= 1]
    groups = [dict(params=decay, weight_decay=4e-5), dict(params=rest, weight_decay=0.)]
    opt = RMSpropTF(groups, lr=.045, alpha=.9, eps=1., momentum=.9)
    ema = (ModelEmaV2 if per_tensor else ModelEmaV3)(net, decay=.9999)
    return learn(net, opt, ema.update, x, y, bf16, clip=2.)


def training(name, x, y, bf16, compiled):
    "Contenders that train timm's network"
    import timm
    new = lambda: timm.create_model(TIMM[name]).to(x.device)
    last = x.contiguous(**LAST)
    channels_last = lambda: new().to(**LAST)
    ways = {'timm': lambda: timm_step(new(), x, y), 'timm, channels last': lambda: timm_step(channels_last(), last, y)}
    if compiled: ways['timm, channels last, compiled'] = lambda: timm_step(torch.compile(channels_last()), last, y)
    if bf16:
        ways['timm, channels last, bf16'] = lambda: timm_step(channels_last(), last, y, True)
        if compiled:
            half = lambda: timm_step(torch.compile(channels_last()), last, y, True)
            ways['timm, channels last, bf16, compiled'] = half
    return ways


def validating(net, batches):
    "timm's way through a validation set: top-1 and top-5 after every batch"
    from timm.utils import AverageMeter, accuracy
    def step():
        top1, top5 = AverageMeter(), AverageMeter()
        with torch.inference_mode():
            for x, y in batches:
                out = net(x)
                a, b = accuracy(out, y, topk=(1, 5))
                top1.update(a.item(), len(x))
                top5.update(b.item(), len(x))
        return top1.avg
    return step


def image_folder(folder, px, bs, workers):
    "torchvision's loader: decode, random crop, flip"
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms as T
    tfms = T.Compose([T.RandomResizedCrop(px), T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize([.5] * 3, [.5] * 3)])
    dl = DataLoader(datasets.ImageFolder(folder, tfms), bs, shuffle=True, drop_last=True, num_workers=workers)
    return partial(exhaust, dl)


def fastai_loader(folder, px, bs, workers):
    "fastai's loader with its RandomResizedCrop"
    from fastai.vision.all import ImageDataLoaders, Normalize, RandomResizedCrop
    dls = ImageDataLoaders.from_folder(
        folder.parent, train=folder.name, valid='val', item_tfms=RandomResizedCrop(px), bs=bs, val_bs=bs,
        batch_tfms=Normalize.from_stats([.5] * 3, [.5] * 3), num_workers=workers, device=torch.device('cpu'))
    return partial(exhaust, dls.train)


def exhaust(dl):
    "One epoch"
    n = 0
    for x, _ in dl: n += len(x)
    return n
