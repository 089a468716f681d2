# Written by nbs/_build.py from `_names` in __init__.py
from .architecture.graph import conv as conv, maxpool as maxpool, avgpool as avgpool, seq as seq, concat as concat, residual as residual, shape as shape
from .architecture.stems import stem_v4 as stem_v4, stem_r1 as stem_r1, stem_v3 as stem_v3, stem_r2_released as stem_r2_released
from .architecture.blocks import inception_a as inception_a, inception_b as inception_b, inception_c as inception_c, resnet_a_r1 as resnet_a_r1, resnet_b_r1 as resnet_b_r1, resnet_c_r1 as resnet_c_r1, resnet_a_r2 as resnet_a_r2, resnet_b_r2 as resnet_b_r2, resnet_c_r2 as resnet_c_r2
from .architecture.reductions import reduction_a as reduction_a, reduction_b_v4 as reduction_b_v4, reduction_b_r1 as reduction_b_r1, reduction_b_r2 as reduction_b_r2, table_1 as table_1
from .architecture.networks import inception_v3 as inception_v3, inception_v4 as inception_v4, inception_resnet_v1 as inception_resnet_v1, inception_resnet_v2 as inception_resnet_v2, inception_resnet_v2_b10_20_10 as inception_resnet_v2_b10_20_10, inception_v4_released as inception_v4_released, inception_resnet_v2_released as inception_resnet_v2_released, inception_resnet_v1_facenet as inception_resnet_v1_facenet, Architecture as Architecture, create_model as create_model, list_models as list_models, network as network
from .architecture.cost import params as params, macs as macs, activations as activations, convolutions as convolutions
from .architecture.variants import rewrite as rewrite
from .architecture.draw import draw as draw
from .architecture.build import build as build
from .architecture.weights import load_weights as load_weights
from .architecture.hub import from_pretrained as from_pretrained
from .architecture.timm_models import register_timm as register_timm
from .architecture.timm_keys import timm_state_dict as timm_state_dict
from .rewrites.fast import fast as fast, frozen as frozen
from .data.load import load as load
from .training.recipe import Recipe as Recipe, preset as preset, replace as replace
from .training.fit import fit as fit
from .training.records import read_run as read_run, read_runs as read_runs
from .evaluation.evaluate import evaluate as evaluate
from .results.curves import plot_errors as plot_errors, plot_runs as plot_runs, draw_figures as draw_figures
from .results.speedup import speedup as speedup
from .results.summary import summary as summary
from .results.reproduce import reproduce as reproduce
__version__: str
