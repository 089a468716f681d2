"""Saving, loading and uploading networks: the Hugging Face hub with a stand-in for the upload, and torch.hub"""
from pathlib import Path
from runpy import run_path

import pytest
import torch

from inception_repro import create_model, from_pretrained, inception_a, inception_v4, list_models, rewrite
from inception_repro._testing import four_runs

root = Path(__file__).parents[1]
TINY = dict(num_classes=20, width=1/16)


@pytest.fixture(scope='module')
def x(): return torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    "A stand-in for the hub: uploads are kept in a folder, downloads read it"
    import huggingface_hub
    from huggingface_hub import HfApi, hub_mixin
    from types import SimpleNamespace
    def upload(self, *, repo_id, folder_path, **kwargs):
        Path(folder_path).rename(tmp_path / repo_id.replace('/', '--'))
        return f'https://huggingface.co/{repo_id}/commit/1'
    def download(repo_id, filename, **kwargs): return str(tmp_path / repo_id.replace('/', '--') / filename)
    monkeypatch.setattr(HfApi, 'create_repo', lambda self, repo_id, **kwargs: SimpleNamespace(repo_id=repo_id))
    monkeypatch.setattr(HfApi, 'upload_folder', upload)
    for module in (huggingface_hub, hub_mixin): monkeypatch.setattr(module, 'hf_hub_download', download)
    return tmp_path


def test_upload_and_download(hub, x):
    net = create_model('inception_resnet_v1', **TINY).eval()
    record = next(r for r in four_runs() if r.meta['model'] == 'inception_resnet_v1')
    assert net.push_to_hub('some-one/small', record=record) == 'https://huggingface.co/some-one/small/commit/1'
    for back in (from_pretrained('some-one/small'), type(net).from_pretrained('some-one/small'),
                 create_model('inception_resnet_v1', **TINY, pretrained='some-one/small')):
        assert torch.equal(back.eval()(x), net(x))
    card = (hub / 'some-one--small/README.md').read_text(encoding='utf-8')
    assert "from_pretrained('some-one/small')" in card and 'top-1 accuracy' in card


def test_a_network_of_ones_own(x, tmp_path):
    own = rewrite(inception_v4, lambda n: n.__class__(n.branches[:3]) if n == inception_a else n)
    net = create_model(own, **TINY, drop_rate=.5).eval()
    net.save_pretrained(tmp_path)
    back = from_pretrained(tmp_path).eval()
    assert torch.equal(back(x), net(x)) and back.network == net.network


def test_changes_after_saving(x, tmp_path):
    "A folder that is written again has the new network and the new card"
    net = create_model('inception_v4', **TINY).eval()
    net.save_pretrained(tmp_path)
    net.reset_classifier(0, '')
    net.save_pretrained(tmp_path)
    back = from_pretrained(tmp_path).eval()
    assert torch.equal(back(x), net(x)) and back(x).ndim == 4
    assert '\n0 classes' in (tmp_path / 'README.md').read_text(encoding='utf-8')
    with pytest.warns(UserWarning, match='keeps its initial values'):
        assert from_pretrained(tmp_path, num_classes=3, global_pool='avg').eval()(x).shape == (2, 3)


def test_a_rewritten_network_is_refused(tmp_path):
    from inception_repro import fast, timm_state_dict
    net = fast(create_model('inception_v4', **TINY).eval())
    with pytest.raises(ValueError, match='this inception_v4 was rewritten'): net.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())
    with torch.device('meta'): released = create_model('inception_v4.released')
    released.trunk.stem[0] = torch.nn.Identity()
    with pytest.raises(ValueError, match='this inception_v4.released was rewritten'): timm_state_dict(released)


def test_a_repository_that_cannot_be_reached(monkeypatch):
    import huggingface_hub
    def fail(*args, **kwargs): raise OSError('no network')
    for name in 'get_hf_file_metadata', 'hf_hub_download': # the request before the download fails, or the download
        with monkeypatch.context() as m:
            m.setattr(huggingface_hub, 'get_hf_file_metadata', lambda *args, **kwargs: None)
            m.setattr(huggingface_hub, name, fail)
            with pytest.raises(OSError, match=r'config.json of no-one/nothing cannot be downloaded .*no network'):
                from_pretrained('no-one/nothing')


@pytest.mark.skipif(not (root / 'hubconf.py').exists(), reason='needs a checkout')
def test_torch_hub(x):
    found = {k: f for k, f in run_path(str(root / 'hubconf.py')).items() if callable(f) and not k.startswith('_')}
    assert found.keys() == {n.replace('.', '_') for n in list_models()}
    assert 'create_model' in found['inception_v3'].__doc__
    net = torch.hub.load(str(root), 'inception_v4_released', source='local', **TINY)
    assert net.eval()(x).shape == (2, 20) and net.network.name == 'inception_v4.released'
