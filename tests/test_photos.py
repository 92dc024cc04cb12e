"""Marked photographs, through the real commands: cut out, scored, refused."""
import csv, json

import pytest
from conftest import call
from PIL import Image


def turned(size, corners, k): # corners of a picture that was turned k times by 90° against the clock
    for _ in range(k): size, corners = size[::-1], [(y, size[0] - x) for x, y in corners]
    return corners


@pytest.fixture(scope='module')
def tracks():
    "Six synthetic tracks: their middle frame stands in for a plate in a photograph"
    from ksr.tracks import SyntheticTracks
    return [t for t, *_ in SyntheticTracks(8, scenario='A', severity=(0., .2)).tracks(range(6))]


@pytest.fixture
def photos(tmp_path, tracks):
    "Photographs of our own, turned by 0°, 90°, …; the last plate has no text"
    from ksr.tracks import corner_names
    folder, rows = tmp_path/'photos', []
    folder.mkdir()
    for k, t in enumerate(tracks):
        photo = Image.new('RGB', (320, 240), (90, 100, 110))
        photo.paste(Image.fromarray(t.frames[2].permute(1, 2, 0).numpy()), (120, 70))
        corners = [(120 + x, 70 + y) for x, y in (t.corners['lr-003.png'][name] for name in corner_names)]
        photo.rotate(90 * (k % 4), expand=True).save(folder/f'{k}.png')
        text = (t.text, t.layout) if k < 5 else ('', '')
        rows.append((f'{k}.png', *text, ';'.join(f'{x:.2f},{y:.2f}' for x, y in turned(photo.size, corners, k % 4))))
    with open(folder/'photos.csv', 'w', newline='', encoding='utf-8') as file: csv.writer(file).writerows([('file', 'text', 'layout', 'plates'), *rows])
    return folder


def test_plates_come_back_and_can_be_scored(photos, tracks, tmp_path, weights):
    from ksr.tracks import corner_names, read_tracks
    done = call('ksr_photos', photos, tmp_path/'out', '--margin', '0.05')
    assert done.code == 0 and done.out.startswith('5 tracks, listed in ') and not done.err, done.err
    back = list(read_tracks(tmp_path/'out', labelled=True))
    assert sorted((t.id, t.text, t.layout) for t in back) == [(f'track_{k:05}', t.text, t.layout) for k, t in enumerate(tracks[:5], 1)]
    for found, synthetic in zip(back, tracks):
        (x, y), (u, v) = (t.corners[name]['top-left'] for t, name in ((found, 'lr-001.png'), (synthetic, 'lr-003.png')))
        shift = [round(a - b) for a, b in ((x, u), (y, v))] # whole pixels: nothing was resampled
        for name in corner_names:
            for a, b, s in zip(found.corners['lr-001.png'][name], synthetic.corners['lr-003.png'][name], shift): assert abs(a - b - s) < .011
        frame, whole = found.frames[0], synthetic.frames[2]
        left, top = max(0, -shift[0]), max(0, -shift[1])
        piece = whole[:, top:, left:][:, :8, :20]
        assert piece.equal(frame[:, top + shift[1]:, left + shift[0]:][:, :8, :20])
    scored = call('ksr_eval', tmp_path/'out', '--weights', weights, '--device', 'cpu', '--json', tmp_path/'scores.json')
    assert scored.code == 0, scored.err
    assert len(json.loads((tmp_path/'scores.json').read_text(encoding='utf-8'))['readings']) == 5


def test_width_and_plates_without_a_text(photos, tmp_path):
    assert call('ksr_photos', photos, tmp_path/'out', '--width', 30, '--all').code == 0
    rows = list(csv.DictReader(open(tmp_path/'out'/'manifest.csv', encoding='utf-8')))
    assert [r['track'] for r in rows] == [f'track_{k:05}' for k in range(1, 7)] and all(abs(float(r['plate_width']) - 30) < .02 for r in rows)
    assert rows[-1]['text'] == '' and (tmp_path/'out'/'unknown'/'track_00006'/'lr-001.png').is_file()


def test_refuses_a_folder_that_is_not_empty(photos, tmp_path):
    (tmp_path/'out').mkdir()
    (tmp_path/'out'/'mine.txt').write_text('kept')
    done = call('ksr_photos', photos, tmp_path/'out')
    assert done.code != 0 and 'is not empty' in done.err and 'Traceback' not in done.err
    assert [p.name for p in (tmp_path/'out').iterdir()] == ['mine.txt']


@pytest.mark.parametrize('folder, options, expected', [('photos', ['--width', 500], 'expected a plate 4 to 433'), ('photos', ['--width', 300], 'at least 300 pixels'),
    ('nowhere', [], 'photos.csv'), ('.', [], 'neither photos.csv nor corners.csv')])
def test_wrong_options_say_what_is_right(photos, tmp_path, folder, options, expected):
    done = call('ksr_photos', tmp_path/folder, tmp_path/'out', *options)
    assert done.code != 0 and expected in done.err and 'Traceback' not in done.err
    assert not (tmp_path/'out').exists()


def test_bad_rows_are_named_and_never_stop_the_rest(photos, tmp_path):
    lines = (photos/'photos.csv').read_text(encoding='utf-8').splitlines()
    (photos/'0.png').write_bytes(b'')
    (photos/'1.png').unlink()
    lines[3] = lines[3].rsplit(',', 1)[0] + '"' # the last number is cut off
    (photos/'photos.csv').write_text('\n'.join(lines) + '\n', encoding='utf-8')
    done = call('ksr_photos', photos, tmp_path/'out')
    assert done.code == 1 and 'Traceback' not in done.err
    for name, line in (('0.png', 2), ('1.png', 3), ('2.png', 4)):
        assert any(f'/{name}: photos.csv, line {line}: ' in said and '; expected' in said for said in done.err.splitlines()), done.err
    assert sorted(p.name for p in (tmp_path/'out').glob('*/track_*')) == ['track_00004', 'track_00005']
