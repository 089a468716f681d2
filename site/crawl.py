"""Find links and pictures of a built site that lead nowhere."""
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    "What a page links to, and the places in it that can be linked to"
    def __init__(self, path):
        super().__init__()
        self.links, self.ids, self.lacks_alt = [], set(), []
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids |= {found[k] for k in ('id', 'name') if found.get(k)}
        self.links += [found[k] for k in ('href', 'src', 'data') if found.get(k)]
        no_text = found.get('alt') in (None, '', found.get('src')) # Sphinx puts the address where there is no text
        if tag == 'img' and no_text: self.lacks_alt.append(found.get('src', ''))


@cache
def page(path): return Page(path)


def broken_links(site): # Folder of HTML pages
    "One line for each local link, picture or anchor that does not exist"
    lost = []
    for path in sorted(p for p in Path(site).rglob('*.html') if '_static' not in p.parts): # templates of the theme
        for link in page(path).links:
            url = urlsplit(link)
            if url.scheme or url.netloc or link.startswith('#') and not url.fragment: continue
            to = (path.parent / unquote(url.path)).resolve() if url.path else path
            if not to.exists(): lost.append(f'{path.relative_to(site)}: {link}')
            elif url.fragment and to.suffix == '.html' and unquote(url.fragment) not in page(to).ids:
                lost.append(f'{path.relative_to(site)}: {link} (no such anchor)')
    return lost


def without_alt(site): # Folder of HTML pages
    "Number of pictures without alt text, by page"
    pages = {p.relative_to(site).as_posix(): len(page(p).lacks_alt) for p in Path(site).rglob('*.html')
             if '_static' not in p.parts}
    return {k: n for k, n in sorted(pages.items()) if n}
