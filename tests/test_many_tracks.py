"""Many tracks: memory does not grow with them, what is written comes as it is read, and a run that is stopped leaves no half file."""
import json, shutil, subprocess, threading, weakref, zipfile
from itertools import count

import pytest
import torch
from conftest import env, root, scripts
from PIL import Image

from ksr import reading as R
from ksr.core import best_dtype
from ksr.rectifier import Placed

number, ahead = 200, 2 * torch.get_num_threads() + 1 # tracks; at most so many are read before the first of them is wanted


class Quick(R.Reader):
    "Reads noise, at once"
    def __init__(self, stop_after=None): self.net, self.weights, self.stop_after, self.calls = torch.nn.Linear(1, 1), '0' * 64, stop_after, count(1)

    def read_batch(self, tracks):
        call = next(self.calls)
        if self.stop_after and call > self.stop_after: raise KeyboardInterrupt
        B, T = tracks.size.shape[:2]
        log_p = torch.randn(B, T, 7, 36, generator=torch.Generator().manual_seed(call)).log_softmax(-1)
        placed = Placed(tracks.frames, torch.zeros(B, T, 4, 2), torch.zeros(B, T, 4), torch.eye(3).expand(B, T, 3, 3), torch.zeros(B))
        return dict(restored=torch.rand(B, 3, 64, 192), log_p=log_p[:, 0], by_branch=dict(joint=log_p), each=log_p, placed=placed, asis=torch.zeros(B).bool())


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    "Folders of tiny tracks: `whole` ones, `broken` ones without a frame, both `mixed`"
    folder = tmp_path_factory.mktemp('small')
    for k in range(number):
        for kind in ('whole', 'broken', 'mixed'):
            track = folder/kind/f'track_{k:05}'
            track.mkdir(parents=True)
            (track/'annotations.json').write_text(json.dumps(dict(plate_text='ABC1234', plate_layout='Brazilian')))
            if kind == 'broken' or (kind == 'mixed' and k % 2): continue
            for t in range(1, 6): Image.new('RGB', (12, 8), (k, 40 * t, 0)).save(track/f'lr-{t:03}.png')
    return folder


@pytest.fixture
def most_alive(monkeypatch):
    "The most readings, tracks with pixels and bytes of pictures that were alive at once, as a dict that is filled while tracks are read"
    readings, tracks, most, lock = [], [], dict(readings=0, tracks=0, picture_bytes=0), threading.Lock()

    def kept(things): # those still alive
        things[:] = [ref for ref in things if ref() is not None]
        return [ref() for ref in things]

    def watched(make, things):
        def made(*args, **options):
            thing = make(*args, **options)
            with lock:
                things.append(weakref.ref(thing))
                alive, pixels = kept(readings), [t for t in kept(tracks) if t and (t.frames or t.problems)]
                pictures = {p.data_ptr(): p.nbytes() for r in alive if r and r.restored is not None for p in [r.restored.untyped_storage()]}
                for key, value in dict(readings=len(alive), tracks=len(pixels), picture_bytes=sum(pictures.values())).items(): most[key] = max(most[key], value)
            return thing
        return made

    monkeypatch.setattr(R, 'Reading', watched(R.Reading, readings))
    monkeypatch.setattr(R, 'read_track', watched(R.read_track, tracks))
    return most


@pytest.fixture
def quick(monkeypatch):
    "`Quick` instead of the reader of any weights"
    def replaced(**options): monkeypatch.setattr(R.Reader, 'from_pretrained', lambda *args, **more: Quick(**options))
    replaced()
    return replaced


@pytest.mark.parametrize('kind', ['whole', 'broken', 'mixed'])
@pytest.mark.parametrize('command', ['read', 'eval'])
def test_memory_does_not_grow(small, quick, most_alive, tmp_path, command, kind):
    if command == 'read': code = R.run_read([small/kind], out=tmp_path/'sub.txt', json=tmp_path/'r.json', restored=tmp_path/'restored')
    else: code = R.run_eval([small/kind], json=tmp_path/'r.json')
    assert code == (kind != 'whole')
    assert len(json.loads((tmp_path/'r.json').read_text(encoding='utf-8'))['readings']) == number
    most = ahead + 3 # the one being made, the last one, and one to spare
    assert 0 < most_alive['readings'] <= most and most_alive['tracks'] <= most and most_alive['picture_bytes'] <= most * 147456, most_alive


@pytest.mark.parametrize('out', ['sub.txt', 'sub.zip'])
def test_files_are_those_of_one_piece(small, quick, monkeypatch, tmp_path, capsys, out):
    "Byte for byte what dumping everything at the end would have made, before and after"
    readings, make = [], R.make_reading
    def kept(*args):
        readings.append(make(*args))
        return readings[-1]
    monkeypatch.setattr(R, 'make_reading', kept)
    assert R.run_read([small/'whole', tmp_path/'nowhere'], out=tmp_path/out, json=tmp_path/'r.json') == 1
    readings.sort(key=lambda r: r.track) # made side by side
    problem = R.Problem('nowhere', '', f'{tmp_path}/nowhere: does not exist; expected a track folder or a folder above tracks')
    readings.sort(key=lambda r: r.track)
    known = dict(device='cpu', precision=str(best_dtype(torch.device('cpu'))).removeprefix('torch.'))
    entries = [r.as_dict() for r in [R.Reading('nowhere', problems=[problem]), *readings]]
    assert (tmp_path/'r.json').read_text(encoding='utf-8') == json.dumps(dict(weights_sha256='0' * 64, readings=entries, **known), indent=1)
    text = ''.join(f'{r.line}\n' for r in readings)
    assert text == capsys.readouterr().out
    if out == 'sub.txt':
        assert (tmp_path/out).read_text(encoding='utf-8') == text
        return
    with zipfile.ZipFile(tmp_path/'whole.zip', 'w') as z: z.writestr(zipfile.ZipInfo('sub.txt', (1980, 1, 1, 0, 0, 0)), text)
    assert (tmp_path/out).read_bytes() == (tmp_path/'whole.zip').read_bytes()


