"""File names that are no valid text, and terminals that do not know all characters. Not in a notebook: it needs odd
folders, and processes with other encodings."""
import io
import os
import subprocess
import sys
import warnings

import pytest
import torch

from inception_repro.data.load import load
from inception_repro.data.pixels import report
from inception_repro.evaluation.failures import plot_failures, show_images
from inception_repro.evaluation.predict import predict
from inception_repro.evaluation.validation import valid_images
from inception_repro.support.text import file_text, lenient_output, printable
from inception_repro.training.recipe import preset

from image_fixtures import image
from slow_cases import slow

ODD = os.fsdecode(b'caf\xe9') # a name from a system with Latin-1


@pytest.fixture
def root(tmp_path):
    "A folder, a class and images of odd names, and an unreadable image"
    root = tmp_path/f'pics {ODD}'
    try: root.mkdir()
    except (OSError, UnicodeError): pytest.skip('the file system has no such names')
    for c in 'a', ODD:
        for i in range(3): image(root/f'train/{c}/{ODD}{i}.png', (80, 80))
        image(root/f'val/{c}/{ODD}9.png', (80, 80))
    (root/f'val/a/z{ODD}.png').write_bytes(b'no image')
    return root


def test_every_reader_takes_names_that_are_no_text(root, tmp_path):
    with pytest.warns(UserWarning, match='of 9 images in .*pics caf\ufffd are bad: val/a/zcaf\ufffd.png: not an image'):
        data = load(root, 8, cache=tmp_path/ODD, progress=False)
    assert data.classes == ('a', ODD) and len(data.train) == 6 and data.name == 'pics caf\ufffd'
    with pytest.warns(UserWarning, match='of 9 images'):
        assert load(root, 8, cache=tmp_path/ODD, progress=False).hash == data.hash # from the cache
    files = load(root, max_bytes=0, progress=False)
    assert files.hash == load(root, max_bytes=0, progress=False).hash
    dls = files.dataloaders(bs=3, size=8, device='cpu', workers=2)
    with pytest.warns(UserWarning, match='zcaf\ufffd.png'): assert sum(len(y) for _, y in dls.valid) == 2
    assert sum(len(y) for _, y in dls.train) == 6


@pytest.mark.filterwarnings('ignore:.*are bad')
def test_predictions_and_pictures_of_such_names(root, tmp_path):
    images = valid_images(root)
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2))
    pred = predict(net, images, tmp_path/ODD/'a', size=32, name=ODD, progress=False)
    assert pred.images == images.names and [*pred.reasons] == [1]
    plot_failures(pred, to=tmp_path/'a.svg')
    show_images(images, range(3), pred, to=tmp_path/'b.svg')
    assert 'caf\ufffd' in (tmp_path/'a.svg').read_text(encoding='utf-8')


def test_pictures_take_dollars(root, tmp_path):
    "matplotlib would read what is between them as a formula"
    (root/f'val/{ODD}').rename(root/r'val/$5 \frac$')
    (root/f'train/{ODD}').rename(root/r'train/$5 \frac$')
    images = valid_images(root)
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        pred = predict(net, images, tmp_path/'a', size=32, progress=False)
    plot_failures(pred, to=tmp_path/'a.png')
    show_images(images, range(3), pred, to=tmp_path/'b.png')


def test_label_files_have_the_bytes_of_the_names(tmp_path):
    root = tmp_path/'tiny'
    for c in 'n1', 'n2': image(root/f'train/{c}/1.png')
    for n in 'a', 'b': image(root/f'val/{ODD}{n}.png')
    (root/'val/val_annotations.txt').write_bytes(b'caf\xe9a.png\tn2\ncaf\xe9b.png\tn1\n')
    images = valid_images(root)
    assert images.classes == ('n1', 'n2') and images.names == (f'val/{ODD}b.png', f'val/{ODD}a.png')
    assert file_text(root/'val/val_annotations.txt').startswith(ODD)


@pytest.mark.parametrize('name', [ODD, 'a\nb', 'a\x1b[31mb', 'a\x00b'])
def test_a_dataset_has_a_printable_name(name):
    "It names folders, and is in every record"
    with pytest.raises(ValueError, match='dataset is .*; use a plain name'): preset(dataset=name)


def test_a_name_in_a_message_is_one_line():
    with pytest.warns(UserWarning) as said: report([('a\n\x1b[2J\r.png', 'no\nimage')], 'f\n', 1)
    assert str(said[0].message).isprintable() and printable('a b é 猫') == 'a b é 猫'


# Terminals

@pytest.mark.parametrize('encoding', ['latin-1', 'ascii', 'cp1252', 'cp437', 'utf-8'])
def test_every_character_is_printed_on_every_terminal(encoding):
    out = io.TextIOWrapper(raw := io.BytesIO(), encoding=encoding)
    lenient_output(out)
    text = f'10 – 20 … 3×3 → ≤ ‘a’ “b” ≈ 猫 {ODD} é'
    print(text, file=out, flush=True)
    found = raw.getvalue().decode(encoding)
    assert found.startswith('10 ') and ' 20 ' in found and '?' in found and found.endswith(os.linesep)
    if encoding == 'ascii': assert found == "10 - 20 ... 3x3 -> <= 'a' \"b\" ~ ? caf? ?" + os.linesep


@pytest.mark.parametrize('encoding', ['ascii', *slow('latin-1')])
@pytest.mark.parametrize('command', [['models'], ['models', ODD], *slow(['draw', 'figure_4'], ['train', '--help'])])
def test_commands_end_well_on_every_terminal(command, encoding, tmp_path):
    run = lambda e: subprocess.run([sys.executable, '-c', 'from inception_repro.cli import main; main()', *command],
                                   capture_output=True, cwd=tmp_path, timeout=120,
                                   env={**os.environ, 'PYTHONIOENCODING': e, 'COLUMNS': '100'})
    a, b = run(encoding), run('utf-8')
    assert a.returncode == b.returncode and b'Traceback' not in a.stderr + b.stderr
    assert a.stdout.count(b'\n') == b.stdout.count(b'\n') and a.stderr.count(b'\n') == b.stderr.count(b'\n')
