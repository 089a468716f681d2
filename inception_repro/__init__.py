__version__ = "0.1.0"

_homes = dict(params='cost', macs='cost', activations='cost', convolutions='cost', shape='graph',
              create_model='models', list_models='models', load_weights='weights')


def __getattr__(name):
    "`from inception_repro import create_model`, and importing the package alone imports nothing else"
    if name not in _homes: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib import import_module
    return getattr(import_module(f'{__name__}.{_homes[name]}'), name)


def __dir__(): return [*globals(), *_homes]
