"""The optimizer against written-out arithmetic, timm and itself, over many settings.

Not in a notebook: it is a table of cases.
"""
import copy
import io
import math

import pytest
import torch
from fastai.optimizer import Optimizer
from torch import nn

from inception_repro.training.average import RunningAverage
from inception_repro.training.flat import lay_flat
from inception_repro.training.optim import RMSPropTF
from inception_repro.training.rmsprop import rmsprop_tf_step
from inception_repro.training.schedule import clip_norm, stepped_decay

SHAPES = [(4, 3, 3, 3), (4,), (4,), (6, 4), (6,), ()]


def params(seed=0, dtype=torch.float32, device='cpu'):
    g = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(s, generator=g, dtype=torch.float64).to(device, dtype)) for s in SHAPES]


def grads(ps, i, scale=1.):
    g = torch.Generator().manual_seed(1000 + i)
    for p in ps: p.grad = (scale * torch.randn(p.shape, generator=g, dtype=torch.float64)).to(p.device, p.dtype)


def run(opt, ps, rates, scale=1., start=0):
    for i, lr in enumerate(rates, start):
        grads(ps, i, scale)
        if isinstance(opt, Optimizer): opt.set_hypers(lr=lr)
        else: opt.param_groups[0]['lr'] = lr
        opt.step()


RATES = [.045] * 7 + [.02] * 7 + [.3] * 6
CASES = [(.9, .9, 1.), (.9, .9, 1e-3), (0., .9, 1.), (.9, 0., 1.), (.5, .99, .1)]


def formula(ps, rates, mom, rho, eps, wd, scale):
    "The three assignments, in double precision"
    m, b = [torch.ones_like(p) for p in ps], [torch.zeros_like(p) for p in ps]
    with torch.no_grad():
        for i, lr in enumerate(rates):
            grads(ps, i, scale)
            for p, m_, b_ in zip(ps, m, b):
                g = p.grad + (wd * p if p.ndim > 1 else 0)
                m_.copy_(rho * m_ + (1 - rho) * g**2)
                b_.copy_(mom * b_ + lr * g / (m_ + eps)**.5)
                p -= b_


@pytest.mark.parametrize('scale', [.01, 1., 30.])
@pytest.mark.parametrize('wd', [0., 4e-5, .1])
@pytest.mark.parametrize('mom,rho,eps', CASES)
def test_formula(mom, rho, eps, wd, scale):
    want, got = params(dtype=torch.float64), params(dtype=torch.float64)
    formula(want, RATES, mom, rho, eps, wd, scale)
    run(RMSPropTF(got, mom=mom, sqr_mom=rho, eps=eps, wd=wd), got, RATES, scale)
    for a, b in zip(got, want): torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('scale', [.01, 1., 30.])
@pytest.mark.parametrize('mom,rho,eps', [c for c in CASES if c[1]])
def test_timm(mom, rho, eps, scale):
    Timm = pytest.importorskip('timm.optim').RMSpropTF
    ours, timms = params(), params()
    run(RMSPropTF(ours, mom=mom, sqr_mom=rho, eps=eps, wd=0.), ours, RATES, scale)
    run(Timm(timms, lr=.1, alpha=rho, eps=eps, momentum=mom), timms, RATES, scale)
    for a, b in zip(ours, timms): torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_timm_weight_decay():
    "timm decays every parameter; on weights alone the two are the same"
    Timm = pytest.importorskip('timm.optim').RMSpropTF
    ours, timms = ([p for p in params() if p.ndim > 1] for _ in range(2))
    run(RMSPropTF(ours, wd=.1), ours, RATES)
    run(Timm(timms, lr=.1, alpha=.9, eps=1., momentum=.9, weight_decay=.1), timms, RATES)
    for a, b in zip(ours, timms): torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('wd', [0., .1])
@pytest.mark.parametrize('groups', [1, 2])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_lists_are_the_loop(dtype, groups, wd):
    def make(cls, *args):
        ps = params(dtype=dtype)
        return ps, cls([ps[:3], ps[3:]] if groups == 2 else ps, *args, lr=.1, mom=.9, sqr_mom=.9, eps=1., wd=wd)
    (a, loop), (b, lists) = make(Optimizer, [rmsprop_tf_step]), make(RMSPropTF)
    for opt, ps in (loop, a), (lists, b):
        for p in ps[:2]: opt.state[p]['do_wd'] = False
        for i in range(10):
            grads(ps, i)
            ps[i % len(ps)].grad = None  # a parameter that the loss does not reach
            opt.set_hypers(lr=[.1, .01] if groups == 2 else .05)
            opt.step()
    assert all(torch.equal(x, y) for x, y in zip(a, b))


@pytest.mark.parametrize('format', [torch.contiguous_format, torch.channels_last])
def test_memory_format(format):
    "Gradients may come in another layout than the parameter"
    ps, qs = params()[:1], params()[:1]
    qs[0].data = qs[0].data.to(memory_format=format)
    for i in range(5):
        for ts, f in (ps, torch.contiguous_format), (qs, torch.channels_last):
            grads(ts, i)
            ts[0].grad = ts[0].grad.to(memory_format=f)
        if not i: opts = RMSPropTF(ps), RMSPropTF(qs)
        for o in opts: o.step()
    torch.testing.assert_close(ps[0], qs[0].contiguous(), rtol=1e-6, atol=1e-7)


