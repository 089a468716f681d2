"""Sphinx over the committed notebooks; their outputs are shown as they are. `build.py` prepares the sources."""
import ast
import json
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, os.path.dirname(__file__))

project, author = 'inception-repro', 'The inception-repro authors'
REPO = 'https://github.com/inception-repro/inception-repro'

extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.viewcode', 'sphinx_copybutton', 'sphinx-mathjax-offline']
exclude_patterns = ['_build', '.ipynb_checkpoints']
source_suffix = {'.ipynb': 'myst-nb', '.md': 'myst-nb'}
root_doc = 'index'

nb_execution_mode = 'off'
nb_render_markdown_format = 'myst' # the default, commonmark, has no tables
myst_enable_extensions = ['dollarmath', 'amsmath', 'html_image', 'colon_fence']
myst_heading_anchors = 3
myst_heading_slug_func = 'slugs.slug' # Jupyter's own anchors: The-runs, not the-runs
suppress_warnings = ['mystnb.unknown_mime_type'] # widgets, which a page cannot show, have a picture beside them
autodoc_typehints = 'none'
autodoc_member_order = 'bysource'
viewcode_follow_imported_members = False # a method that a class takes from another one has its source there
autodoc_inherit_docstrings = False # those of torch are written for another Sphinx

html_theme = 'sphinx_book_theme'
html_title = 'inception-repro'
html_static_path, html_css_files, html_favicon = ['_static'], ['own.css'], 'favicon.svg'
html_context = dict(default_mode='auto') # light or dark, as the reader's system
html_theme_options = dict(
    repository_url=REPO, repository_branch='main', path_to_docs='nbs', use_repository_button=True,
    use_source_button=True, use_issues_button=True, home_page_in_toc=True, show_toc_level=2, use_download_button=True,
    navbar_persistent=[],
    launch_buttons=dict(colab_url='https://colab.research.google.com', binderhub_url='https://mybinder.org',
                        notebook_interface='jupyterlab'))

DIRECTIVE = re.compile(r'^#\| *(\w+)(?::? *(.*))?\n?', re.M)
IMPORTS = re.compile(r'^(?:(?:from|import) .*|\s.*|\)|#.*|)$')
CHECKS = re.compile(r'(test_|assert |for .*: (test_|assert ))')
SHELL = re.compile(r'^```python(?=\n[!%])', re.M) # a cell of a notebook with commands of the shell


def fold(cell, word):
    "Hide the source of a cell behind a button"
    cell['metadata'].setdefault('tags', []).append('hide-input')
    cell['metadata']['mystnb'] = dict(code_prompt_show=word, code_prompt_hide=word)


def tidy_code(cell):
    "nbdev's directives become tags; False for a cell that readers do not need"
    source = ''.join(cell['source'])
    found = dict(DIRECTIVE.findall(source))
    source = cell['source'] = DIRECTIVE.sub('', source)
    if {'default_exp', 'hide'} & found.keys() or not source.strip(): return False
    tags = cell['metadata'].setdefault('tags', [])
    if found.get('echo') == 'false' or only_shows(source): tags.append('remove-input')
    elif all(map(IMPORTS.match, source.splitlines())): fold(cell, 'Imports')
    elif not cell['outputs'] and CHECKS.match(source): fold(cell, 'Check')
    if sum(len(''.join(o.get('text', ''))) for o in cell['outputs']) > 3000: tags.append('output_scroll')
    return True


def only_shows(source):
    "Whether a cell only shows a picture; the alt text in its source is that of the picture"
    try: body = ast.parse(source).body
    except SyntaxError: return False # a command of the shell
    return len(body) == 1 and re.match(r'(show|display)\(', source)


def resolve(text, folder, there):
    "Links to files that are no page of the site go to the repository; `there` says whether a path is a page or picture"
    def link(m):
        path = os.path.normpath(os.path.join('nbs', folder, m[2]))
        inside = path.startswith('nbs/') and there(path[4:]) or path.startswith('figures/') and m[0].startswith('![')
        return m[0] if inside else f'{m[1]}({REPO}/blob/main/{path}{m[3] or ""})'
    return re.sub(r'(!?\[(?:[^\[\]]|\[[^\]]*\])*\])\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]+)?\)', link, text)


def spoken(text):
    "The text of a value that shows itself as a drawing, such as 'Inception-A: 7 convolutions'; empty for other pictures"
    return '' if text.startswith('<') else text


def tidy(nb, docname, source_dir):
    "A notebook as the site shows it"
    there = lambda path: (source_dir / path).is_file()
    cells, folder = [], os.path.dirname(docname)
    for cell in nb['cells']:
        if cell['cell_type'] == 'code' and not tidy_code(cell): continue
        if cell['cell_type'] == 'markdown':
            cell['source'] = SHELL.sub('```ipython3', resolve(''.join(cell['source']), folder, there))
        for o in cell.get('outputs', ()):
            data = o.get('data', {})
            if 'text/markdown' in data: data['text/markdown'] = resolve(''.join(data['text/markdown']), folder, there)
            for kind in [k for k in data if k.startswith('image/')]:
                alt = o.get('metadata', {}).get(kind, {}).get('alt') or spoken(''.join(data.get('text/plain', '')))
                if alt: cell['metadata'].setdefault('mystnb', {}).setdefault('image', {})['alt'] = alt
        cells.append(cell)
    return nb | dict(cells=cells)


def source_read(app, docname, source):
    if source[0].lstrip().startswith('{'):
        source[0] = json.dumps(tidy(json.loads(source[0]), docname, Path(app.srcdir)))
    else: source[0] = resolve(source[0], os.path.dirname(docname), lambda path: (Path(app.srcdir) / path).is_file())


def docments(app, what, name, obj, options, lines):
    "fastcore's parameter comments as a field list"
    from fastcore.docments import docments as read
    if '' in lines and 'Parameters' in lines: del lines[lines.index('Parameters') - 1:] # as `help` shows them
    try: found = read(obj, full=True)
    except Exception: found = {} # no source, or no function
    if lines and lines[-1]: lines.append('')
    for k, v in found.items():
        text = ' '.join((v.docment or '').split())
        if text: lines.append(f':returns: {text}' if k == 'return' else f':param {k}: {text}')
    code = lambda m: f'``{m[1]}``' + (f'\\ {m[2]}' if m[2] else '') # Markdown's `Run`s
    lines[:] = [re.sub(r'(?<![`\w])`([^`]+)`(\w*)', code, re.sub(r'([*|])', r'\\\1', o)) for o in lines]
    lines[:] = [re.sub(r'\[([^\]]+)\]\([^)]*\.ipynb[^)]*\)', r'\1', o) for o in lines]


def launch(app, pagename, templatename, context, doctree):
    "The button for Colab only on lessons, whose first cells install the package; Binder installs it for all"
    for group in context.get('header_buttons', []):
        if group.get('label') == 'launch-buttons' and not pagename.startswith('lessons/0'):
            group['buttons'] = [o for o in group['buttons'] if o['text'] != 'Colab']


def setup(app):
    app.connect('source-read', source_read)
    app.connect('html-page-context', launch, priority=900) # after the theme
    app.connect('autodoc-process-docstring', docments)
