"""What is imported is what is declared, the pins are complete, and the metadata files agree with settings.ini.

Not in a notebook: it reads the files of the repository.
"""
import ast
import json
import re
import subprocess
import sys
from configparser import ConfigParser
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from runpy import run_path

import pytest

root = Path(__file__).parents[1]
if not (root / 'settings.ini').exists() or not (root / 'constraints.txt').exists():
    pytest.skip('needs a checkout', allow_module_level=True)

MODULES = {'pillow': 'PIL', 'pyyaml': 'yaml'}  # distribution → module, where the names differ
# imported in functions only: in a notebook, by `register_timm`, as a decoder
OPTIONAL = {'IPython', 'timm', 'torchvision'}


@cache
def settings():
    config = ConfigParser(delimiters=['='], interpolation=None)
    config.read(root / 'settings.ini', encoding='utf-8')
    return config['DEFAULT']


def declared(*extras):
    "Modules that the requirements, and those of extras, install"
    keys = 'requirements', *(f'{o}_requirements' for o in extras)
    names = [re.match(r'[\w.-]+', o)[0] for k in keys for o in settings()[k].split()]
    return {MODULES.get(n, n.replace('-', '_')) for n in names}


def third_party(nodes, own):
    "Names of the packages that imports name, but not those of Python and of the project"
    for n in nodes:
        names = [a.name for a in n.names] if isinstance(n, ast.Import) else (
            [n.module] if isinstance(n, ast.ImportFrom) and not n.level else [])
        for name in (o.split('.')[0] for o in names):
            if name not in sys.stdlib_module_names and name not in own: yield name


@cache
def imports(folder, everywhere=True):
    "Packages that the files of a folder import; at the top of a module, or everywhere"
    files = sorted((root / folder).rglob('*.py'))
    own = {'inception_repro', 'benchmarks', 'site', *(p.stem for p in files if p.parent == root / folder)}
    found = set()
    for p in files:
        tree = ast.parse(p.read_text(encoding='utf-8'))
        found |= {*third_party(ast.walk(tree) if everywhere else tree.body, own)}
    return frozenset(found)


def test_the_package_declares_what_it_imports(): assert imports('inception_repro') - OPTIONAL == declared()


def test_optional_packages_are_imported_when_they_are_used():
    assert OPTIONAL <= imports('inception_repro') and not OPTIONAL & imports('inception_repro', everywhere=False)


@pytest.mark.parametrize('folder,extras', [
    ('tests', ['test']), ('benchmarks', ['bench', 'test', 'dev']), ('nbs', ['dev']), ('site', ['docs'])])
def test_extras_declare_what_their_folders_import(folder, extras):
    brought = {'IPython', 'torchvision', 'selenium'}  # by ipykernel, JupyterLab, fastai, `make lab-check`
    assert imports(folder) <= declared(*extras) | brought


def test_notebooks_import_what_is_declared():
    found = set()
    for p in (root / 'nbs').rglob('*.ipynb'):
        for c in json.loads(p.read_text(encoding='utf-8'))['cells']:
            text = re.sub(r'^\s*[%!?].*$', '', ''.join(c['source']), flags=re.M)
            if c['cell_type'] == 'code' and not text.startswith('%%'):
                found |= {*third_party(ast.walk(ast.parse(text)), {'inception_repro'})}
    assert found <= declared('dev') | {'IPython', 'torchvision'}  # which JupyterLab and fastai require


# Pins

@cache
def lock(): return run_path(str(root / '.ci/lock.py'))


def test_every_package_of_the_development_set_is_pinned():
    pins = lock()['pins']((root / 'constraints.txt').read_text(encoding='utf-8'))
    for name in 'torch', 'nbdev', 'timm':
        try: here = version(name).split('+')[0]
        except PackageNotFoundError: here = None
        if here != pins[name]: pytest.skip('this is not the development environment')
    found = lock()['installed'](lock()['wanted']('dev'))
    assert len(found) > 100 and not found.keys() - pins.keys(), found.keys() - pins.keys()
    wrong = {k: (v, pins[k]) for k, v in found.items() if v.split('+')[0] != pins[k]}
    assert not wrong


@pytest.mark.parametrize('name', ['torch', 'fastai'])
def test_the_pins_are_the_lowest_supported(name):
    "So that the tests with pinned packages are those of the lowest version"
    least = re.search(rf'(?:^|\s){name}>=([\d.]+)', settings()['requirements'])[1]
    pin = lock()['pins']((root / 'constraints.txt').read_text(encoding='utf-8'))[name]
    assert pin == least or pin.removesuffix('.0') == least


WITHOUT_UNIX = '''
import importlib, os, pkgutil, signal, sys
for name in 'fcntl', 'resource', 'pwd', 'grp', 'termios': sys.modules[name] = None
for module, name in (signal, 'SIGHUP'), (signal, 'SIGKILL'), (os, 'sched_getaffinity'): vars(module).pop(name, None)
import inception_repro
found = [m.name for m in pkgutil.walk_packages(inception_repro.__path__, 'inception_repro.')]
for name in found:
    if not name.endswith('__main__'): importlib.import_module(name)
print(len(found))
'''


@pytest.mark.slow
def test_every_module_can_be_imported_without_what_only_unix_has():
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', WITHOUT_UNIX], capture_output=True, text=True)
    assert done.returncode == 0 and int(done.stdout) > 50, done.stderr


# Metadata of the repository

def yaml_file(path):
    import yaml
    return yaml.safe_load((root / path).read_text(encoding='utf-8'))


def test_the_citation_agrees_with_the_settings():
    found = yaml_file('CITATION.cff')
    assert (found['title'], str(found['version'])) == (settings()['lib_name'], settings()['version'])
    assert found['repository-code'] == settings()['git_url'] and found['license'] == 'Apache-2.0'
    assert found['url'] == settings()['doc_host'] + settings()['doc_baseurl']
    assert f"## {settings()['version']}" in (root / 'CHANGELOG.md').read_text(encoding='utf-8').splitlines()


@pytest.mark.parametrize('path', sorted(p.relative_to(root).as_posix() for p in (root / '.github').rglob('*.yml')))
def test_workflows_and_templates_can_be_read(path):
    found = yaml_file(path)
    if 'workflows' in path: assert found['jobs'] and all('runs-on' in j for j in found['jobs'].values())
    elif not path.endswith('config.yml'): assert found['name'] and found['description'] and found['body']


def test_the_matrix_has_the_lowest_and_a_newer_python():
    jobs = yaml_file('.github/workflows/test.yml')['jobs']
    pythons = [v for j in ('pinned', 'latest') for v in jobs[j]['strategy']['matrix']['python']]
    assert settings()['min_python'] in pythons and len({*pythons}) >= 3
    assert {*jobs['platforms']['strategy']['matrix']['os']} == {'macos-latest', 'windows-latest'}


def test_publishing_is_trusted():
    "PyPI knows the workflow by its identity; no password is anywhere"
    text = (root / '.github/workflows/release.yml').read_text(encoding='utf-8')
    assert yaml_file('.github/workflows/release.yml')['jobs']['publish']['permissions'] == {'id-token': 'write'}
    assert 'gh-action-pypi-publish' in text and 'password' not in text and 'secrets.' not in text
