"""Evidence reports: written and verified by processes, opened in a real browser. The planted changes stand in 23_evidence.ipynb."""
import json, re, shutil, subprocess

import pytest
from browser import Browser, programs
from conftest import call, env, root, scripts

odd = '<script>alert(1)<!-- & "x" ä'


@pytest.fixture(scope='module')
def reported(tmp_path_factory):
    "Two tracks of the sample, one of them named like HTML, and their reports"
    folder = tmp_path_factory.mktemp('reported')
    first, second = sorted(p for p in (root/'data/sample').rglob('track_*') if p.is_dir())[:2]
    shutil.copytree(first, folder/'in'/first.name)
    shutil.copytree(second, folder/'in'/odd)
    done = call('ksr_read', folder/'in', '--device', 'cpu', '--report', folder/'out')
    assert done.code == 0, done.err
    assert sorted(p.name for p in (folder/'out').iterdir()) == sorted(f'{name}.{kind}' for name in (first.name, odd) for kind in ('html', 'json'))
    return folder, first


def test_verified_in_another_folder_by_other_threads(reported, tmp_path):
    folder, first = reported
    for name in ('in', 'out'): shutil.copytree(folder/name, tmp_path/name)
    more = env | dict.fromkeys(('OMP_NUM_THREADS', 'MKL_NUM_THREADS'), '2')
    for name in (first.name, odd):
        done = subprocess.run([scripts/'ksr_verify', tmp_path/'out'/f'{name}.html'], cwd=tmp_path, env=more, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240)
        assert (done.returncode, done.stdout) == (0, f'{name}: identical\n'), done.stdout + done.stderr
    done = call('ksr_verify', tmp_path/'out'/f'{first.name}.json', '--inputs', first)
    assert (done.code, done.out) == (0, f'{first.name}: identical\n'), done.out + done.err


def test_what_differs_is_named(reported, tmp_path):
    folder, first = reported
    for name in ('in', 'out'): shutil.copytree(folder/name, tmp_path/name)
    file = sorted((tmp_path/'in'/first.name).glob('lr-*'))[1]
    file.write_bytes(file.read_bytes() + b' ') # the same pixels, another file
    done = call('ksr_verify', tmp_path/'out'/f'{first.name}.json')
    assert done.code == 1 and done.out.startswith(f'{file.name}: SHA-256 ') and done.out.endswith(f'{first.name}: NOT identical\n'), done.out


@pytest.mark.parametrize('text, said', [('', 'cannot be read'), ('[]', 'another kind of JSON'), ('{"format": "ksr-report/1"}', 'required property'), ('[' * 10**5, 'cannot be read')])
def test_what_is_no_report_is_said_in_clear_lines(text, said, tmp_path):
    (tmp_path/'r.json').write_text(text)
    done = call('ksr_verify', tmp_path/'r.json')
    assert done.code == 2 and said in done.err and 'Traceback' not in done.err and all(line.startswith('error: ') for line in done.err.splitlines()), done.err


def test_refused_before_anything_is_read(synthetic, weights, tmp_path):
    (tmp_path/'file').write_text('')
    for folder in (tmp_path/'file', tmp_path/'file'/'below'):
        done = call('ksr_read', synthetic, '--weights', weights, '--device', 'cpu', '--report', folder)
        assert (done.code, done.out) == (1, '') and 'expected a folder' in done.err and len(done.err.splitlines()) == 1, done.err


@pytest.mark.skipif(None in programs.values(), reason='there is no Chromium with ChromeDriver here (Debian: chromium, chromium-driver)')
def test_opened_in_a_browser(reported):
    folder, first = reported
    with Browser() as browser:
        for name in (first.name, odd):
            browser.open(folder/'out'/f'{name}.html')
            frames = len(json.loads((folder/'out'/f'{name}.json').read_text(encoding='utf-8'))['frames'])
            widths = browser.value('[...document.images].map(i => i.complete ? i.naturalWidth : 0)')
            assert len(widths) == 4 * frames + 5 and min(widths) > 0
            assert browser.value('document.querySelector("h1").textContent') == f'Evidence report: {name}'
            assert browser.value('document.scripts.length') == 0
            for width in (400, 1400): # nothing is cut off at the side
                browser.size(width)
                assert browser.value('document.documentElement.scrollWidth <= window.innerWidth'), width
                assert min(browser.value('[...document.images].map(i => i.getBoundingClientRect().width)')) > 100
            pdf = browser.pdf()
            assert pdf.startswith(b'%PDF') and len(re.findall(rb'/Type /Page\b', pdf)) >= 3
            assert len(re.findall(rb'/Subtype /Image', pdf)) >= len(set(browser.value('[...document.images].map(i => i.src)')))
            assert browser.errors() == []
