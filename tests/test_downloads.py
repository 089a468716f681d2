"""`--cache` and its variable are one thing, and a download that fails says why and leaves nothing behind.

Not in a notebook: a server answers, and the command is called.
"""
import os
import re
import socket
import tarfile
import threading
import time
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest
import torch
from command_fixtures import call, tiny
from PIL import Image
from typer.main import get_command

from inception_repro import cli
from inception_repro.architecture.networks import create_model
from inception_repro.architecture.weights import hub_file, load_weights
from inception_repro.data import load as module
from inception_repro.data.load import dataset_root, load
from inception_repro.support.downloads import check_reachable
from inception_repro.support.messages import shell_text

APP = get_command(cli.app)
NAME, FOLDER = 'imagenette_160', 'imagenette2-160'


def images(root):
    for side in 'train', 'val':
        for i, c in enumerate('abc'):
            (root/side/c).mkdir(parents=True)
            for k in range(12): Image.new('RGB', (20, 20), (90 * i, 20 * k, 0)).save(root/side/c/f'{k}.png')
    return root


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for k in 'XDG_CACHE_HOME', 'FASTAI_HOME', 'HF_HOME', 'TORCH_HOME': monkeypatch.delenv(k, raising=False)
    monkeypatch.setenv('HOME', str(tmp_path/'home'))
    monkeypatch.chdir(tmp_path)
    return tmp_path/'home'


@pytest.fixture
def server(tmp_path, monkeypatch):
    "A server with a small Imagenette"
    images(tmp_path/'source'/FOLDER)
    (tmp_path/'site').mkdir()
    with tarfile.open(tmp_path/'site'/f'{FOLDER}.tgz', 'w:gz') as f: f.add(tmp_path/'source'/FOLDER, FOLDER)
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path/'site')
    monkeypatch.setattr(SimpleHTTPRequestHandler, 'log_message', lambda *a: None)
    with HTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at(monkeypatch, f'http://127.0.0.1:{server.server_port}/{FOLDER}.tgz')
        yield server
        server.shutdown()


def at(monkeypatch, url):
    from fastai.data.external import URLs
    monkeypatch.setattr(URLs, NAME.upper(), url)


def left(folder): return sorted(str(p.relative_to(folder)) for p in folder.rglob('*')) if folder.exists() else None


def test_one_option_in_all_commands():
    of = {name: p for name, c in APP.commands.items() for p in c.params if '--cache' in p.opts}
    assert of.keys() == {'train', 'reproduce', 'rates', 'shortcut', 'evaluate', 'contribute'}
    assert len({(p.help, p.envvar, p.show_default) for p in of.values()}) == 1
    assert of['train'].envvar == 'XDG_CACHE_HOME' and 'decoded images' in of['train'].help


@pytest.mark.parametrize('way', ['option', 'variable'])
def test_decoded_images_are_in_the_cache(way, tmp_path, home):
    root, cache = images(tmp_path/'pets'), tmp_path/'fast disk'
    more, env = (['--cache', 'fast disk'], {}) if way == 'option' else ([], dict(XDG_CACHE_HOME=cache))
    args = 'train', 'inception_resnet_v1', '--data', root, '--bs', 8, *tiny[6:], *more
    code, _, err = call(*args, **env)
    assert code == 0, err
    assert [p.name for p in (cache/'inception_repro').glob('pets-*/train.pixels')] == ['train.pixels']
    assert left(home/'.cache/inception_repro') is None and 'XDG_CACHE_HOME' not in os.environ


@pytest.mark.parametrize('args', [
    ['train', 'inception_v4'], ['reproduce'], ['rates'], ['shortcut'], ['evaluate', 'inception_v4.released'],
    ['contribute', '.']])
def test_unwritable_cache(args, tmp_path):
    (tmp_path/'file').touch()
    code, out, err = call(*args, '--cache', 'file')
    words = ('file: the cache cannot be written: Not a directory; choose another folder with --cache or '
             'the environment variable XDG_CACHE_HOME')
    assert (code, out, err) == (1, '', f'inception-repro: {tmp_path}/{words}\n')
    assert os.listdir(tmp_path) == ['file']


