"Small folders of images of noise."
import os
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image

from inception_repro.data.load import load


def image(path, size=(9, 6), mode='RGB', **kwargs):
    "An image of noise, the same for the same name"
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(int.from_bytes(sha256(os.fsencode(path.name)).digest()[:4]))
    im = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)
    im.save(path, **kwargs)
    return path


@pytest.fixture
def root(tmp_path):
    "Two classes, three training images and one validation image of each"
    for c in 'ab':
        for i in range(3): image(tmp_path / f'pics/train/{c}/{c}{i}.png')
        image(tmp_path / f'pics/val/{c}/{c}9.png')
    return tmp_path / 'pics'


def quiet(root, **kwargs): return load(root, **(dict(size=8, cache=root.parent, progress=False) | kwargs))
