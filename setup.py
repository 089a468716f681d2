"""The package's metadata, read from settings.ini, the single source of version, requirements and scripts."""
import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

parser = ConfigParser(delimiters=['='], interpolation=None)
root = Path(__file__).parent
parser.read(root / 'settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']
licenses = {'apache2': 'Apache-2.0'}
statuses = ['', '1 - Planning', '2 - Pre-Alpha', '3 - Alpha', '4 - Beta', '5 - Production/Stable']

def absolute(text, url=f"{cfg['git_url']}/raw/{cfg['branch']}/", page=f"{cfg['git_url']}/blob/{cfg['branch']}/"):
    "The README for PyPI, where relative links lead nowhere: pictures from the repository, pages on its site"
    text = re.sub(r'(<img src="|!\[[^\]]*\]\()(?!https?:|#)', rf'\1{url}', text)
    return re.sub(r'((?<!!)\[[^\]]*\]\()(?!https?:|#|mailto:)', rf'\1{page}', text)


setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'],
    long_description=absolute((root / 'README.md').read_text(encoding='utf-8')),
    long_description_content_type='text/markdown',
    author=cfg['author'], author_email=cfg['author_email'], license=licenses[cfg['license']], url=cfg['git_url'],
    keywords=cfg['keywords'].split(), python_requires='>=' + cfg['min_python'],
    packages=find_packages(include=[cfg['lib_path'], cfg['lib_path'] + '.*']),
    include_package_data=True, zip_safe=False,
    install_requires=cfg['requirements'].split(),
    extras_require={k: cfg[f'{k}_requirements'].split() for k in ('dev', 'test', 'bench', 'docs')},
    classifiers=[f"Development Status :: {statuses[int(cfg['status'])]}",
                 f"Intended Audience :: {cfg['audience']}",
                 f"Natural Language :: {cfg['language']}", 'Programming Language :: Python :: 3',
                 'Topic :: Scientific/Engineering :: Artificial Intelligence'],
    entry_points={'console_scripts': cfg['console_scripts'].split(),
                  'nbdev': [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"]},
)
