__version__ = "0.1.0"

_homes = dict(params='architecture.cost', macs='architecture.cost', activations='architecture.cost',
              convolutions='architecture.cost', shape='architecture.graph', create_model='architecture.networks',
              list_models='architecture.networks', load_weights='architecture.weights')


def __getattr__(name):
    "`from inception_repro import create_model`, and importing the package alone imports nothing else"
    if name not in _homes: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib import import_module
    return getattr(import_module(f'{__name__}.{_homes[name]}'), name)


def __dir__(): return [*globals(), *_homes]
