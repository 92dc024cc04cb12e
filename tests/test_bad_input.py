"""Bad input, through the real commands: it is named, and it never stops the rest."""
import json, re, shutil, zipfile

import pytest
from conftest import call
from PIL import Image

line = re.compile(r'track_\d{5},[A-Z0-9]{7};[01]\.\d{4}')


def tracks(folder):
    "track id → its folder"
    return {p.name: p for p in sorted(folder.glob('*/*/track_*'))}


def said(err, *parts):
    "Is there one line that holds all the parts?"
    return any(all(part in text for part in parts) for text in err.splitlines())


def first(track): return next(p for p in sorted(track.iterdir()) if p.name.startswith('lr-001'))


def empty(track):
    for p in track.iterdir(): p.unlink()


def truncate(track):
    path = first(track)
    path.write_bytes(path.read_bytes()[:len(path.read_bytes()) // 2])


def text_as_png(track):
    first(track).unlink()
    (track/'lr-001.png').write_text('this is no image')


def of_size(*size):
    def corrupt(track): Image.new('RGB', size).save(first(track))
    return corrupt


def broken_json(track): (track/'annotations.json').write_text('{"plate_text": ')


def three_frames(track):
    for k in (2, 4): next(track.glob(f'lr-{k:03}.*')).unlink()


# track → what is done to it, the file named on standard error, what is found, what was expected, is it a failure, is it still read?
harms = {
    'track_00001': (truncate, '/lr-001', 'truncated', 'expected a complete image', True, True),
    'track_00002': (empty, '', 'no readable frame', 'expected lr-001', True, False),
    'track_00003': (text_as_png, '/lr-001.png', 'not an image', 'expected PNG or JPEG', True, True),
    'track_00004': (of_size(1, 1), '/lr-001', '1 × 1', 'expected a plate crop', True, True),
    'track_00005': (of_size(4000, 3000), '/lr-001', '4000 × 3000', 'expected a plate crop', True, True),
    'track_00006': (broken_json, '/annotations.json', 'broken JSON', 'expected {', True, True),
    'track_00007': (three_frames, '', 'read with 3 frames', 'expected 5', False, True),
}


@pytest.fixture(scope='module')
def corrupted(synthetic, weights, tmp_path_factory):
    "One run over a folder of corrupted and whole tracks, and what it left"
    folder = tmp_path_factory.mktemp('corrupted')
    shutil.copytree(synthetic, folder/'tracks')
    for track, (corrupt, *_) in harms.items(): corrupt(tracks(folder/'tracks')[track])
    done = call('ksr_read', folder/'tracks', folder/'nowhere', '--weights', weights, '--device', 'cpu', '--out', folder/'sub.zip', '--json', folder/'r.json', '--restored', folder/'restored')
    return folder, done


@pytest.mark.parametrize('track', harms)
def test_message(corrupted, track):
    _, file, found, expected, failure, _ = harms[track]
    assert said(corrupted[1].err, 'error: ' if failure else 'warning: ', track + file, found, expected), corrupted[1].err


def test_missing_folder_is_named(corrupted):
    assert said(corrupted[1].err, 'error: nowhere', 'does not exist', 'expected'), corrupted[1].err


def test_whole_tracks_are_not_mentioned(corrupted):
    for track in set(tracks(corrupted[0]/'tracks')) - set(harms): assert track not in corrupted[1].err


def test_nothing_is_lost(corrupted):
    folder, done = corrupted
    readable = sorted(set(tracks(folder/'tracks')) - {t for t, (*_, read) in harms.items() if not read})
    lines = done.out.splitlines()
    assert all(map(line.fullmatch, lines)) and [text[:11] for text in lines] == readable
    with zipfile.ZipFile(folder/'sub.zip') as z: assert z.read('sub.txt').decode().splitlines() == lines
    assert sorted(p.stem for p in (folder/'restored').iterdir()) == readable
    readings = {r['track']: r for r in json.loads((folder/'r.json').read_text(encoding='utf-8'))['readings']}
    assert set(readings) == {*tracks(folder/'tracks'), 'nowhere'}
    for track in harms: assert readings[track]['problems'], track
    assert readings['track_00001']['frames_used'] == 4 and readings['track_00007']['frames_used'] == 3


def test_no_traceback_and_a_failure(corrupted):
    assert corrupted[1].code == 1 and 'Traceback' not in corrupted[1].err


def test_a_warning_is_no_failure(synthetic, weights, tmp_path):
    shutil.copytree(tracks(synthetic)['track_00008'], tmp_path/'track_00008')
    three_frames(tmp_path/'track_00008')
    done = call('ksr_read', tmp_path, '--weights', weights, '--device', 'cpu')
    assert done.code == 0 and line.fullmatch(done.out.strip()), done
    assert said(done.err, 'warning: track_00008', 'read with 3 frames', 'expected 5', 'lr-002', 'lr-004')


def test_scoring_needs_a_text(synthetic, weights, tmp_path):
    shutil.copytree(synthetic, tmp_path/'tracks')
    a, b = tracks(tmp_path/'tracks')['track_00001'], tracks(tmp_path/'tracks')['track_00002']
    (a/'annotations.json').write_text(json.dumps(dict(plate_layout='Brazilian', corners={})))
    (b/'annotations.json').unlink()
    done = call('ksr_eval', tmp_path/'tracks', '--weights', weights, '--device', 'cpu', '--json', tmp_path/'e.json')
    assert done.code == 1 and 'Traceback' not in done.err
    assert said(done.err, 'error: track_00001/annotations.json', 'plate_text', 'expected')
    assert said(done.err, 'error: track_00002/annotations.json', 'missing', 'expected')
    assert re.search(r'\b10\b', done.out), done.out
    assert len(json.loads((tmp_path/'e.json').read_text(encoding='utf-8'))['readings']) == 12


def test_two_tracks_of_one_name_are_refused(synthetic, weights, tmp_path):
    for folder in ('a', 'b'): shutil.copytree(tracks(synthetic)['track_00001'], tmp_path/'in'/folder/'track_00001')
    shutil.copytree(tracks(synthetic)['track_00002'], tmp_path/'in'/'b'/'track_00002')
    done = call('ksr_read', tmp_path/'in'/'a', tmp_path/'in'/'b', '--weights', weights, '--device', 'cpu', '--out', tmp_path/'sub.zip', '--json', tmp_path/'r.json', '--restored', tmp_path/'restored')
    assert done.code == 1 and done.out == '' and [p.name for p in tmp_path.iterdir()] == ['in']
    assert len(done.err.splitlines()) == 1 and said(done.err, 'error: track_00001', str(tmp_path/'in'/'a'/'track_00001'), str(tmp_path/'in'/'b'/'track_00001'), 'expected'), done.err


@pytest.mark.parametrize('options, found', [(['--weights', 'no_such_weights'], 'no_such_weights'), (['--device', 'abacus'], 'expected auto, cpu, cuda')])
def test_a_wrong_option_is_one_line(synthetic, weights, options, found):
    done = call('ksr_read', synthetic, *(['--weights', weights] if '--weights' not in options else []), *options)
    assert done.code == 1 and done.out == '' and found in done.err and 'Traceback' not in done.err, done.err
