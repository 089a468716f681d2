"""The peers: what each needs, prepared as its own users would prepare it, with the same weights as ours.

A peer that is not installed raises ImportError when its turn comes to prepare, and the table says so.
"""
import copy
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import torch

from inception_repro.architecture.build import build
from inception_repro.architecture.networks import create_model
from inception_repro.architecture.weights import convert
from inception_repro.benchmarking.bench import answer, by_hand as learn_by_hand, compile_for_inference, learn
from inception_repro.rewrites.fold import randomize_batchnorm

PEERS = 'timm', 'torchvision', 'pytorchcv', 'onnxruntime', 'openvino', 'fastai'
LAST = dict(memory_format=torch.channels_last)
TIMM = {'inception_v3': 'inception_v3', 'inception_v4.released': 'inception_v4',
        'inception_resnet_v2.released': 'inception_resnet_v2'}
NEAREST = {'inception_v4': 'inception_v4.released', 'inception_resnet_v2': 'inception_resnet_v2.released',
           # with a peer of about the same shape, not the same weights
           'inception_resnet_v2.b10_20_10': 'inception_resnet_v2.released'}
MODELS = *TIMM, 'inception_resnet_v1', *NEAREST
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
    return randomize_batchnorm(timm.create_model(TIMM[name]), seed)


def same_as(peer, name):
    "Our network with a peer's weights; Inception-v3 counts the padding in its averages as the peers do"
    net = create_model(name, **(dict(padded=True) if name == 'inception_v3' else {})).eval()
    missing, unexpected = net.load_state_dict(convert(peer.state_dict(), net), strict=False)
    if missing or unexpected: raise ValueError(f'weights of {name} do not fit: {(missing + unexpected)[:3]}')
    return net


def torchvision_net(peer):
    "torchvision's Inception-v3 with timm's weights, whose names it shares"
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


def ways_to_answer(name, new, x, bf16, compiled):
    "Contenders that ask a peer's network, which `new` makes on its device; the first is how its users find it"
    # each has its own, or none, so that memory compares
    last = lambda dtype=torch.float32: x.to(dtype).contiguous(**LAST)
    channels_last = lambda: new().to(**LAST)
    ways = {name: lambda: answer(new(), x), f'{name}, channels last': lambda: answer(channels_last(), last())}
    if compiled: ways[f'{name}, compiled'] = lambda: answer(compile_for_inference(channels_last()), last())
    if bf16:
        half = lambda: channels_last().bfloat16()
        ways[f'{name}, channels last, bf16 autocast'] = lambda: answer(channels_last(), last(), 'bf16')
        ways[f'{name} bf16'] = lambda: answer(half(), last(torch.bfloat16))
        if compiled:
            ways[f'{name} bf16, compiled'] = lambda: answer(compile_for_inference(half()), last(torch.bfloat16))
    return ways


def answering(name, peer, x, folder, bf16, compiled):
    "Contenders that answer; timm's network as its users find it comes first"
    ways = ways_to_answer('timm', lambda: copy.deepcopy(peer).to(x.device), x, bf16, compiled)
    if name == 'inception_v3':
        ways |= ways_to_answer('torchvision', lambda: torchvision_net(peer).to(x.device), x, bf16, compiled)
    ways['pytorchcv'] = lambda: answer(cv_net(name, peer).to(x.device), x)
    if x.device.type == 'cpu':
        ways |= {'ONNX Runtime': lambda: onnxruntime(peer, x, folder), 'OpenVINO': lambda: openvino(peer, x, 'f32')}
        if bf16: ways['OpenVINO bf16'] = lambda: openvino(peer, x, 'bf16')
    return ways


BESIDE = ', channels last', ' bf16', ' bf16, compiled', ', channels last, bf16', ', channels last, bf16, compiled'


def beside(name, ways):
    "Those of a peer's contenders to show beside another network; what they answer is no measure of that"
    def quiet(prepare):
        step = prepare()
        return lambda: (step(), None)[1]
    return {f'beside: {k}': partial(quiet, v) for k, v in ways.items() if k.removeprefix(name) in BESIDE}


def nearest_answering(name, x, bf16, compiled):
    "The answers of timm's network that is nearest to one with no peer of its own, if there is one"
    if name not in NEAREST: return {}
    label = f'timm {TIMM[NEAREST[name]]}'
    return beside(label, ways_to_answer(label, lambda: timm_net(NEAREST[name]).to(x.device), x, bf16, compiled))


def nearest_training(name, x, y, bf16, compiled):
    "The training steps of that network"
    if name not in NEAREST: return {}
    label = f'timm {TIMM[NEAREST[name]]}'
    return beside(label, ways_to_train(label, timm_new(NEAREST[name], x.device), timm_step, x, y, bf16, compiled))


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


def torch_step(net, x, y, bf16=False):
    "A training step with torch's optimizer and average"
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
    ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(.9999), use_buffers=True)
    opt = torch.optim.RMSprop(net.parameters(), lr=.045, alpha=.9, eps=1., momentum=.9, weight_decay=4e-5)
    return learn(net, opt, ema.update_parameters, x, y, bf16, clip=2.)


def ways_to_train(name, new, step, x, y, bf16, compiled):
    "Contenders that train a peer's network, which `new` makes on its device"
    last = lambda: x.contiguous(**LAST)
    channels_last = lambda: new().to(**LAST)
    ways = {name: lambda: step(new(), x, y), f'{name}, channels last': lambda: step(channels_last(), last(), y)}
    if compiled: ways[f'{name}, channels last, compiled'] = lambda: step(torch.compile(channels_last()), last(), y)
    if bf16:
        ways[f'{name}, channels last, bf16'] = lambda: step(channels_last(), last(), y, True)
        if compiled:
            ways[f'{name}, channels last, bf16, compiled'] = lambda: step(
                torch.compile(channels_last()), last(), y, True)
    return ways


def timm_new(name, device):
    def new():
        import timm
        return timm.create_model(TIMM[name]).to(device)
    return new


def torchvision_new(device):
    def new():
        from torchvision.models import inception_v3
        return inception_v3(weights=None, init_weights=False, transform_input=False, aux_logits=False).to(device)
    return new


def training(name, x, y, bf16, compiled):
    "Contenders that train a peer's network; timm's as its users find it comes first"
    ways = ways_to_train('timm', timm_new(name, x.device), timm_step, x, y, bf16, compiled)
    if name != 'inception_v3': return ways
    return ways | ways_to_train('torchvision', torchvision_new(x.device), torch_step, x, y, bf16, compiled)


def by_hand(value, x, y, bf16, compiled):
    "A network of ours as it is commonly trained, in the ways that `inception_repro.benchmarking.bench` leaves out"
    half = lambda wrap: learn_by_hand(wrap(build(value).to(x.device, **LAST)), x.contiguous(**LAST), y, True)
    ways = {'by hand, channels last, bf16': lambda: half(lambda net: net)} if bf16 else {}
    if bf16 and compiled: ways['by hand, channels last, bf16, compiled'] = lambda: half(torch.compile)
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


def image_folder(folder, px, bs, workers, colours=False):
    "torchvision's loader: decode, random crop, flip, and the changes of colour that ours makes if asked for"
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms as T
    jitter = [T.ColorJitter(brightness=32 / 255, contrast=.5, saturation=.5)] if colours else []
    tfms = T.Compose([T.RandomResizedCrop(px), T.RandomHorizontalFlip(), *jitter, T.ToTensor(),
                      T.Normalize([.5] * 3, [.5] * 3)])
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