def test_frozen():
    ps = params()
    opt = RMSPropTF([ps[:3], ps[3:]])
    before = [p.detach().clone() for p in ps]
    grads(ps, 0)
    opt.freeze_to(1)
    opt.step()
    assert [torch.equal(p, b) for p, b in zip(ps, before)] == [True] * 3 + [False] * 3
    opt.unfreeze()
    opt.step()
    assert not any(torch.equal(p, b) for p, b in zip(ps, before))


def test_nothing_to_do():
    opt = RMSPropTF(params())
    opt.step()
    assert opt.state_dict()['state'] == [{}] * len(SHAPES)


@pytest.mark.parametrize('name,value',
                         [(n, v) for n in ('lr', 'mom', 'sqr_mom', 'eps', 'wd') for v in (-.1, math.nan, math.inf)]
                         + [('mom', 1.), ('sqr_mom', 1.), ('eps', 0.)])
def test_bad_hyperparameters(name, value):
    with pytest.raises(ValueError, match=f'^{name} is .*; use a number'): RMSPropTF(params(), **{name: value})
    opt = RMSPropTF(params())
    with pytest.raises(ValueError, match=f'^{name} is'): opt.set_hyper(name, value)
    assert opt.hypers[0][name] == RMSPropTF(params()).hypers[0][name]


def through_a_file(o):
    f = io.BytesIO()
    torch.save(o, f)
    return torch.load(io.BytesIO(f.getvalue()), weights_only=True)


@pytest.mark.parametrize('at', [0, 1, 13])
def test_resume_is_exact(at):
    "Parameters, optimizer and average saved and loaded at any step: every byte the same at the end"
    def fresh():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2))
        return net, RMSPropTF(net.parameters()), RunningAverage(net)
    def go(net, opt, avg, steps):
        for i in steps:
            x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(i))
            opt.set_hypers(lr=stepped_decay(i / 4))
            net(x).square().mean().backward()
            clip_norm(net.parameters(), .1)
            opt.step()
            opt.zero_grad()
            avg.update_parameters(net)
    straight = fresh()
    go(*straight, range(20))
    first, second = fresh(), fresh()
    go(*first, range(at))
    for a, b in zip(first, second): b.load_state_dict(through_a_file(a.state_dict()))
    go(*first, range(at, 20))  # the source goes on by itself: nothing is shared
    go(*second, range(at, 20))
    flat = lambda o: [v for v in o.state_dict().values()] if isinstance(o, nn.Module) else [
        v for s in o.state_dict()['state'] for v in s.values()]
    for other in first, second:
        for a, b in zip(straight, other):
            assert flat(a) and all(torch.equal(x, y) for x, y in zip(flat(a), flat(b), strict=True))
        assert straight[1].state_dict()['hypers'] == other[1].state_dict()['hypers']


def test_state_that_does_not_fit():
    ps = params()
    opt = RMSPropTF(ps)
    run(opt, ps, [.1])
    sd = opt.state_dict()
    for other in RMSPropTF(ps[1:]), RMSPropTF([ps[:2], ps[2:]]), RMSPropTF(ps[::-1]):
        with pytest.raises(ValueError, match='does not fit'): other.load_state_dict(sd)


@pytest.mark.parametrize('every,rate,compress', [(2, .94, 1), (2, .94, 25), (1, .5, 3), (2, .94, 1 / 3)])
def test_staircase(every, rate, compress):
    width = every / compress
    for stair in range(60):
        for inside in 0, .01, .5, .99:
            got = stepped_decay((stair + inside) * width, .045, every, rate, compress)
            assert got == .045 * rate**stair


