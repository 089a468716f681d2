"The cache of decoded images: damage, changes of the source, interruptions. Not in a notebook: it spoils many files."
import json
import os

import pytest

from inception_repro.data import pixels

from image_fixtures import image, quiet, root


def flip(p): p.write_bytes(bytes([p.read_bytes()[0] ^ 1]) + p.read_bytes()[1:])
def edit(p, **kwargs): p.write_text(json.dumps(json.loads(p.read_text()) | kwargs))


@pytest.mark.parametrize('file, damage', [
    ('train.pixels', flip), ('valid.pixels', flip), ('train.pixels', lambda p: p.write_bytes(p.read_bytes()[:-1])),
    ('valid.pixels', lambda p: p.unlink()), ('valid.pixels', lambda p: p.write_bytes(b'')),
    ('manifest.json', lambda p: p.unlink()), ('manifest.json', lambda p: p.write_text('{"format": 1')),
    ('manifest.json', lambda p: p.write_text('[]')), ('manifest.json', lambda p: edit(p, train={})),
    ('manifest.json', lambda p: edit(p, format=0))])
def test_a_damaged_cache_is_made_anew(root, file, damage):
    good = quiet(root)
    folder = next(root.parent.rglob('manifest.json')).parent
    damage(folder / file)
    again = quiet(root)
    assert again.hash == good.hash
    assert sorted(os.listdir(folder)) == ['manifest.json', 'train.pixels', 'valid.pixels']
    time = (folder / 'manifest.json').stat().st_mtime_ns
    quiet(root)
    assert (folder / 'manifest.json').stat().st_mtime_ns == time  # and then kept


@pytest.mark.parametrize('change', [
    lambda r: image(r / 'train/a/new.png'), lambda r: (r / 'train/a/a0.png').unlink(),
    lambda r: (r / 'train/b/b1.png').rename(r / 'train/a/b1.png'), lambda r: image(r / 'val/a/a9.png', (5, 5)),
    lambda r: os.utime(r / 'val/a/a9.png', ns=(0, 0))])
def test_a_changed_source_is_decoded_again(root, change, monkeypatch):
    quiet(root)
    decoded = []
    monkeypatch.setattr(pixels, 'read', lambda *args, old=pixels.read, **kw: decoded.append(args) or old(*args, **kw))
    quiet(root)
    assert not decoded
    change(root)
    assert len(quiet(root).train) + 2 == len(decoded)


def test_an_interrupted_cache_leaves_nothing(root, monkeypatch):
    def stop(*args, **kwargs): raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(pixels, 'read', stop)
        with pytest.raises(KeyboardInterrupt): quiet(root)
    assert not [o for o in root.parent.joinpath('inception_repro').rglob('*') if o.is_file()]
    assert len(quiet(root).train) == 6


def test_sizes_and_selections_have_caches_of_their_own(root):
    hashes = {quiet(root).hash, quiet(root, size=9).hash, quiet(root, per_class=2).hash, quiet(root).hash}
    assert len(hashes) == 3 and len(list(root.parent.rglob('manifest.json'))) == 3


def test_progress_is_shown_to_a_terminal(root, capsys, monkeypatch):
    quiet(root, progress=True)
    assert capsys.readouterr() == ('', '')  # a log
    monkeypatch.setattr('sys.stderr.isatty', lambda: True)
    quiet(root, size=9, progress=True)
    out, err = capsys.readouterr()
    assert '100' in err and not out  # a command's result is on standard output
