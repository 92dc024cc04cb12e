"""`ksr_viewer` as somebody uses it who doesn't write code: Voilà, and a browser that uploads, reads, marks and downloads."""
import os, re, signal, socket, subprocess, sys, time, zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from browser import Browser, programs
from conftest import env, root

pytestmark = [pytest.mark.skipif(None in programs.values(), reason='there is no Chromium with ChromeDriver here (Debian: chromium, chromium-driver)'),
    pytest.mark.skipif(not find_spec('voila'), reason="Voilà is not installed here (pip install -e '.[viewer]')")]
mixed = '(Unsatisfied|No satisfying) version .* of shared (singleton )?module' # Voilà 0.5.13 brings JupyterLab 4.2's core, the widgets ask for 4.6's: a warning, and they work
track = root/'data'/'sample'/'Scenario-A'/'Mercosur'/'track_00001'


def started(folder):
    "A viewer whose files lie below that folder, and its address"
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    start = f'import sys; from ksr.viewer import run_viewer; sys.exit(run_viewer({port}, False))'
    with open(folder/'log', 'wb') as log:
        viewer = subprocess.Popen([sys.executable, '-c', start], cwd=root, env=env | dict(TMPDIR=str(folder), PYTHONPATH=str(root)), stdout=log, stderr=log)
    try:
        end = time.monotonic() + 120
        while not (found := re.search(r'http://127\.0\.0\.1:\S+', (folder/'log').read_text(encoding='utf-8'))):
            assert viewer.poll() is None and time.monotonic() < end, (folder/'log').read_text(encoding='utf-8')
            time.sleep(.2)
    except BaseException:
        viewer.kill()
        raise
    return viewer, found[0]


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    "Its address and where it keeps things; it must leave nothing"
    folder = tmp_path_factory.mktemp('viewer')
    viewer, address = started(folder)
    try:
        yield address, folder
    finally:
        viewer.send_signal(signal.SIGINT)
        code = viewer.wait(60)
    assert code == 0, (folder/'log').read_text(encoding='utf-8')[-3000:]
    assert [p for p in folder.iterdir() if p.name.startswith('ksr-viewer')] == []


@pytest.mark.parametrize('told', [signal.SIGTERM, signal.SIGHUP], ids=['terminate', 'closed terminal'])
def test_nothing_stays_however_it_ends(told, tmp_path):
    viewer, _ = started(tmp_path)
    assert [p for p in tmp_path.iterdir() if p.name.startswith('ksr-viewer')]
    viewer.send_signal(told)
    assert viewer.wait(60) == 0, (tmp_path/'log').read_text(encoding='utf-8')[-3000:]
    assert [p for p in tmp_path.iterdir() if p.name.startswith('ksr-viewer')] == []


@pytest.fixture(scope='module')
def page(server):
    with Browser('none') as browser:
        browser.size(1280, 1000)
        browser.visit(server[0])
        browser.until("document.querySelector('[class$=-files]')", 240)
        yield browser
        errors = [e for e in browser.errors() if not re.search(mixed, e)]
        assert errors == [], '\n'.join(errors)


def upload(page, *paths, into='[class$=-files]'):
    page.type(into, '\n'.join(map(str, paths)))


def shown(page, text, seconds=120): return page.until(f'document.body.innerText.includes({text!r})', seconds)


def picture(page, name): # for somebody who looks: KSR_PICTURES=FOLDER
    if folder := os.environ.get('KSR_PICTURES'): (Path(folder)/f'{name}.png').write_bytes(page.screenshot())


def test_a_good_track_is_read(page, server):
    picture(page, 'start')
    upload(page, *sorted(track.glob('lr-*')))
    shown(page, 'confidence', 240), shown(page, 'submission.zip')
    picture(page, 'good')
    text = page.value("document.querySelector('.ksr .text').innerText")
    assert text.startswith('USY4B10') and 'track' in text
    for word in ('Mercosur', 'read', 'needs review', 'cannot be read', 'lr-001', 'seen from the front', 'Restored'): shown(page, word)
    assert page.value("[...document.querySelectorAll('.ksr img')].every(i => i.naturalWidth > 0)")