@pytest.mark.parametrize('n,batch', [(9600, 32), (1000, 30), (1281167, 640)])
def test_schedule_ignores_the_batch(n, batch):
    "The rate follows images seen, at any batch size"
    for seen in range(0, 12 * n, batch * 7): assert stepped_decay(seen / n) == .045 * .94**(seen // (2 * n))


@pytest.mark.parametrize('max_norm', [.1, 2., 1e6])
def test_clip(max_norm):
    ps = params()
    grads(ps, 0)
    ps[1].grad = None
    before = [None if p.grad is None else p.grad.clone() for p in ps]
    norm = math.sqrt(sum(g.double().square().sum().item() for g in before if g is not None))
    assert clip_norm(ps, max_norm).item() == pytest.approx(norm, rel=1e-5)
    for p, g in zip(ps, before):
        if g is not None: torch.testing.assert_close(p.grad, g * min(1, max_norm / norm), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('decay', [0., .5, .9999])
def test_average(decay):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    avg = RunningAverage(net, decay)
    want = {k: v.double() for k, v in net.state_dict().items()}
    for t in range(30):
        net(torch.randn(8, 3))
        with torch.no_grad():
            for p in net.parameters(): p += torch.randn_like(p)
        avg.update_parameters(net)
        d = min(decay, (1 + t) / (10 + t))
        want = {k: d * want[k] + (1 - d) * v if v.is_floating_point() else v for k, v in net.state_dict().items()}
    for k, v in avg.module.state_dict().items():
        torch.testing.assert_close(v.double(), want[k].double(), rtol=1e-4, atol=1e-5)
    assert avg.module[1].num_batches_tracked == 30


def test_average_is_torch_s_own():
    "With a constant decay the update is that of get_ema_multi_avg_fn"
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
    net = nn.Linear(3, 4)
    ours, theirs = RunningAverage(net, .5), AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(.5))
    ours.n_averaged += 100  # past the warm-up
    theirs.n_averaged += 100  # past the first copy
    for _ in range(5):
        with torch.no_grad():
            for p in net.parameters(): p += torch.randn_like(p)
        for a in ours, theirs: a.update_parameters(net)
    assert all(torch.equal(a, b) for a, b in zip(ours.module.parameters(), theirs.module.parameters()))


def test_average_leaves_the_network_alone():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    before = copy.deepcopy(net.state_dict())
    avg = RunningAverage(net)
    avg.update_parameters(net)
    assert net.training and all(p.requires_grad for p in net.parameters())
    assert not any(p.requires_grad for p in avg.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_gpu_never_waits():
    "Step, clipping and average start work on the GPU and never wait for it; the result is the CPU's"
    nets = [nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(d) for d in ('cpu', 'cuda')]
    nets[1].load_state_dict(nets[0].state_dict())
    opts, avgs = [RMSPropTF(n.parameters()) for n in nets], [RunningAverage(n) for n in nets]
    for i in range(3):
        for net, opt, avg in zip(nets, opts, avgs):
            grads(list(net.parameters()), i)
            if i: torch.cuda.set_sync_debug_mode('error')
            clip_norm(net.parameters())
            opt.step()
            avg.update_parameters(net)
            torch.cuda.set_sync_debug_mode('default')
    for a, b in zip(avgs[0].module.state_dict().values(), avgs[1].module.state_dict().values()):
        torch.testing.assert_close(a, b.cpu())
    opts[0].load_state_dict(opts[1].state_dict())
    assert all(v.device.type == 'cpu' for s in opts[0].state_dict()['state'] for v in s.values())


@pytest.mark.parametrize('chunk', [1, 40, 120])
@pytest.mark.parametrize('clip', [None, .5])
def test_chunks(chunk, clip, monkeypatch):
    "The steps are the same to the last bit for every division into chunks, in flat memory or not"
    from inception_repro.training import optim
    want = params()
    run(RMSPropTF(want, wd=.01, clip=clip), want, RATES)
    monkeypatch.setattr(optim, 'CHUNK', chunk)
    apart, flat = params(), params()
    net = nn.Module()
    for i, p in enumerate(flat): net.register_parameter(f'p{i}', p)
    lay_flat(net)
    for ps in apart, flat:
        opt = RMSPropTF(ps, wd=.01, clip=clip)
        run(opt, ps, RATES)
        assert len(opt.chunks[0][0]) > 1
        for a, b in zip(want, ps):
            if clip is None: assert torch.equal(a, b)
            else: torch.testing.assert_close(a, b)  # the norm is summed in another order


def test_gradients_come_and_go():
    "A parameter without a gradient for a while keeps its state, as a loop over parameters would"
    loop, ours = params(), params()
    a, b = Optimizer(loop, [rmsprop_tf_step], lr=.1, mom=.9, sqr_mom=.9, eps=1., wd=.01), RMSPropTF(ours, lr=.1, wd=.01)
    for i in range(6):
        for ps in loop, ours:
            grads(ps, i)
            if i in (2, 3): ps[0].grad = ps[4].grad = None
        for o in a, b: o.step()
    for p, q in zip(loop, ours): assert torch.equal(p, q)


def test_kinds_of_numbers():
    "Parameters of several types in one group"
    ps = [nn.Parameter(torch.ones(3, 3, dtype=t)) for t in (torch.float32, torch.float64, torch.float32)]
    for p in ps: p.grad = torch.ones_like(p)
    RMSPropTF(ps, lr=.1, wd=0.).step()
    for p in ps: torch.testing.assert_close(p, torch.full_like(p, 1 - .1 / math.sqrt(2)))


@pytest.mark.parametrize('which', [0, 1, -1])
def test_moved_parameters_are_noticed(which):
    "A layer whose parameters were given other memory goes on training"
    torch.manual_seed(0)
    net = lay_flat(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)))
    opt = RMSPropTF(net.parameters())
    def go():
        net(torch.ones(2, 3, 5, 5) + torch.arange(5.)).square().sum().backward()
        opt.step()
        opt.zero_grad()
    go()
    net[which].double().float()
    before = [p.detach().clone() for p in net.parameters()]
    go()
    assert not any(torch.equal(a, b) for a, b in zip(before[-2:], list(net.parameters())[-2:]))
