"""Pin everything that an extra of this package installs in the running environment.

    python .ci/lock.py            # print what constraints.txt lacks, and what it pins to another version
    python .ci/lock.py --write    # complete constraints.txt; the pins above its last comment are chosen by hand and kept
"""
import re
import sys
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PINS = ROOT / 'constraints.txt'
REST = '# What these packages require.'
LOOSE = {'pip', 'setuptools'}  # they come with Python or with the environment


def canonical(name): return re.sub('[-_.]+', '-', name).lower()


def pins(text):
    "Canonical name → version"
    return {canonical(name): v for name, v in re.findall(r'^([\w.-]+)==(\S+)', text, flags=re.M)}


def wanted(*extras):
    "The requirements of the package with extras, as settings.ini has them"
    config = ConfigParser(delimiters=['='], interpolation=None)
    config.read(ROOT / 'settings.ini', encoding='utf-8')
    return ' '.join([config['DEFAULT']['requirements'], *(config['DEFAULT'][f'{o}_requirements'] for o in extras)]).split()


def installed(requirements):
    "Canonical name → version of all that the requirements install here, each with the extras that are asked for"
    found, todo, seen = {}, [Requirement(o) for o in requirements], set()
    while todo:
        r = todo.pop()
        key = canonical(r.name), frozenset(r.extras)
        if key in seen: continue
        seen.add(key)
        try: found[key[0]] = version(r.name)
        except PackageNotFoundError: continue  # for another platform, or an extra that is not installed
        for more in map(Requirement, requires(r.name) or []):
            if not more.marker or any(more.marker.evaluate({'extra': o}) for o in ('', *r.extras)): todo.append(more)
    return {k: v for k, v in found.items() if k not in LOOSE}


def main():
    text = PINS.read_text(encoding='utf-8')
    found = installed(wanted('dev'))
    own, before = pins(text.split(REST)[0]), pins(text)
    if '--write' in sys.argv:
        rest = sorted(f'{k}=={v}' for k, v in {**before, **found}.items() if k not in own)
        PINS.write_text('\n'.join([text.split(REST)[0].rstrip(), '', REST, *rest]) + '\n', encoding='utf-8')
        return
    wrong = [f'{k}=={v}' for k, v in sorted(found.items()) if before.get(k) != v]
    if wrong: sys.exit('constraints.txt differs from this environment: ' + ', '.join(wrong))


if __name__ == '__main__': main()
