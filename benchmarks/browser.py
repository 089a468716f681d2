"""A notebook in JupyterLab, as a reader sees it: run all cells in headless Chromium, and look at the page.

    make lab-check      # or: pip install selenium; python -m benchmarks.browser

The notebook is that of the residual scales up to its two sliders, with a figure before it and a training run behind.
Three things are seen: the figure is drawn by its `repr`, moving a slider redraws the picture, and the bar of the run
ends full and green. It needs Chromium and its driver (Debian: apt-get install chromium chromium-driver); without them
nothing is tested, and the exit code is 0. The record is benchmarks/records/browser.json, with a screenshot.
"""
import argparse
import json
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import URLError
from urllib.request import urlopen

from inception_repro.support.files import atomic_write

ROOT = Path(__file__).parents[1]
OUT = ROOT / 'benchmarks/records/browser.json'
SOURCE = ROOT / 'nbs/1_figures/04_scaling.ipynb'
FIGURE = 'from inception_repro import inception_a\ninception_a'
FIT = ("from inception_repro import fit, preset\n"
       "recipe = preset('demo', 'inception_resnet_v1', width=1/16, classes=2, per_class=8, valid_per_class=4, bs=8,\n"
       "                epochs=1)\n"
       "run = fit(recipe, 'runs', device='cpu')\nrun")
GREEN = 'rgb(114, 156, 31)'  # rich's colour of a bar that is complete
SETTINGS = {
    'notebook-extension/tracker': {'windowingMode': 'none'},  # every cell is in the page, also those to scroll to
    'apputils-extension/notification': {'fetchNews': 'false', 'checkForUpdates': False}}  # which cover the cells


def notebook():
    "The notebook: a figure, the residual scales up to the sliders, a training run"
    import nbformat
    nb = nbformat.read(SOURCE, as_version=4)
    last = next(i for i, c in enumerate(nb.cells) if c.source.splitlines()[-1:] == ['lesson()'])
    cells = [c for c in nb.cells[:last + 1] if 'nbdev' not in c.source]
    for c in cells: c.update(outputs=[], execution_count=None) if c.cell_type == 'code' else None
    new = nbformat.v4.new_code_cell
    nb.cells = [new(FIGURE), *cells, new(FIT)]
    nb.metadata['kernelspec'] = dict(name='python3', display_name='Python 3', language='python')
    return nb, nbformat


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


@contextmanager
def jupyterlab(folder):
    "A server for the files of a folder; its address"
    for name, values in SETTINGS.items():
        path = folder / f'settings/@jupyterlab/{name}.jupyterlab-settings'
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values), encoding='utf-8')
    port = free_port()
    command = [sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', f'--ServerApp.port={port}',
               '--ServerApp.port_retries=0', '--IdentityProvider.token=', f'--ServerApp.root_dir={folder}',
               f"--LabApp.user_settings_dir={folder / 'settings'}", f"--LabApp.workspaces_dir={folder / 'workspaces'}"]
    with (folder / 'server.log').open('w') as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            address, began = f'http://127.0.0.1:{port}', time.monotonic()
            while True:
                try: urlopen(f'{address}/api', timeout=2).close()
                except (URLError, OSError):
                    if server.poll() is not None or time.monotonic() - began > 90:
                        sys.exit('JupyterLab did not start:\n' + (folder / 'server.log').read_text()[-2000:])
                    time.sleep(.5)
                else: break
            yield address
        finally:
            server.terminate()
            server.wait(30)


@contextmanager
def chromium(binary, driver):
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service
    options = ChromeOptions()
    options.binary_location = binary
    for o in 'headless=new', 'no-sandbox', 'disable-dev-shm-usage', 'window-size=1200,1800':
        options.add_argument(f'--{o}')
    page = Chrome(options=options, service=Service(driver))
    try: yield page
    finally: page.quit()


def wait(page, what, condition, seconds):
    "What a condition returns once it is true"
    from selenium.common.exceptions import TimeoutException, WebDriverException
    from selenium.webdriver.support.wait import WebDriverWait
    try: return WebDriverWait(page, seconds, ignored_exceptions=(WebDriverException,)).until(lambda _: condition())
    except TimeoutException: raise AssertionError(f'{what}: not seen within {seconds} seconds') from None


class Lab:
    "JupyterLab's page, by what it shows"
    def __init__(self, page): self.page = page
    def all(self, css, inside=None): return (inside or self.page).find_elements('css selector', css)
    def cell(self, i): return self.all('.jp-Notebook .jp-Cell')[i]

    def click(self, css, text):
        def found(): return next((o for o in self.all(css) if o.text.strip() == text and o.is_displayed()), None)
        wait(self.page, f'{text!r}', found, 60).click()

    def run_all(self):
        "Click on the menu, until the first cell has begun"
        def begun():
            self.click('.lm-MenuBar-itemLabel', 'Run')
            self.click('.lm-Menu-itemLabel', 'Run All Cells')
            time.sleep(2)
            return self.all('.jp-InputPrompt', self.cell(0))[0].text not in ('[ ]:', '[]:', '')
        wait(self.page, 'the first cell runs', begun, 180)

    def pictures(self, cell):
        "Addresses of the pictures in a cell's output that are drawn"
        script = 'return [...arguments[0].querySelectorAll(".jp-OutputArea img, .jp-RenderedSVG img")]' \
                 '.filter(o => o.complete && o.naturalWidth > 50 && o.clientWidth > 50).map(o => o.src)'
        return self.page.execute_script(script, cell)

    def errors(self): return [o.text[-300:] for o in self.all('[data-mime-type="application/vnd.jupyter.error"]')]


