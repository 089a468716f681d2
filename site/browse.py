"""Open every page of the built site in headless Chromium, in wide and narrow windows, and report what is wrong.

    python site/browse.py [_docs] [--pages lessons/ ...] [--shots FOLDER]

An error is: a message of level "severe" in the console, a picture that does not load, a formula that does not render, a
file loaded from another host (the site can be read offline), a page that is wider than its window.
"""
import argparse
import shutil
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

WIDTHS = 1400, 390  # a laptop, a phone
FIND = """
const done = arguments[0], found = [], root = document.documentElement
const look = () => {
  for (const o of document.images) if (o.currentSrc && !o.naturalWidth) found.push('broken picture: ' + o.currentSrc)
  for (const o of document.querySelectorAll('mjx-merror')) found.push('formula: ' + o.textContent)
  for (const o of performance.getEntriesByType('resource'))
    if (!o.name.startsWith(location.origin) && !o.name.startsWith('data:')) found.push('from another host: ' + o.name)
  if (root.scrollWidth > innerWidth + 1) {
    const scrolls = o => o && o != document.body && (getComputedStyle(o).overflowX != 'visible' || scrolls(o.parentElement))
    const beyond = o => o.getBoundingClientRect().right > innerWidth + 1 && !scrolls(o.parentElement)
    const wide = [...document.querySelectorAll('main *')].filter(beyond)
    found.push(`${root.scrollWidth} pixels wide: ` + (wide.length ? wide[wide.length - 1].outerHTML.slice(0, 120) : ''))
  }
  done(found)
}
const maths = window.MathJax && MathJax.startup && MathJax.startup.promise
maths ? maths.then(look) : look()
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args): pass


def browser():
    "Headless Chromium, which keeps what pages write to the console"
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which('chromium') or shutil.which('google-chrome') or ''
    for o in 'headless=new', 'no-sandbox', 'disable-gpu', 'disable-dev-shm-usage', 'hide-scrollbars':
        options.add_argument(f'--{o}')
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    driver = webdriver.Chrome(options, Service(shutil.which('chromedriver')))
    driver.set_page_load_timeout(120)
    driver.set_script_timeout(120)
    return driver


def resize(driver, width, height=900):
    size = dict(width=width, height=height, deviceScaleFactor=1, mobile=False)
    driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', size)


def scheme(driver, name):
    "Prefer the light or the dark colours"
    driver.execute_cdp_cmd('Emulation.setEmulatedMedia', dict(features=[dict(name='prefers-color-scheme', value=name)]))


def errors(driver, url, width):
    "What is wrong with a page, one line each"
    resize(driver, width)
    driver.get(url)
    found = driver.execute_async_script(FIND)
    return [*found, *(o['message'] for o in driver.get_log('browser') if o['level'] == 'SEVERE')]


def shoot(driver, file, width, longest=12000):
    "A picture of the whole page"
    height = driver.execute_script('return document.documentElement.scrollHeight')
    resize(driver, width, min(height, longest))
    driver.save_screenshot(str(file))


def browse(site, pages, shots=None):
    "The errors of all pages: lines of text"
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=str(site)))
    Thread(target=server.serve_forever, daemon=True).start()
    host, driver, lost = f'http://127.0.0.1:{server.server_port}', browser(), []
    try:
        for page in pages:
            for width in WIDTHS:
                for colours in ('light', 'dark') if shots else ('light',):
                    scheme(driver, colours)
                    lost += [f'{page}, {width} pixels: {o}' for o in errors(driver, f'{host}/{page}', width)]
                    name = f"{page.removesuffix('.html').replace('/', '-')}-{width}-{colours}.png"
                    if shots: shoot(driver, shots / name, width)
    finally:
        driver.quit()
        server.shutdown()
    return lost


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('site', nargs='?', type=Path, default=Path(__file__).resolve().parents[1] / '_docs')
    parser.add_argument('--pages', nargs='*', default=[''], help='only pages whose address begins so')
    parser.add_argument('--shots', type=Path, help='folder for pictures of the pages, light and dark')
    args = parser.parse_args()
    found = [p.relative_to(args.site).as_posix() for p in sorted(args.site.rglob('*.html')) if '_static' not in p.parts]
    pages = [p for p in found if p.startswith(tuple(args.pages))]
    if not pages: sys.exit(f"no page of {args.site} begins with {', '.join(args.pages)}; run `make site` first")
    if args.shots: args.shots.mkdir(parents=True, exist_ok=True)
    lost = browse(args.site, pages, args.shots)
    if lost: sys.exit('\n'.join(lost))
    print(f"{len(pages)} pages opened at {' and '.join(map(str, WIDTHS))} pixels: no errors")


if __name__ == '__main__': main()
