"""Anchors of headings, as Jupyter makes them. A module of its own, because Sphinx imports it by name"""


def slug(title): return title.strip().replace('`', '').replace(' ', '-')
