"""Evidence reports: written and verified by processes, opened in a real browser. The planted changes stand in 23_evidence.ipynb."""
import hashlib, json, os, re, shutil, subprocess

import pytest
import torch
from browser import Browser, programs
from conftest import call, env, root, scripts

from ksr.core import KSRError
from ksr.evidence import Examiner, examine, load_record, problems_of, write_report
from ksr.tracks import Track, write_track

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


def test_a_report_names_the_photograph_and_the_clip(tmp_path):
    (photo,), (clip,) = ((root/'data/sample-media').glob(kind) for kind in ('*.jpg', '*.mp4'))
    done = call('ksr_read', photo, clip, '--device', 'cpu', '--tracks', tmp_path/'cut', '--report', tmp_path/'out', '--json', tmp_path/'all.json', limit=600)
    assert done.code == 0, done.err
    read = {r['track']: r for r in json.loads((tmp_path/'all.json').read_text())['readings']}
    reports = sorted((tmp_path/'out').glob('*.json'))
    assert len(reports) == len(read) > 1
    for path in reports:
        record, whole = json.loads(path.read_text()), read[path.stem]
        source, file = record['inputs']['source'], photo if path.stem.startswith(photo.name) else clip
        assert (source['file'], source['sha256'], source['plate']) == (file.name, hashlib.sha256(file.read_bytes()).hexdigest(), path.stem)
        assert source['frames'] == whole['sightings'] and source['span'] == list(whole['span'])
        assert [f['file'] for f in source['frames']] == [f['file'] for f in record['frames']] and not record['reading']['problems']
        page = path.with_suffix('.html').read_text()
        assert source['sha256'] in page and ('time, s' in page) == (file == clip)
    first = tmp_path/'cut'/reports[0].stem
    shutil.copy(first/'lr-001.png', first/'lr-099.png')
    done = call('ksr_verify', reports[0])
    assert done.code == 1 and 'lr-099.png: was added after the report; expected only the files that it names' in done.out, done.out
    done = call('ksr_read', first, '--device', 'cpu', '--report', tmp_path/'unknown')
    assert done.code == 1 and 'source.json: does not name lr-099.png' in done.err and not list((tmp_path/'unknown').glob('*')), done.err
    (first/'lr-099.png').unlink()
    (first/'source.json').write_text('{"format": "ksr-source/1"}')
    done = call('ksr_read', first, '--device', 'cpu', '--report', tmp_path/'again')
    assert done.code == 1 and 'source.json: is not what belongs there' in done.err and 'Traceback' not in done.err, done.err


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


def test_another_kind_of_cpu_is_said_first(reported):
    folder, first = reported
    done = subprocess.run([scripts/'ksr_verify', folder/'out'/f'{first.name}.json'], env=env | dict(ONEDNN_MAX_CPU_ISA='AVX2'), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1 and re.match('computed on another kind of CPU: cpu: reported .*, now .*ONEDNN_MAX_CPU_ISA=AVX2\n', done.stdout), done.stdout + done.stderr


@pytest.mark.parametrize('make', [os.mkfifo, lambda p: p.symlink_to('/dev/zero'), lambda p: os.truncate(os.open(p, os.O_CREAT | os.O_WRONLY), 2**40)], ids=['pipe', 'device', 'endless'])
@pytest.mark.parametrize('suffix', ['json', 'html'])
def test_pipes_devices_and_endless_files(make, suffix, reported, tmp_path):
    folder, first = reported
    for kind in ('json', 'html'): shutil.copy(folder/'out'/f'{first.name}.{kind}', tmp_path)
    (path := tmp_path/f'{first.name}.{suffix}').unlink()
    make(path)
    done = call('ksr_verify', tmp_path/f'{first.name}.json', limit=60)
    assert done.code == 2 and path.name in done.err and 'expected' in done.err and len(done.err.splitlines()) == 1, done.err


@pytest.mark.parametrize('name, data', [('metrics.json', b'{'), ('metrics.json', b'[]'), ('evidence.json', b'{}'), ('evidence.json', b'[]'), ('md', b'\xff')])
def test_files_beside_the_weights_are_checked_before_anything_is_read(name, data, synthetic, weights, tmp_path):
    mine = shutil.copy(weights, tmp_path/'mine.safetensors')
    (tmp_path/f'mine.{name}').write_bytes(data)
    done = call('ksr_read', synthetic, '--weights', mine, '--device', 'cpu', '--report', tmp_path/'out')
    assert (done.code, done.out) == (1, '') and f'mine.{name}: is not what belongs there' in done.err and 'expected' in done.err and len(done.err.splitlines()) == 1, done.err
    assert not (tmp_path/'out').exists()


# tracks of every kind that can be read

noise = lambda h, w: torch.randint(0, 256, (3, h, w), dtype=torch.uint8, generator=torch.Generator().manual_seed(h * w))
plain = lambda h, w, v: torch.full((3, h, w), v, dtype=torch.uint8)
odd_frames = dict(one=[noise(20, 50)], fifteen=[noise(12, 30 + k) for k in range(15)], black=[plain(20, 50, 0)] * 5, one_is_black=[noise(20, 50), plain(20, 50, 0), noise(20, 50)], white=[plain(20, 50, 255)],
    smallest=[plain(4, 4, 9)] * 3, one_smallest=[noise(4, 4)], flat=[noise(4, 60)] * 2, narrow=[noise(60, 4)] * 2, of_other_sizes=[noise(4, 4), noise(90, 110), noise(20, 60)])
quads = dict(folded=((1, 1), (48, 18), (48, 1), (1, 18)), one_line=((1, 1), (20, 1), (30, 1), (48, 1)), one_point=((5, 5),) * 4, mirrored=((48, 1), (1, 1), (1, 18), (48, 18)),
    outside=((500, 500), (600, 500), (600, 550), (500, 550)), far=((-90000, -90000), (90000, -90000), (90000, 90000), (-90000, 90000)), within_a_pixel=((5, 5), (5.5, 5), (5.5, 5.3), (5, 5.3)),
    triangle=((1, 1), (48, 1), (48, 18), (48, 1)))


@pytest.fixture(scope='module')
def examiners(weights): return {corners: Examiner.from_pretrained(str(weights), 'cpu', corners) for corners in ('found', 'given')}


@pytest.mark.parametrize('name', [*odd_frames, *quads])
def test_odd_tracks_have_reports_that_verify(name, examiners, tmp_path):
    frames, examiner = odd_frames.get(name, [noise(20, 50)] * 2), examiners['given' if name in quads else 'found']
    files = [f'lr-{k:03}.png' for k in range(1, len(frames) + 1)]
    write_track(Track(name, frames, files), tmp_path/name)
    if name in quads: (tmp_path/name/'corners.json').write_text(json.dumps({file[:-4]: quads[name] for file in files}))
    record, page = load_record(write_report(examiner, tmp_path/name, tmp_path/'out'))
    assert len(record['frames']) == len(frames) and (len(frames) > 1) == (record['restored']['score'] is not None)
    assert problems_of(record, page, tmp_path/name, *examine(examiner, tmp_path/name, record['inputs']['folder'])) == []


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
