"The time that `plan` predicts from a short timing. Not in a notebook: the timing is replaced."
import json

import pytest
import torch


def test_plan_tells_each_as_it_comes(tmp_path, monkeypatch, capsys):
    "On the preset's own batch; what was told stays, should the next one fail"
    from inception_repro import cli
    from inception_repro.training import learner
    seen = []
    def step(recipe, *rest):
        if seen: raise RuntimeError('out of memory')
        seen.append(recipe.bs)
        return dict(forward=2.)
    monkeypatch.setattr(learner, 'profile_step', step)
    with pytest.raises(RuntimeError):
        cli.plan('demo', 'cpu', models='inception_v3,inception_resnet_v2.b10_20_10', record=tmp_path/'a.json')
    out = capsys.readouterr().out
    assert seen == [32] and len(out.splitlines()) == 2 and out.splitlines()[1].split()[5:7] == ['32', '16']
    assert not (tmp_path/'a.json').exists()
    seen.clear()
    cli.plan('demo', 'cpu', models='inception_resnet_v1', record=tmp_path/'a.json')
    kept = json.loads((tmp_path/'a.json').read_text())
    assert [kept['preset'], kept['rows'][0]['model'], kept['rows'][0]['images_per_second']] == [
        'demo', 'inception_resnet_v1', 16]
    assert kept['environment']['torch'] == torch.__version__
    with pytest.raises(ValueError, match='steps is 0; use a whole number of at least 1'):
        cli.plan('demo', 'cpu', steps=0)
    with pytest.raises(ValueError, match="unknown model 'inception_v5'"): cli.plan('demo', 'cpu', models='inception_v5')


@pytest.mark.parametrize('device, how', [('cpu', ' in float32, not compiled,'), ('cuda', ' in bf16, compiled,')])
def test_plan_compiles_on_a_gpu_only(device, how, monkeypatch, capsys):
    import torch
    from inception_repro import cli
    from inception_repro.training import fit as train, learner
    asked = []
    monkeypatch.setattr(train, 'find_device', torch.device) # there need not be one
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (8, 0))
    monkeypatch.setattr(learner, 'profile_step', lambda r, *_: asked.append(r.compile) or dict(forward=1.))
    for preset in 'paper', 'tiny':
        cli.plan(preset, device, bs=2)
        assert how in capsys.readouterr().out
    assert asked == [device == 'cuda'] * 8


def test_plan_of_the_paper_on_a_cpu_does_not_compile(monkeypatch):
    import torch
    from inception_repro.results.plan import plan
    monkeypatch.delattr(torch.nn.Module, 'compile')
    row, = plan('paper', 'cpu', bs=2, steps=1, models=['inception_resnet_v1'], width=1/16, px=75, stored=75)
    assert row['images_per_second'] > 0


def test_a_plan_of_another_batch(tmp_path, capsys):
    "The recipe's batch is changed by --set and by --recipe; --bs is the batch that is timed"
    from inception_repro import cli
    small = ['px=75', 'stored=75', 'width=0.0625', 'scale=0', 'per_class=64', 'classes=4']
    (tmp_path/'a.toml').write_text('bs = 16')
    for how in dict(settings=[*small, 'bs=16']), dict(settings=small, recipe=tmp_path/'a.toml'):
        cli.plan('demo', 'cpu', models='inception_resnet_v1', steps=1, **how)
        assert '   16 ' in capsys.readouterr().out.splitlines()[1]


def test_devices_share_the_replicas():
    "Only the largest share counts; a recipe with too few replicas trains several networks at the same time"
    from inception_repro.results.plan import speed_up
    from inception_repro.training.recipe import preset
    assert [speed_up(preset('paper'), n) for n in (1, 8, 10, 20)] == [1, 20 / 3, 10, 20]
    assert speed_up(preset('demo'), 8) == 8


def test_the_exchange_and_the_decoding_of_a_plan(monkeypatch, capsys):
    "Both are measured elsewhere: here they are given"
    from inception_repro import cli
    from inception_repro.results import plan as module
    from inception_repro.training import learner
    monkeypatch.setattr(learner, 'profile_step', lambda r, *_: dict(forward=r.bs / 64)) # 64 images/s
    monkeypatch.setattr(module, 'decoded_per_second', lambda r: 10.)
    name = dict(models=['inception_resnet_v1'], device='cpu', processes=8)
    monkeypatch.setattr(module, 'measured_exchange', dict)
    alone, = module.plan('paper', **name)
    assert [alone[k] for k in ('exchange_seconds', 'cores', 'shared_cores')] == [0, 7, 43] # 64 and 426.7 images/s
    row = dict(step=.6, one_process=1., processes=2, gradient_bytes=alone['gradient_bytes'], device='two GPUs')
    monkeypatch.setattr(module, 'measured_exchange', lambda: row)
    shared, = module.plan('paper', **name)
    assert shared['exchange_seconds'] == pytest.approx(.175)
    assert (shared['shared_hours'] - alone['shared_hours']) * 3600 == pytest.approx(.175 * alone['steps'])
    cli.plan('paper', 'cpu', models='inception_resnet_v1')
    out = capsys.readouterr().out
    assert 'assumed to add 175 ms; this is an estimate from a few processes on two GPUs' in out
    assert 'one device needs 7 of them (--workers 7)' in out
    assert 'decoded_per_core' not in module.plan('demo', **name)[0]
