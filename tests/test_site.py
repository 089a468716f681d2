"""The site's own code: the gallery in which one clicks from a network to its blocks, and the check of links.

Building the whole site takes minutes and needs Sphinx, so it has a workflow of its own.
"""
import re
from pathlib import Path
from runpy import run_path

import pytest

site = Path(__file__).parents[1] / 'site'
if not site.exists(): pytest.skip('needs a checkout', allow_module_level=True)


@pytest.fixture(scope='module')
def gallery(): return run_path(str(site / 'gallery.py'))


@pytest.fixture(scope='module')
def page(gallery, tmp_path_factory): return gallery['gallery'](tmp_path_factory.mktemp('gallery'))


def test_every_figure_has_a_section_and_a_definition(gallery):
    found = gallery['sections']()
    assert sorted(found) == sorted(gallery['TITLES']) == [*range(1, 21)]
    assert all(re.search(r'\b(seq|concat|residual)\(', code) for _, code in found.values())


def test_every_box_of_a_network_leads_to_a_figure(page, gallery):
    ids = set(re.findall(r'<figure id="([^"]+)">', page))
    for name, (_, boxes) in gallery['NETWORKS'].items():
        part = re.search(rf'<figure id="fig-{name}">.*?</figure>', page, flags=re.S)[0]
        links = re.findall(r'<a href="#([^"]+)"><title>', part)
        assert len(links) == 6 and set(links) == {f'fig-{n}' for n in boxes.values()} <= ids
        rects = set(re.findall(r'<rect x="(.*?)" y="(.*?)" width="(.*?)" height="(.*?)" fill-op', part))
        assert len(rects) == 6 # the whole box can be clicked
        assert all(float(w) > 80 and 15 < float(h) < 40 for *_, w, h in rects)


def test_pictures_of_the_gallery_say_what_they_show(page):
    texts = re.findall(r'<img [^>]*alt="([^"]*)"', page)
    assert len(texts) == len(set(texts)) >= 20 and min(map(len, texts)) > 40
    assert 'ReLU' in next(o for o in texts if o.startswith('Figure 10,'))


def test_broken_links_are_found(tmp_path):
    crawl = run_path(str(site / 'crawl.py'))
    (tmp_path / 'a.html').write_text('<h1 id="top"></h1><a href="b.html#end"></a><a href="#top"></a><img src="c.png">')
    (tmp_path / 'b.html').write_text('<a href="a.html#top"></a><a href="https://example.org/nothing"></a>')
    assert crawl['broken_links'](tmp_path) == ['a.html: b.html#end (no such anchor)', 'a.html: c.png']
    assert crawl['without_alt'](tmp_path) == {'a.html': 1}