def check_figure(lab, shots):
    kind = lab.all('.jp-RenderedSVG', lab.cell(0))
    assert kind and len(lab.pictures(lab.cell(0))) == 1, 'no drawing under the figure'
    shots.append(lab.cell(0))
    return 'one SVG drawing'


def check_widget(lab, shots):
    from selenium.webdriver.common.keys import Keys
    with_slider = lambda: next((c for c in lab.all('.jp-Notebook .jp-Cell') if lab.all('.widget-slider', c)), None)
    cell = wait(lab.page, 'a slider', with_slider, 60)
    before = wait(lab.page, 'the pictures below the sliders', lambda: lab.pictures(cell), 60)
    handle, value = lab.all('.noUi-handle', cell)[0], lab.all('.widget-readout', cell)[0]
    old = value.text
    handle.send_keys(Keys.ARROW_RIGHT)
    def redrawn():
        new = lab.pictures(cell)
        return len(new) == len(before) and not {*new} & {*before} and value.text != old
    wait(lab.page, f'{len(before)} new pictures', redrawn, 60)
    shots.append(cell)
    return f'scale {old} → {value.text}, {len(before)} pictures redrawn'


def check_bar(lab, shots):
    cell = lab.cell(-1)
    spans = lab.all('.jp-OutputArea pre span', cell)
    text = ' '.join(o.text for o in lab.all('.jp-OutputArea pre', cell))
    colours = {o.value_of_css_property('color').replace('rgba', 'rgb').replace(', 1)', ')') for o in spans}
    assert '100 %' in text and GREEN in colours, f'{text!r} in {colours}'
    assert len(lab.pictures(cell)) == 1, 'the run shows no curve'
    shots.append(cell)
    return f"{' '.join(text.split()).split('%')[0]}%, green, with the curve of the run"


def look(address, binary, driver, shot):
    "Open the notebook, run all cells, check what the page shows; returns rows"
    rows, shots = [], []
    with chromium(binary, driver) as page:
        lab = Lab(page)
        page.get(f'{address}/lab/tree/nbs/1_figures/browser.ipynb')
        wait(page, 'an idle kernel', lambda: lab.all('.jp-Notebook-ExecutionIndicator[data-status="idle"]'), 90)
        try:
            lab.run_all()
            wait(page, 'the end of the last cell', lambda: lab.errors() or lab.pictures(lab.cell(-1)), 300)
        except AssertionError:
            page.save_screenshot(str(shot))
            raise
        if errors := lab.errors(): raise AssertionError(errors[0])
        for name, f in [('a figure is drawn by its repr', check_figure), ('moving a slider redraws', check_widget),
                        ('the bar ends full and green', check_bar)]:
            try: result, passed = f(lab, shots), True
            except Exception as e: result, passed = f'{type(e).__name__}: {e}'.splitlines()[0], False
            rows.append(dict(feature=name, result=result, passed=passed))
        screenshot(page, shots, shot)
    return rows


def picture(page, cell):
    "What the page shows of a cell"
    import io
    from PIL import Image
    page.execute_script('arguments[0].scrollIntoView({block: "start"})', cell)
    time.sleep(.5)  # until it is painted
    return Image.open(io.BytesIO(cell.screenshot_as_png)).convert('RGB')


def screenshot(page, cells, path):
    "The cells one below the other, in one picture"
    from PIL import Image
    parts = [picture(page, c) for c in cells]
    if not parts: return page.save_screenshot(str(path))
    whole = Image.new('RGB', (max(p.width for p in parts), sum(p.height for p in parts)), 'white')
    y = 0
    for p in parts: y = whole.paste(p, (0, y)) or y + p.height
    whole.quantize(200).save(path, optimize=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=OUT)
    args = parser.parse_args()
    binary = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
    driver = shutil.which('chromedriver')
    if not binary or not driver: return print('skipped: chromium and chromedriver are not installed')
    try: import selenium  # noqa: F401
    except ImportError: return print('skipped: selenium is not installed')
    with TemporaryDirectory() as tmp:
        folder = Path(tmp)
        for o in 'nbs/1_figures', 'figures/architecture': (folder / o).mkdir(parents=True)
        nb, nbformat = notebook()
        nbformat.write(nb, folder / 'nbs/1_figures/browser.ipynb')
        with jupyterlab(folder) as address: rows = look(address, binary, driver, args.out.with_suffix('.png'))
    name = subprocess.run([binary, '--version'], capture_output=True, text=True).stdout.split(' built')[0].strip()
    versions = dict(browser=name, **{o: version(o) for o in ('jupyterlab', 'ipywidgets', 'ipykernel')})
    atomic_write(args.out, json.dumps(dict(versions=versions, features=rows), indent=1, ensure_ascii=False) + '\n')
    for r in rows: print('ok  ' if r['passed'] else 'FAIL', r['feature'], '→', r['result'])
    failed = [r['feature'] for r in rows if not r['passed']]
    if failed: sys.exit(f"failed: {', '.join(failed)}")


if __name__ == '__main__': main()
