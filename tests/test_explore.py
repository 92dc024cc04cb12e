"""explore.ipynb in JupyterLab, as a person uses it: run all cells, move a slider with the keys, browse tracks, edit a frame. Driven through Debian's Chromium; skipped, saying so, without one."""
import hashlib, json, os, re, secrets, shutil, socket, subprocess, sys, time, urllib.request

import pytest
from browser import Browser, programs
from conftest import env, root, scripts

missing = [name for name, path in programs.items() if not path]
if missing: pytest.skip(f'{" and ".join(missing)} not installed: no browser', allow_module_level=True)

left, right, down = '\ue012', '\ue014', '\ue015' # WebDriver's arrow keys
element = 'element-6066-11e4-a52e-4f735466cecf' # WebDriver's name for a reference


def until(found, seconds, what):
    "The first true value of `found()`"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found(): return value
        time.sleep(.3)
    raise AssertionError(f'not within {seconds} s: {what}')


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "JupyterLab on loopback, over a copy of what explore.ipynb needs"
    folder = tmp_path_factory.mktemp('lab')
    for name in ('nbs', 'ksr'): shutil.copytree(root/name, folder/name, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints'))
    shutil.copytree(root/'data'/'sample', folder/'data'/'sample')
    shutil.copy(root/'settings.ini', folder/'settings.ini')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    token, own = secrets.token_hex(16), {f'JUPYTER_{k}_DIR': str(folder/'jupyter'/k) for k in ('CONFIG', 'RUNTIME', 'DATA')}
    own |= {f'JUPYTERLAB_{k}_DIR': str(folder/'jupyter'/k) for k in ('SETTINGS', 'WORKSPACES')}
    options = [f'--ServerApp.port={port}', '--ServerApp.ip=127.0.0.1', '--ServerApp.open_browser=False', '--ServerApp.allow_root=True',
        f'--IdentityProvider.token={token}', f'--ServerApp.root_dir={folder}', '--LabApp.news_url=None', '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate']
    with open(folder/'server.log', 'w') as log:
        server = subprocess.Popen([sys.executable, '-m', 'jupyterlab', *options], cwd=folder, env=env | own | dict(PYTHONPATH=str(folder)),
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    address = f'http://127.0.0.1:{port}'

    def up():
        assert server.poll() is None, (folder/'server.log').read_text()[-2000:]
        try: return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f'{address}/api?token={token}', timeout=5).status == 200
        except OSError: return False

    try:
        until(up, 120, 'an answer from the server')
        yield address, token
    finally:
        server.terminate()
        server.wait(30)


class Page(Browser):
    "A notebook in JupyterLab"
    def go(self, url): self.ask('POST', '/url', url=url)

    def find(self, css): return [e[element] for e in self.ask('POST', '/elements', using='css selector', value=css)]

    def press(self, css, keys): # what the element of that selector hears
        self.ask('POST', f'/element/{self.find(css)[0]}/value', text=keys)

    def run_script(self, script, *args): return self.ask('POST', '/execute/sync', script=script, args=list(args))

    def mark(self, text, css, name): # give the first match beside a label an id
        return self.run_script('''const [text, css, name] = arguments;
            for (const l of document.querySelectorAll('.widget-label, .jupyter-button')) if (l.textContent.trim() == text && l.offsetParent) {
                const e = css ? l.parentElement.querySelector(css) : l; if (e) { e.id = name; e.scrollIntoView({block: 'center'}); return true } }
            return false''', text, css, name)

    def pictures(self): # of the widgets, in their order: address of each
        return self.run_script("return [...document.querySelectorAll('img.widget-image, .widget-image img')].map(i => i.src)")


@pytest.fixture(scope='module')
def page(lab):
    address, token = lab
    with Page() as b:
        b.size(1500, 1400)
        b.go(f'{address}/lab/tree/nbs/explore.ipynb?token={token}')
        until(lambda: b.find('.jp-Notebook .jp-Cell'), 120, 'the notebook')
        until(lambda: b.run_script("return !!document.querySelector('.jp-Notebook-ExecutionIndicator[data-status=\"idle\"]')"), 120, 'an idle kernel')
        # the whole notebook is in the page only while windowing is off; every cell is run by its command
        b.run_script("document.querySelector('.jp-Notebook').focus(); return true")
        yield b


def run_all(b):
    "Run → Run All Cells, from the menu"
    menu = "return [...document.querySelectorAll('.lm-MenuBar-item')].findIndex(i => i.textContent.trim() == 'Run')"
    until(lambda: b.run_script(menu) >= 0, 60, 'the menu Run')
    items = b.find('.lm-MenuBar-item')
    b.ask('POST', f'/element/{items[b.run_script(menu)]}/click')
    item = "return [...document.querySelectorAll('.lm-Menu-item')].findIndex(i => i.textContent.trim().startsWith('Run All Cells'))"
    until(lambda: b.run_script(item) >= 0, 20, 'Run All Cells')
    b.ask('POST', f'/element/{b.find(".lm-Menu-item")[b.run_script(item)]}/click')


def test_a_person_explores(page):
    b = page
    run_all(b)
    until(lambda: len(b.pictures()) >= 3, 300, 'the first widgets')
    print(b.pictures())
