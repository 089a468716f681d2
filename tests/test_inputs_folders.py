"""Image folders as people have them: files that are no images, label files from Windows, numbers as classes, names that
are no valid text. In files of their own, since each is a small folder that says little to a reader."""
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inception_repro.data.folders import list_images, sort_classes
from inception_repro.data.labels import read_class_names, read_labels
from inception_repro.data.load import load
from inception_repro.evaluation.validation import blacklisted, valid_images


def put(root, *names, value=100):
    for name in names:
        (root/name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 6), (value, 0, 0)).save(root/name, 'png')


@pytest.fixture
def root(tmp_path):
    "Two classes, two training images and one validation image of each"
    put(tmp_path/'pets', *(f'train/{c}/{c}{i}.png' for c in ('cat', 'dog') for i in range(2)),
        *(f'val/{c}/{c}9.png' for c in ('cat', 'dog')))
    return tmp_path/'pets'


def quiet(root, **kwargs): return load(root, **(dict(size=8, cache=root.parent, progress=False) | kwargs))


def names_of_readers(root):
    "What training from memory, training from files and evaluation take for validation images"
    memory, files = quiet(root), quiet(root, max_bytes=0)
    assert len(memory.train) == len(files.train) and len(memory.valid) == len(files.valid)
    valid = [str(p.relative_to(root)) for p in files.valid.x]
    assert valid == list(valid_images(root).names) and len(valid) == len(memory.valid)
    return valid


# Files that are no images

@pytest.mark.parametrize('name', ['Thumbs.db', 'THUMBS.DB', 'desktop.ini', '.DS_Store', '._cat9.png', 'Icon\r'])
def test_files_of_the_system_are_ignored_everywhere(root, name):
    clean, stamp = quiet(root, max_bytes=0).hash, valid_images(root).stamp
    for c in 'cat', 'dog':
        for s in 'train', 'val': (root/s/c/name).write_bytes(b'\x00 no image')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert names_of_readers(root) == ['val/cat/cat9.png', 'val/dog/dog9.png']
    assert quiet(root, max_bytes=0).hash == clean and valid_images(root).stamp == stamp


@pytest.mark.parametrize('name', ['__MACOSX', '@eaDir', '$RECYCLE.BIN', '.ipynb_checkpoints', 'lost+found',
                                  'System Volume Information'])
def test_folders_of_the_system_are_no_classes(root, name):
    for s in 'train', 'val': put(root, f'{s}/{name}/cat9.png')
    assert list_images(root).classes == valid_images(root).classes == ('cat', 'dog')


def test_documents_are_left_out_and_named_everywhere(root):
    for name in 'notes.txt', 'boxes.XML': (root/'val/cat'/name).write_text('no image')
    said = r'2 files in .*pets left out, no image by name: val/cat/boxes.XML, val/cat/notes.txt'
    with pytest.warns(UserWarning, match=said): assert len(names_of_readers(root)) == 2
    with pytest.warns(UserWarning, match=said): list_images(root)
    with pytest.warns(UserWarning, match=said): valid_images(root)


def test_an_image_needs_no_ending(root):
    put(root, 'val/cat/8f3a', 'val/cat/photo.large')
    assert names_of_readers(root) == ['val/cat/8f3a', 'val/cat/cat9.png', 'val/cat/photo.large', 'val/dog/dog9.png']


# Label files

def flat(root, *names):
    put(root, *(f'val/{n}' for n in names), *(f'train/{c}/1.png' for c in ('n1', 'n2')))
    return root


ROWS = 'a.png\tn2\t0\t0\t8\t8', 'b.png\tn1\t0\t0\t8\t8'


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
@pytest.mark.parametrize('sep', '\t;,')
@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
def test_annotations_of_any_program(tmp_path, encoding, sep, end):
    flat(tmp_path, 'a.png', 'b.png')
    text = end.join([*ROWS, '', '']).replace('\t', sep)
    (tmp_path/'val/val_annotations.txt').write_bytes(text.encode(encoding))
    assert list_images(tmp_path).valid == (('val/b.png', 0), ('val/a.png', 1))
    assert valid_images(tmp_path).labels == (0, 1)


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
@pytest.mark.parametrize('sep', ',;\t')
def test_kaggle_s_file_of_any_program(tmp_path, encoding, sep):
    flat(tmp_path, 'a.JPEG', 'b.JPEG')
    text = f'ImageId{sep}PredictionString\r\na{sep}n2 1 2 3 4\r\nb{sep}"n1 1 2 3 4"\r\n'
    (tmp_path/'LOC_val_solution.csv').write_bytes(text.encode(encoding))
    assert read_labels(tmp_path, 'val') == {'a.JPEG': 'n2', 'b.JPEG': 'n1'}


@pytest.mark.parametrize('file, text, line', [
    ('LOC_val_solution.csv', 'ImageId,PredictionString\na,n2 1 2 3 4\nb,\n', 3),
    ('LOC_val_solution.csv', 'ImageId,PredictionString\na,n2 1 2 3 4\n,n1 1 2 3 4\n', 3),
    ('LOC_val_solution.csv', 'ImageId,PredictionString\na\n', 2),
    ('LOC_val_solution.csv', 'image,label\na,n2\n', 1),
    ('val/val_annotations.txt', 'a.png\tn2\nb.png\t\n', 2),
    ('val/val_annotations.txt', 'a.png\tn2\n\tn1\n', 2),
    ('val/val_annotations.txt', 'a.png n2\n', 1)])
