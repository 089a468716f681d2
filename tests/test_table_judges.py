"Verdicts on Tables 2 to 5, on results whose answers are known. Not in a notebook: many small records."
import json

import pytest

from inception_repro.evaluation.tables import tables
from inception_repro.results.judgement import CONFIRMED, CONTRADICTED, NOT_OBSERVED, PARTLY, UNTESTED, Records
from inception_repro.results.plotting import large
from inception_repro.results.table_judges import crops, ensemble, printed

PURE, RESIDUAL = large


def result(models, crops, top1, top5, classes=1000, images=50_000, split='all', data='imagenet'):
    e = {f'{k}{s}': v + d for k, v in (('top1', top1), ('top5', top5))
         for s, d in (('', 0), ('_low', -.2), ('_high', .2))}
    return dict(name='+'.join(models), models=models, crops=crops, split=split, images=images, data=data,
                classes=classes, **e)


def evaluation(at, *results):
    (at / 'evaluation').mkdir(parents=True)
    (at / 'evaluation/imagenet.json').write_text(json.dumps(dict(results=results)))
    return Records(at)


@pytest.mark.parametrize('off, verdict', [(0, CONFIRMED), (2, CONTRADICTED)])
def test_a_table_of_imagenet(tmp_path, off, verdict):
    own = [result(list(r.models), '144', r.top1 + off, r.top5 + off) for r in tables[4].rows if r.models]
    records = evaluation(tmp_path, *own)
    assert printed(4)(records).verdict == verdict and printed(3)(records).verdict == UNTESTED
    assert printed(4)(evaluation(tmp_path / 'one', own[0])).verdict == (PARTLY if off == 0 else CONTRADICTED)


@pytest.mark.parametrize('many, verdict', [(18, CONFIRMED), (19.9, PARTLY), (21, CONTRADICTED)])
def test_crops(tmp_path, many, verdict):
    assert crops('1', '12')(evaluation(tmp_path, result(['inception_v4'], '1', 20, 5),
                                       result(['inception_v4'], '12', many, 5))).verdict == verdict


@pytest.mark.parametrize('error, own, other', [(16.5, CONFIRMED, PARTLY), (18, CONTRADICTED, NOT_OBSERVED)])
def test_ensemble(tmp_path, error, own, other):
    singles = [result([m], '144', 17.7, 3.8) for m in large]
    mixes = dict(own=[PURE, *[RESIDUAL] * 3], other=[PURE, RESIDUAL])
    for (name, mix), verdict in zip(mixes.items(), (own, other)):
        assert ensemble(evaluation(tmp_path / name, *singles, result(mix, '144', error, 3.1))).verdict == verdict
