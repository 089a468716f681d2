"""The records as tables: `python -m benchmarks.tables`, and whatever benchmarks.run has measured."""
import json
from pathlib import Path
from statistics import median

from inception_repro.benchmarking.bench import table
from inception_repro.support.files import atomic_write

RECORDS = Path(__file__).parent / 'records'


def ahead(rows, half):
    """Our fastest contender in bf16 or float32, the fastest of the others, and their ratio:
    median, lowest, highest of the rounds
    """
    ran = [r for r in rows if 'skipped' not in r and ('bf16' in r['name']) == half
           and not r['name'].startswith('beside')]
    sides = [[r for r in ran if r['name'].startswith('ours') == own] for own in (True, False)]
    if not all(sides): return None
    ours, other = (max(side, key=lambda r: r['images_per_second']) for side in sides)
    ratios = sorted(b / a for a, b in zip(ours['seconds'], other['seconds']))
    return ours['name'], other['name'], median(ratios), ratios[0], ratios[-1]


def tables(records):
    "Markdown: who is ahead, then every race"
    lines, races = [], []
    for path, r in records.items():
        (name, rows), = r['races'].items()
        for half in (False, True):
            if best := ahead(rows, half):
                a, b, ratio, low, high = best
                lines.append(f'| [{path.stem}]({path.name}) | {a} | {b} | {ratio:.2f} | {low:.2f} – {high:.2f} |')
        env, settings = r['env'], {k: v for k, v in r['settings'].items() if k != 'versions'}
        where = f"{env['device']}, {settings.pop('processor')}, {env['threads']} threads, torch {env['torch']}"
        said = ', '.join([where, *(f'{k} {v}' for k, v in {**settings, **r['settings']['versions']}.items())])
        races.append(f'## {path.stem}\n\n{said}.\n\n{table(rows)}\n')
    head = '| race | our fastest | fastest of the others | ratio | lowest – highest |\n| - | - | - | - | - |'
    return '\n'.join(['# Races', '', head, *lines, '', *races])


def write_tables(folder=RECORDS):
    "Write README.md beside the records of races"
    records = {p: json.loads(p.read_text()) for p in sorted(folder.glob('*.json'))}
    atomic_write(folder / 'README.md', tables({p: r for p, r in records.items() if 'races' in r}))


if __name__ == '__main__': write_tables()
