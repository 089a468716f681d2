__version__ = "0.1.0"

_names = {  # what users need, by the module that has it
    'architecture.graph': 'conv maxpool avgpool seq concat residual shape',
    'architecture.stems': 'stem_v4 stem_r1 stem_v3 stem_r2_released',
    'architecture.blocks': 'inception_a inception_b inception_c resnet_a_r1 resnet_b_r1 resnet_c_r1 '
                           'resnet_a_r2 resnet_b_r2 resnet_c_r2',
    'architecture.reductions': 'reduction_a reduction_b_v4 reduction_b_r1 reduction_b_r2 table_1',
    'architecture.networks': 'inception_v3 inception_v4 inception_resnet_v1 inception_resnet_v2 '
                             'inception_resnet_v2_b10_20_10 '
                             'inception_v4_released inception_resnet_v2_released inception_resnet_v1_facenet '
                             'Architecture create_model list_models network',
    'architecture.cost': 'params macs activations convolutions',
    'architecture.variants': 'rewrite',
    'architecture.draw': 'draw',
    'architecture.build': 'build',
    'architecture.weights': 'load_weights',
    'architecture.hub': 'from_pretrained',
    'architecture.timm_models': 'register_timm',
    'architecture.timm_keys': 'timm_state_dict',
    'rewrites.fast': 'fast frozen',
    'data.load': 'load',
    'training.recipe': 'Recipe preset replace',
    'training.fit': 'fit',
    'training.records': 'read_run read_runs',
    'evaluation.evaluate': 'evaluate',
    'results.curves': 'plot_errors plot_runs draw_figures',
    'results.speedup': 'speedup',
    'results.summary': 'summary',
    'results.reproduce': 'reproduce'}
_shown = {  # for values that show or save themselves
    'architecture.display': 'display_bundle', 'architecture.draw': 'picture_bytes', 'architecture.hub': 'HubModel'}
__all__ = [name for names in _names.values() for name in names.split()]
_homes = {name: module for part in (_names, _shown) for module, names in part.items() for name in names.split()}


def __getattr__(name):
    "Import a name when it is first used, so that `import inception_repro` alone imports nothing else"
    if name not in _homes: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib import import_module
    from .support.docs import with_parameters
    return with_parameters(getattr(import_module(f'{__name__}.{_homes[name]}'), name))


def __dir__(): return sorted({*globals(), *_homes})