def test_a_zip_of_tracks_is_paged_through(page, tmp_path):
    tracks = sorted((root/'data'/'sample').glob('*/*/track_*'), key=lambda p: p.name)[:2]
    with zipfile.ZipFile(tmp_path/'tracks.zip', 'w') as archive:
        for t in tracks: [archive.write(p, f'{t.name}/{p.name}') for p in t.glob('lr-*')]
    upload(page, tmp_path/'tracks.zip')
    shown(page, '1 of 2'), shown(page, 'submission.zip')
    page.press('next')
    shown(page, '2 of 2'), shown(page, tracks[1].name)
    page.press('previous')
    shown(page, '1 of 2'), shown(page, tracks[0].name)
    lines = page.value("fetch(document.querySelector('a[download=\"submission.txt\"]').href).then(r => r.text())")
    assert [line.split(',')[0] for line in lines.splitlines()] == [t.name for t in tracks]
    page.press('evidence report')
    shown(page, f'{tracks[0].name}.html', 240)
    report = page.value(f"fetch(document.querySelector('a[download=\"{tracks[0].name}.html\"]').href).then(r => r.text())")
    assert 'SHA-256' in report and lines.split(',')[1][:7] in report


def test_broken_and_oversized_uploads_are_refused(page, tmp_path, server):
    (tmp_path/'broken.zip').write_bytes(b'PK\3\4 and no more')
    upload(page, tmp_path/'broken.zip')
    shown(page, 'broken.zip: is no zip file, or a broken one')
    picture(page, 'broken')
    (tmp_path/'lr-001.png').write_bytes(b'')
    upload(page, tmp_path/'lr-001.png')
    shown(page, 'track/lr-001.png: is not an image (the file is empty); expected PNG or JPEG data')
    with open(tmp_path/'huge.mp4', 'wb') as file: file.truncate(2**28 + 2**20)
    upload(page, tmp_path/'huge.mp4')
    shown(page, 'the upload holds 257.0 MB; expected at most 256')
    picture(page, 'oversized')
    (tmp_path/'bomb.zip').write_bytes(b'')
    with zipfile.ZipFile(tmp_path/'bomb.zip', 'w', zipfile.ZIP_DEFLATED) as archive:
        with archive.open('zeros.png', 'w') as file:
            for _ in range(1100): file.write(bytes(2**20))
    upload(page, tmp_path/'bomb.zip')
    shown(page, 'the upload holds 1100.0 MB; expected at most 1024')
    kept = [p for p in server[1].rglob('ksr-viewer-*/*/*') if 'sent' in p.parts]
    assert kept == [], kept


def test_more_than_a_message_of_ten_megabytes(page, tmp_path):
    (tmp_path/'clip.mp4').write_bytes(bytes(12 * 2**20))
    upload(page, tmp_path/'clip.mp4')
    shown(page, 'is no video, or is cut off')


def test_a_plate_is_marked_and_read(page, tmp_path):
    from ksr.clips import sample_photo
    from ksr.tracks import encode_image
    scene = sample_photo()
    (tmp_path/'photo.jpg').write_bytes(encode_image(scene.pictures[0], 'jpg'))
    upload(page, tmp_path/'photo.jpg')
    shown(page, 'submission.zip', 240)
    page.press('mark a plate')
    page.until("document.querySelector('.ksr-mark svg')")
    h, w = scene.pictures[0].shape[1:]
    for n, (x, y) in enumerate(scene.corners[0, 0].tolist()):
        page.until(f"document.querySelectorAll('.ksr-mark svg circle').length == {n}")
        page.value(f"""(() => {{
            const svg = document.querySelector('.ksr-mark svg')
            svg.scrollIntoView()
            const b = svg.getBoundingClientRect(), at = {{clientX: b.left + {x} / {w} * b.width, clientY: b.top + {y} / {h} * b.height, bubbles: true}}
            svg.dispatchEvent(new MouseEvent('click', at))
        }})()""")
    shown(page, '--corners')
    picture(page, 'marked')
    page.press('read this plate')
    shown(page, '4 of 4'), shown(page, 'photo.jpg#4'), shown(page, scene.texts[0]), shown(page, 'In the photograph')
    page.until("!document.querySelector('.ksr-mark')")
    page.value("document.querySelector('.ksr .text').scrollIntoView()")
    picture(page, 'photo')


def test_narrow(page):
    page.size(420, 900)
    upload(page, *sorted(track.glob('lr-*')))
    shown(page, 'USY4B10'), shown(page, 'submission.zip')
    picture(page, 'narrow')
    wide = page.value("[document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1] + 1, wide


def test_nobody_else_gets_in(server):
    from urllib.error import HTTPError
    from urllib.request import ProxyHandler, build_opener
    address = server[0].split('?')[0]
    opener = build_opener(ProxyHandler({}))
    for path in ('', 'api/kernels'):
        try: answer = opener.open(address + path, timeout=60)
        except HTTPError as e: assert e.code in (401, 403)
        else: assert 'login' in answer.url
