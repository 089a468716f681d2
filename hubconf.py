"""The networks for `torch.hub.load('inception-repro/inception-repro', 'inception_v4', num_classes=10)`.

A dot in a name becomes an underscore: `inception_v4_released`. The arguments are those of `create_model`.
"""
from inception_repro import create_model as _create_model, list_models as _list_models

dependencies = ['fastcore', 'huggingface_hub', 'numpy', 'safetensors', 'torch']


def _entrypoint(name):
    def f(pretrained=False, **kwargs): return _create_model(name, pretrained=pretrained, **kwargs)
    f.__name__ = name.replace('.', '_')
    f.__doc__ = f'{name}; `pretrained` and the other arguments are those of `inception_repro.create_model`'
    return f


globals().update({f.__name__: f for f in map(_entrypoint, _list_models())})