def test_the_table_comes_after_the_readings(small, quick, tmp_path):
    R.run_eval([small/'mixed'], json=tmp_path/'e.json')
    found = json.loads((tmp_path/'e.json').read_text(encoding='utf-8'))
    assert list(found) == ['weights_sha256', 'readings', 'device', 'precision', 'table'] and found['table'][0]['n'] == number
    assert (tmp_path/'e.json').read_text(encoding='utf-8') == json.dumps(found, indent=1)


def test_lines_and_plates_come_at_once_files_at_the_end(small, quick, tmp_path, capsys):
    "Stopped while a track is read: what was read before is there in lines and plates, but for the few read ahead; the files are as they were, beside them the journal that --resume goes on from"
    quick(stop_after=100)
    (tmp_path/'sub.zip').write_text('as it was')
    with pytest.raises(KeyboardInterrupt): R.run_read([small/'whole'], out=tmp_path/'sub.zip', json=tmp_path/'r.json', restored=tmp_path/'restored')
    lines = capsys.readouterr().out.splitlines()
    assert 100 - ahead <= len(lines) <= 100 and len(lines) == len([Image.open(p).load() for p in (tmp_path/'restored').iterdir()])
    assert {p.name for p in tmp_path.iterdir()} == {'sub.zip', 'sub.zip.part', 'restored'} and (tmp_path/'sub.zip').read_text() == 'as it was'


def test_told_to_end_it_leaves_nothing_half(small, weights, tmp_path):
    command = [scripts/'ksr_read', small/'whole', '--weights', weights, '--device', 'cpu', '--out', tmp_path/'sub.zip', '--json', tmp_path/'r.json', '--restored', tmp_path/'restored']
    process = subprocess.Popen([*map(str, command)], cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout.readline() and process.stdout.readline() # before the second is said, the first is in the journal
        assert {p.suffix for p in tmp_path.iterdir() if p.name.startswith('.')} == {'.zip', '.json'} # begun, under names of their own
        process.terminate()
        assert process.wait(60) != 0
    finally: process.kill()
    assert {p.name for p in tmp_path.iterdir()} == {'restored', 'sub.zip.part'} and not list((tmp_path/'restored').glob('.*'))


@pytest.fixture
def doubled(small, tmp_path):
    "Two folders that share two names, and one name each of their own"
    for folder, names in dict(a=(1, 2, 3), b=(1, 2, 4)).items():
        for k in names: shutil.copytree(small/'whole'/'track_00001', tmp_path/'in'/folder/f'track_{k:05}')
    return tmp_path/'in'


@pytest.mark.parametrize('paths', [['.'], ['a', 'b'], ['b', 'a/track_00001', 'a/track_00002'], ['nowhere', 'a', 'b']])
def test_one_name_twice_is_refused_before_anything_is_read(doubled, monkeypatch, tmp_path, capsys, paths):
    for name in ('from_pretrained', 'read_batch'): monkeypatch.setattr(R.Reader, name, lambda *args, **more: pytest.fail('too late'))
    monkeypatch.setattr(R, 'read_track', lambda *args, **more: pytest.fail('too late'))
    with pytest.raises(SystemExit) as stopped:
        R.finish(lambda: R.run_read([doubled/p for p in paths], out=tmp_path/'sub.zip', json=tmp_path/'r.json', restored=tmp_path/'restored'))
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert stopped.value.code == 1 and said.out == '' and len(lines) == 2, said
    for line, name in zip(lines, ('track_00001', 'track_00002')):
        assert line.startswith(f'error: {name}: ') and all(str(doubled/folder/name) in line for folder in 'ab') and 'expected' in line
    assert [p.name for p in tmp_path.iterdir()] == ['in']


def test_the_same_folder_twice_is_one_track(doubled, quick, tmp_path, capsys):
    (tmp_path/'link').symlink_to(doubled/'a')
    assert R.run_read([doubled/'a', doubled/'a'/'track_00002', tmp_path/'link']) == 0
    assert [line[:11] for line in capsys.readouterr().out.splitlines()] == ['track_00001', 'track_00002', 'track_00003']


def test_scoring_tells_them_apart_by_path(doubled, quick, tmp_path, capsys):
    (doubled/'b'/'track_00002'/'lr-003.png').write_bytes(b'')
    assert R.run_eval([doubled/'a', doubled/'b'], json=tmp_path/'e.json') == 1
    readings = json.loads((tmp_path/'e.json').read_text(encoding='utf-8'))['readings']
    assert [r['path'] for r in readings] == [str(doubled/p) for p in ('a/track_00001', 'b/track_00001', 'a/track_00002', 'b/track_00002', 'a/track_00003', 'b/track_00004')]
    assert f'error: {doubled}/b/track_00002/lr-003.png' in capsys.readouterr().err