def test_unwritable_variable(tmp_path, monkeypatch):
    "The variable is often set for other programs; it matters if images are decoded"
    (tmp_path/'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'file'))
    assert call('evaluate', 'nothing')[2].startswith("inception-repro: no file or folder 'nothing'")
    with pytest.raises(OSError, match='the cache cannot be written: Not a directory; .* with cache= or the env'):
        load(images(tmp_path/'pets'), 8, progress=False)
    with pytest.raises(OSError, match='the cache cannot be written: .* variable FASTAI_HOME: .*file/fastai'):
        dataset_root(NAME)


@pytest.mark.parametrize('cache', ['none', 'empty', 'used'])
def test_images_without_a_network(cache, home, monkeypatch):
    at(monkeypatch, f'http://127.0.0.1:9/{FOLDER}.tgz')
    if cache != 'none': home.mkdir()
    if cache == 'used': (home/'.fastai/data').mkdir(parents=True)
    before = left(home)
    code, out, err = call('train', 'inception_v4', '--data', NAME, *tiny[6:])
    assert (code, out) == (1, '')
    assert re.fullmatch(f'inception-repro: {NAME} cannot be downloaded from http://127.0.0.1:9/{FOLDER}.tgz: .*refused'
                        '; without a network, unpack that file yourself and give its folder with --data',
                        err.splitlines()[-1])
    assert left(home) == before and not Path('runs').exists()


def test_images_are_downloaded_once(server, home, monkeypatch, tmp_path):
    root = dataset_root(NAME, tmp_path/'cache')
    assert root == tmp_path/'cache/fastai/data'/FOLDER and len(list(root.rglob('*.png'))) == 72
    assert os.listdir(root.parent) == [FOLDER] and not home.exists()
    at(monkeypatch, f'http://127.0.0.1:9/{FOLDER}.tgz')
    assert dataset_root(NAME, tmp_path/'cache') == root
    (home/'.fastai/data').mkdir(parents=True) # downloaded by fastai
    root.rename(home/'.fastai/data'/FOLDER)
    assert dataset_root(NAME, tmp_path/'cache') == home/'.fastai/data'/FOLDER


def test_images_that_are_moved_only_in_part(server, home, monkeypatch):
    "A kill while the dataset is unpacked leaves none, which a later run would take for all of it"
    import fastai.data.external as external
    untar = external.untar_data

    def dies(*args, **kwargs):
        (untar(*args, **kwargs)/'val/a/0.png').unlink()
        raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(external, 'untar_data', dies)
        with pytest.raises(KeyboardInterrupt): dataset_root(NAME)
    assert left(home/'.fastai/data') is None
    assert len(list(dataset_root(NAME).rglob('*.png'))) == 72


def test_disk_that_is_full(server, home, monkeypatch):
    def fails(*args): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(module, '_untar', fails)
    with pytest.raises(ValueError, match=f'{home}/.fastai: No space left on device'): dataset_root(NAME)
    assert left(home) is None


def test_server_that_does_not_answer():
    with socket.create_server(('127.0.0.1', 0)) as s:
        began = time.monotonic()
        with pytest.raises(TimeoutError): check_reachable(f'http://127.0.0.1:{s.getsockname()[1]}/x', .1)
        assert time.monotonic() - began < 4


def test_weights_without_a_network(tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub import constants
    net = create_model('inception_v4', 5, width=1/16)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path/'cache/torch/hub'))
    with pytest.raises(OSError, match='a.pth cannot be downloaded: .*refused; without a network, download it elsew'):
        load_weights(net, 'http://127.0.0.1:9/a.pth')
    hub = tmp_path/'cache/huggingface/hub'
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(hub))

    def slow(*args, **kwargs): raise TimeoutError('no answer within 5 seconds')
    monkeypatch.setattr(huggingface_hub, 'get_hf_file_metadata', slow)
    with pytest.raises(OSError, match='from the Hugging Face hub: no answer within 5 seconds; download https://'):
        hub_file('a/b', 'model.safetensors')
    assert not (tmp_path/'cache').exists()
    (tmp_path/'cache').touch()
    with pytest.raises(OSError) as e: hub_file('a/b', 'model.safetensors')
    assert shell_text(e.value) == (f'{hub}: the cache cannot be written: Not a directory; choose another folder with '
                                   '--cache or the environment variable HF_HOME')
    with pytest.raises(OSError, match='the cache cannot be written: .*environment variable TORCH_HOME'):
        load_weights(net, 'http://127.0.0.1:9/a.pth')