def test_a_wrong_line_is_named(tmp_path, file, text, line):
    flat(tmp_path, 'a.png')
    (tmp_path/file).write_text(text)
    with pytest.raises(ValueError, match=rf'{Path(file).name}, line {line}: .* is not .*; restore the file'):
        read_labels(tmp_path, 'val')


@pytest.mark.parametrize('text, message', [
    ('\ufeff1\r\n2;\r\n', None), ('1\n3\n', 'truth.txt, line 2: .3. is not the number of a class'),
    ('1\ntwo\n', "line 2: 'two' is not the number")])
def test_the_development_kit_s_file(tmp_path, text, message):
    from scipy.io import savemat
    flat(tmp_path, 'ILSVRC2012_val_00000001.JPEG', 'ILSVRC2012_val_00000002.JPEG')
    synsets = np.zeros((2, 1), dtype=[(o, 'O') for o in ('ILSVRC2012_ID', 'WNID', 'num_children')])
    for i, (n, wnid) in enumerate([(1, 'n2'), (2, 'n1')]): synsets[i, 0] = (float(n), wnid, 0.)
    savemat(tmp_path/'meta.mat', dict(synsets=synsets))
    (tmp_path/'ILSVRC2012_validation_ground_truth.txt').write_text(text, encoding='utf-8')
    if not message: assert valid_images(tmp_path).labels == (0, 1)
    else:
        with pytest.raises(ValueError, match=message): valid_images(tmp_path)
    (tmp_path/'meta.mat').write_bytes(b'no MATLAB file')
    with pytest.raises(ValueError, match='meta.mat cannot be read: .*; restore the development kit'):
        valid_images(tmp_path)


@pytest.mark.parametrize('text, expected', [
    ('tabby cat\ngolden retriever\ngolden eagle\n', ('tabby cat', 'golden retriever', 'golden eagle')),
    ('\ufefftabby cat\r\n\r\ngolden retriever\r\n', ('tabby cat', 'golden retriever')),
    ('golden retriever;207\ntabby cat;281\n', ('golden retriever', 'tabby cat'))])
def test_names_of_classes_may_have_spaces(tmp_path, text, expected):
    put(tmp_path, 'val/tabby cat/1.png', 'val/golden retriever/1.png')
    (tmp_path/'classes.txt').write_text(text, encoding='utf-8')
    images = valid_images(tmp_path, tmp_path/'classes.txt')
    assert images.classes == expected
    assert [images.classes[y] for y in images.labels] == [n.split('/')[1] for n in images.names]


def test_synset_files_count_their_first_words(tmp_path):
    (tmp_path/'s.txt').write_text('n01440764 tench, Tinca tinca\nn01443537 goldfish\nn01443537x golden retriever\n')
    assert read_class_names(tmp_path/'s.txt', ['n01443537']) == ['n01440764', 'n01443537', 'n01443537x']


def test_a_blacklist_in_utf_16(tmp_path):
    (tmp_path/'b.txt').write_text('1\r\n2\r\n', encoding='utf-16')
    assert blacklisted(['ILSVRC2012_val_00000002.JPEG'], tmp_path/'b.txt').tolist() == [True]


# The order of classes

def test_numbers_are_sorted_by_value(tmp_path):
    put(tmp_path, *(f'{s}/{c}/{c}.png' for s in ('train', 'val') for c in range(12)))
    by_value = tuple(map(str, range(12)))
    assert list_images(tmp_path).classes == valid_images(tmp_path).classes == quiet(tmp_path).classes == by_value
    assert valid_images(tmp_path/'val').labels == tuple(range(12))
    assert list_images(tmp_path, classes=3).classes == ('0', '1', '2')
    assert valid_images(tmp_path, 3).names == ('val/0/0.png', 'val/1/1.png', 'val/2/2.png')


def test_labels_that_are_numbers_are_sorted_by_value(tmp_path):
    put(tmp_path, 'val/a.png', 'val/b.png')
    (tmp_path/'val/val_annotations.txt').write_text('a.png\t10\nb.png\t9\n')
    assert valid_images(tmp_path).classes == ('9', '10')


@pytest.mark.parametrize('names', [
    ['n01443537', 'n01440764', 'n12267677'], ['n2', 'n10'], ['10', '2', 'cat'], ['007', '010', '002'],
    ['class10', 'class2'], ['-1', '2', '10'], ['²', '10', '9']])
def test_all_other_classes_are_sorted_as_text(names): assert sort_classes(names) == sorted(names)


def test_the_hash_of_synsets_is_the_text_s(root, monkeypatch):
    "The order of names that are no numbers has not changed, so records of such data keep their hash"
    data, files = quiet(root), quiet(root, max_bytes=0)
    monkeypatch.setattr('inception_repro.data.folders.sort_classes', sorted)
    assert quiet(root).hash == data.hash and quiet(root, max_bytes=0).hash == files.hash
