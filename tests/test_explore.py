"""explore.ipynb in JupyterLab, as a person uses it: run all cells, move a slider with the keys, browse tracks, edit a frame. Driven through Debian's Chromium; skipped, saying so, without one."""
import secrets, shutil, socket, subprocess, sys, time, urllib.request

import pytest
from browser import Browser, programs
from conftest import env, root

missing = [name for name, path in programs.items() if not path]
if missing: pytest.skip(f'{" and ".join(missing)} not installed: no browser', allow_module_level=True)

left, right = '\ue012', '\ue014' # WebDriver's arrow keys
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
        f'--IdentityProvider.token={token}', f'--ServerApp.root_dir={folder}', '--LabApp.expose_app_in_browser=True',
        '--LabApp.news_url=None', '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate']
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
            for (const l of document.querySelectorAll('.widget-label')) if (l.textContent.trim() == text && l.offsetParent) {
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
        yield b


def begun(b):
    "Has any cell been sent to the kernel?"
    return b.run_script("return [...document.querySelectorAll('.jp-InputPrompt')].some(e => /\\[(\\*|\\d+)\\]/.test(e.textContent))")


def run_all(b):
    "The command behind Run → Run All Cells, once the page's kernel answers: before, the page may say idle, and the command ends without having run a cell"
    enabled = """const app = window.jupyterapp, panel = app && app.shell.currentWidget, session = panel && panel.context && panel.context.sessionContext.session;
        return !!session && !!session.kernel && session.kernel.connectionStatus == 'connected' && session.kernel.status == 'idle'
            && app.commands.isEnabled('notebook:run-all-cells')"""
    try:
        until(lambda: b.run_script(enabled), 120, 'a kernel that is connected and idle')
        b.run_script("window.jupyterapp.commands.execute('notebook:run-all-cells'); return true")
        until(lambda: begun(b), 120, 'a cell that runs')
    except AssertionError as e: raise AssertionError(f'{e}; {state(b)}') from None


def state(b):
    "What the page shows, for the message of a failure"
    return b.run_script("""const all = s => [...document.querySelectorAll(s)].map(e => e.textContent.trim().slice(0, 300));
        return {prompts: all('.jp-InputPrompt'), errors: all('[data-mime-type="application/vnd.jupyter.error"], [data-mime-type="application/vnd.jupyter.stderr"]'),
            kernel: (document.querySelector('.jp-Notebook-ExecutionIndicator') || {dataset: {}}).dataset.status, dialogs: all('.jp-Dialog'), current: ((window.jupyterapp || {shell: {}}).shell.currentWidget || {}).id}""")


def hand(b, description):
    "The handle of the slider of that description gets the name `hand`"
    assert b.run_script("for (const e of document.querySelectorAll('#hand')) e.removeAttribute('id'); return true")
    assert b.mark(description, '.noUi-handle', 'hand'), description


def changed(b, before, places): return all(b.pictures()[k] != before[k] for k in places)


def test_a_person_explores(page, tmp_path):
    b = page
    run_all(b)
    try: until(lambda: len(b.pictures()) == 6, 300, 'six widgets: camera, tracks, alignment, fusion, reader, edited frame')
    except AssertionError as e: raise AssertionError(f'{e}; {len(b.pictures())} pictures; {state(b)}') from None
    for description in ('plate width, px', 'yaw, °'): # a slider changes the picture
        hand(b, description)
        before = b.pictures()
        b.press('#hand', left)
        until(lambda: changed(b, before, [0]), 90, f'another picture after {description}')
    hand(b, '← → keys') # the keys browse, and every panel follows
    before = b.pictures()
    b.press('#hand', right)
    until(lambda: changed(b, before, range(1, 6)), 120, 'the next track in every panel')
    before = b.pictures()
    b.press('#hand', left)
    until(lambda: changed(b, before, range(1, 6)), 120, 'the track before')
    assert b.run_script("return document.querySelectorAll('.ksr .c').length") == 16 * 48 # the page under the pointer
    (tmp_path/'explore.png').write_bytes(b.screenshot())
    assert not b.run_script("return [...document.querySelectorAll('.jp-RenderedText[data-mime-type=\"application/vnd.jupyter.stderr\"]')].map(e => e.textContent)")
    assert b.errors() == []


def choose(b, description, value):
    "An entry of a filter of that description, as a person chooses it"
    return b.run_script("""const [text, value] = arguments;
        for (const l of document.querySelectorAll('.widget-label')) if (l.textContent.trim() == text && l.offsetParent) {
            const e = l.parentElement.querySelector('select'); if (!e || ![...e.options].some(o => o.textContent.trim() == 'any')) continue;
            e.value = [...e.options].find(o => o.textContent.trim() == value).value; e.dispatchEvent(new Event('change', {bubbles: true})); return true }
        return false""", description, value)


def listed(b): # lines of the list of tracks
    return b.run_script("return [...document.querySelectorAll('select[size=\"12\"] option, .widget-select select option')].map(o => o.textContent)")


def test_the_list_is_filtered(page):
    "After the test above: the six tracks of the sample, three of each scenario, two of them Brazilian"
    b = page
    whole = until(lambda: len(found := listed(b)) == 6 and found, 60, 'six tracks')
    assert choose(b, 'scenario', 'B')
    half = until(lambda: len(found := listed(b)) < 6 and found, 60, 'fewer tracks')
    assert half and set(half) < set(whole)
    assert choose(b, 'layout', 'Brazilian')
    few = until(lambda: 0 < len(found := listed(b)) < len(half) and found, 60, 'fewer still')
    assert set(few) < set(half) and (len(half), len(few)) == (3, 1)
    assert choose(b, 'scenario', 'any') and choose(b, 'layout', 'any')
    until(lambda: listed(b) == whole, 60, 'all of them again')
    assert b.errors() == []
