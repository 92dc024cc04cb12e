"""What a person can do ends in one clear line that names the argument or the file, with a fitting exit code and nothing half written; a long job keeps what is done."""
import io, json, os, signal, socket, stat, subprocess, sys, tempfile, threading, time, warnings, zipfile
from pathlib import Path

import pytest
import torch
from conftest import env, root, scripts
from PIL import Image

from ksr import commands, reading as R
from ksr.card import ksr_card
from ksr.commands import ksr_read
from ksr.core import KSRError, atomic_write, best_device
from ksr.datasets import ksr_ccpd
from ksr.experiment import ksr_calibrate, ksr_train
from ksr.reading import ksr_eval
from ksr.rectifier import Placed
from ksr.tracks import find_tracks, ksr_photos, ksr_synth, read_track
from ksr.trust import ksr_trust


class Quick(R.Reader):
    "Reads noise, at once; `look` is called at every track"
    def __init__(self, look=lambda track: None, tta=('identity',)): self.weights, self.look, self.tta, self.seen = '0' * 64, look, tta, []

    device = torch.device('cpu')

    def read_alone(self, track):
        if track.frames:
            self.seen.append(track.id)
            self.look(track)
        return super().read_alone(track)

    def read_batch(self, tracks):
        B, T = tracks.size.shape[:2]
        log_p = torch.randn(B, T, 7, 36, generator=torch.Generator().manual_seed(int(tracks.native.long().sum()))).log_softmax(-1)
        placed = Placed(tracks.frames, torch.zeros(B, T, 4, 2), torch.zeros(B, T, 4), torch.eye(3).expand(B, T, 3, 3), torch.zeros(B))
        return dict(restored=torch.rand(B, 3, 64, 192, generator=torch.Generator().manual_seed(int(tracks.native.long().sum()))), log_p=log_p[:, 0], by_branch=dict(joint=log_p), each=log_p, placed=placed, asis=torch.zeros(B).bool())


def plate(folder, k, n=5):
    "A tiny track"
    track = folder/f'track_{k:05}'
    track.mkdir(parents=True)
    (track/'annotations.json').write_text(json.dumps(dict(plate_text='ABC1234', plate_layout='Brazilian')))
    for t in range(1, n + 1): Image.new('RGB', (12, 8), (k, 40 * t, 0)).save(track/f'lr-{t:03}.png')
    return track


@pytest.fixture
def few(tmp_path):
    "A folder of six tracks"
    for k in range(1, 7): plate(tmp_path/'in', k)
    return tmp_path/'in'


@pytest.fixture
def quick(monkeypatch):
    "`Quick` instead of the reader of any weights"
    def replaced(*args, **more):
        reader = Quick(*args, **more)
        monkeypatch.setattr(R.Reader, 'from_pretrained', lambda *a, **k: reader)
        return reader
    replaced()
    return replaced


@pytest.fixture
def too_late(monkeypatch):
    "Nothing may be read"
    for name in ('from_pretrained', 'read_batch'): monkeypatch.setattr(R.Reader, name, lambda *a, **k: pytest.fail('too late'))
    for place in (R, sys.modules['ksr.tracks']): monkeypatch.setattr(place, 'read_track', lambda *a, **k: pytest.fail('too late'))


@pytest.fixture
def ended(capsys):
    "Call a command: its exit code, the lines of standard output and of standard error; everything but an exit is an error of ours"
    def call(command, *args, **options):
        capsys.readouterr()
        code = 0
        plain = lambda v: str(v) if isinstance(v, Path) else list(map(plain, v)) if isinstance(v, list) else v
        try: command(*map(plain, args), **{k: plain(v) for k, v in options.items()})
        except SystemExit as e: code = e.code
        said = capsys.readouterr()
        assert isinstance(code, int), code
        return code, said.out.splitlines(), said.err.splitlines()
    return call


def one_line(answer, *parts, code=1):
    "One clear line, nothing else"
    assert answer[0] == code and answer[1] == [] and len(answer[2]) == 1, answer
    assert answer[2][0].startswith('error: ') and all(str(part) in answer[2][0] for part in parts) and 'Errno' not in answer[2][0], answer


def below(folder): return sorted(str(p.relative_to(folder)) for p in folder.rglob('*'))


# where nothing can be written: found out before anything is read

writing = { # command and option → (function(ended, input, place), what the option writes)
    'ksr_read --out': (lambda go, few, at: go(ksr_read, [few], out=at), '.txt'),
    'ksr_read --json': (lambda go, few, at: go(ksr_read, [few], json=at), '.json'),
    'ksr_read --answers': (lambda go, few, at: go(ksr_read, [few], answers=at, error_rate=.01), '.csv'),
    'ksr_eval --json': (lambda go, few, at: go(ksr_eval, [few], json=at), '.json'),
    'ksr_trust --out': (lambda go, few, at: go(ksr_trust, 'small', out=at), '.json'),
    'ksr_trust --record': (lambda go, few, at: go(ksr_trust, 'small', record=at), '.json'),
    'ksr_calibrate --out': (lambda go, few, at: go(ksr_calibrate, 'small', tracks=4, out=at), '.safetensors'),
    'ksr_read --restored': (lambda go, few, at: go(ksr_read, [few], restored=at), '/'),
    'ksr_read --tracks': (lambda go, few, at: go(ksr_read, [few], tracks=at), '/'),
    'ksr_synth': (lambda go, few, at: go(ksr_synth, at, n=1), '/'),
    'ksr_photos': (lambda go, few, at: go(ksr_photos, few.parent/'photos', at), '/'),
    'ksr_ccpd': (lambda go, few, at: go(ksr_ccpd, few, out=at), '/'),
    'ksr_train': (lambda go, few, at: go(ksr_train, at, ['scale=3'], device='cpu'), '/')}
files, folders = ([name for name, (_, kind) in writing.items() if (kind == '/') == folder] for folder in (False, True))


def prepared(few):
    "Photographs with marks beside the tracks, as `ksr_photos` wants them"
    photos = few.parent/'photos'
    photos.mkdir()
    Image.new('RGB', (80, 40)).save(photos/'a.png')
    (photos/'photos.csv').write_text('file,text,layout,plates\na.png,ABC1D23,Mercosur,"4,3;60,3;60,21;4,21"\n')


@pytest.fixture
def unwritten(few, too_late, monkeypatch, ended):
    "Call one of `writing` with a place that cannot be written to; nothing may change"
    prepared(few)
    monkeypatch.setattr('ksr.experiment.load_net', lambda *a, **k: pytest.fail('too late'))
    monkeypatch.setattr('ksr.tracks.SyntheticTracks.draw', lambda *a, **k: pytest.fail('too late'))
    monkeypatch.setattr('ksr.tracks.load_photo', lambda *a, **k: pytest.fail('too late'))
    def call(name, place):
        before = below(few.parent)
        answer = writing[name][0](ended, few, place)
        assert below(few.parent) == before
        return answer
    return call


@pytest.mark.parametrize('name', files)
def test_a_folder_where_a_file_should_go(name, unwritten, few):
    (few.parent/f'there{writing[name][1]}').mkdir()
    one_line(unwritten(name, few.parent/f'there{writing[name][1]}'), f'there{writing[name][1]}', 'is a folder', 'expected')


@pytest.mark.parametrize('name', writing)
def test_below_a_file(name, unwritten, few):
    (few.parent/'file').write_text('as it was')
    one_line(unwritten(name, few.parent/'file'/'x'/f'y{writing[name][1].rstrip("/")}'), 'file', 'expected')
    assert (few.parent/'file').read_text() == 'as it was'


@pytest.mark.parametrize('name', folders)
def test_a_file_where_a_folder_should_go(name, unwritten, few):
    (few.parent/'file').write_text('as it was')
    one_line(unwritten(name, few.parent/'file'), few.parent/'file', 'is a file', 'expected')
    assert (few.parent/'file').read_text() == 'as it was'


@pytest.mark.parametrize('name', writing)
@pytest.mark.skipif(not Path('/proc/self').exists(), reason='needs a folder that takes no files: /proc')
def test_where_nothing_can_be_written(name, unwritten): one_line(unwritten(name, Path(f'/proc/ksr{writing[name][1].rstrip("/")}')), '/proc', 'cannot be written', 'expected')


@pytest.mark.parametrize('name', files)
@pytest.mark.parametrize('kind', ('fifo', 'socket', 'device'))
def test_what_is_no_file_is_not_replaced(name, kind, unwritten, few):
    with tempfile.TemporaryDirectory() as short: # a socket's path is short
        place = Path(short)/f'x{writing[name][1]}'
        if kind == 'fifo': os.mkfifo(place)
        elif kind == 'socket': socket.socket(socket.AF_UNIX).bind(str(place))
        else: place.symlink_to('/dev/null')
        one_line(unwritten(name, place), place, 'expected a file')
        assert not stat.S_ISREG(os.stat(place).st_mode) and stat.S_ISCHR(os.stat('/dev/null').st_mode)


@pytest.mark.parametrize('name', ['ksr_read --out', 'ksr_read --json', 'ksr_read --answers'])
def test_a_suffix_of_another_format_is_refused(name, unwritten, few):
    for suffix in ('.xlsx', '.tsv', '.pdf'): one_line(unwritten(name, few.parent/f'x{suffix}'), name.split()[1], f'x{suffix}', f'expected', writing[name][1])
    if name.endswith('--out'): one_line(unwritten(name, few.parent/'x.csv'), 'x.csv', '.txt', '.zip')


def test_a_large_zip_is_a_zip(few, quick, ended, tmp_path):
    assert ended(ksr_read, [few], out=tmp_path/'SUB.ZIP')[0] == 0
    with zipfile.ZipFile(tmp_path/'SUB.ZIP') as z: assert z.namelist() == ['SUB.txt'] and len(z.read('SUB.txt').splitlines()) == 6


def test_two_files_of_one_name_and_the_inputs_are_safe(few, unwritten, ended, too_late):
    one_line(ended(ksr_read, [few], out=few.parent/'x', json=few.parent/'.'/'x'), '--out', '--json', 'expected')
    kept = (few/'track_00001'/'annotations.json').read_text()
    one_line(ended(ksr_read, [few], json=few/'track_00001'/'annotations.json'), 'annotations.json', 'expected')
    assert (few/'track_00001'/'annotations.json').read_text() == kept


# what is written

def test_a_new_file_obeys_the_umask_a_replaced_one_keeps_its_mode(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path/'new') as tmp: tmp.write_text('x')
        assert stat.S_IMODE((tmp_path/'new').stat().st_mode) == 0o640
        for mode in (0o600, 0o664, 0o444):
            os.chmod(tmp_path/'new', mode)
            with atomic_write(tmp_path/'new') as tmp: tmp.write_text('y')
            assert stat.S_IMODE((tmp_path/'new').stat().st_mode) == mode
    finally: os.umask(before)


def test_weights_obey_the_umask(tmp_path):
    from ksr.learner import save_checkpoint
    before = os.umask(0o077)
    try: save_checkpoint(tmp_path/'c.safetensors', dict(a=torch.zeros(2)), {})
    finally: os.umask(before)
    assert stat.S_IMODE((tmp_path/'c.safetensors').stat().st_mode) == 0o600


def test_a_link_stays_a_link(tmp_path):
    (tmp_path/'elsewhere').mkdir()
    (tmp_path/'link').symlink_to(tmp_path/'elsewhere'/'file') # where nothing is yet
    for text in ('one', 'two'):
        with atomic_write(tmp_path/'link') as tmp: tmp.write_text(text)
        assert (tmp_path/'link').is_symlink() and (tmp_path/'elsewhere'/'file').read_text() == text


def test_the_longest_name_there_is(tmp_path):
    for name in ('x' * 251 + '.txt', 'x.' + 'y' * 253, 'ü' * 127):
        with atomic_write(tmp_path/name) as tmp: tmp.write_text('x')
        assert [p.name for p in tmp_path.iterdir()] == [name]
        (tmp_path/name).unlink()


# arguments

@pytest.mark.parametrize('name', ('cpu:x', 'cpu:0', 'cuda:', 'cuda:-1', 'cuda:٣', 'abacus', ' '))
def test_a_device_that_is_none(name, few, ended):
    with pytest.raises(KSRError, match='expected'): best_device(name)
    for command in (ksr_read, ksr_eval): one_line(ended(command, [few], device=name), 'device', 'expected')
    one_line(ended(ksr_train, few.parent/'run', ['scale=3'], device=name), 'device', 'expected')
    assert not (few.parent/'run').exists()


long = 'x' * 300
lengthy = {
    'ksr_read PATH': lambda go, few: go(ksr_read, [long]),
    'ksr_read --out': lambda go, few: go(ksr_read, [few], out=long),
    'ksr_read --json': lambda go, few: go(ksr_read, [few], json=long),
    'ksr_read --restored': lambda go, few: go(ksr_read, [few], restored=long),
    'ksr_read --tracks': lambda go, few: go(ksr_read, [few], tracks=long),
    'ksr_read --annotated': lambda go, few: go(ksr_read, [few], annotated=long),
    'ksr_read --weights': lambda go, few: go(ksr_read, [few], weights=long),
    'ksr_read --device': lambda go, few: go(ksr_read, [few], device=long),
    'ksr_read --corners': lambda go, few: go(ksr_read, [few], corners=long),
    'ksr_eval PATH': lambda go, few: go(ksr_eval, [long]),
    'ksr_eval --weights': lambda go, few: go(ksr_eval, [few], weights=long),
    'ksr_eval --json': lambda go, few: go(ksr_eval, [few], json=long),
    'ksr_eval --tta': lambda go, few: go(ksr_eval, [few], tta=long),
    'ksr_synth OUT': lambda go, few: go(ksr_synth, long, n=1),
    'ksr_synth --layout': lambda go, few: go(ksr_synth, few.parent/'new', n=1, layout=long),
    'ksr_photos PHOTOS': lambda go, few: go(ksr_photos, long, few.parent/'new'),
    'ksr_photos OUT': lambda go, few: go(ksr_photos, few.parent/'photos', long),
    'ksr_ccpd FOLDER': lambda go, few: go(ksr_ccpd, long),
    'ksr_ccpd --out': lambda go, few: go(ksr_ccpd, few, out=long),
    'ksr_ccpd --crops': lambda go, few: go(ksr_ccpd, few, out=few.parent/'new', crops=long),
    'ksr_train RUN_DIR': lambda go, few: go(ksr_train, long, ['scale=3'], device='cpu'),
    'ksr_train init=': lambda go, few: go(ksr_train, few.parent/'new', [f'init={long}'], device='cpu'),
    'ksr_train data=': lambda go, few: go(ksr_train, few.parent/'new', [f'data={long}', 'scale=3'], device='cpu'),
    'ksr_train NAME=': lambda go, few: go(ksr_train, few.parent/'new', [f'{long}=3'], device='cpu'),
    'ksr_calibrate WEIGHTS': lambda go, few: go(ksr_calibrate, long),
    'ksr_trust WEIGHTS': lambda go, few: go(ksr_trust, long),
    'ksr_trust --folders': lambda go, few: go(ksr_trust, 'small', record=few.parent/'new.json', folders=[long]),
    'ksr_card --record': lambda go, few: go(ksr_card, 'small', record=long)}


@pytest.mark.parametrize('name', lengthy)
def test_an_argument_of_300_characters(name, few, ended, monkeypatch, tmp_path):
    prepared(few)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('ksr.trust.synthetic_evidence', lambda *a, **k: pytest.fail('too late'))
    answer = lengthy[name](ended, few)
    one_line(answer, long, 'expected')


def test_one_long_path_does_not_stop_the_others(few, quick, ended):
    code, out, err = ended(ksr_read, [long, few])
    assert code == 1 and len(out) == 6 and len(err) == 1 and long in err[0]


def test_an_empty_path_is_not_the_current_folder(few, too_late, ended, monkeypatch):
    monkeypatch.chdir(few)
    for command in (ksr_read, ksr_eval): one_line(ended(command, ['']), 'expected')


# standard output

class Into:
    "Standard output that goes elsewhere"
    def __init__(self, monkeypatch, file, **options): monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(file, **dict(encoding='utf-8') | options))


commands_that_print = {
    'ksr_read': lambda go, few: go(ksr_read, [few], out=few.parent/'sub.zip', json=few.parent/'r.json'),
    'ksr_eval': lambda go, few: go(ksr_eval, [few], json=few.parent/'e.json'),
    'ksr_synth': lambda go, few: go(ksr_synth, few.parent/'new', n=1)}


@pytest.mark.parametrize('name', commands_that_print)
@pytest.mark.skipif(not Path('/dev/full').exists(), reason='needs /dev/full')
def test_a_full_disk_behind_standard_output(name, few, quick, ended, monkeypatch):
    Into(monkeypatch, open('/dev/full', 'wb'))
    one_line(commands_that_print[name](ended, few), 'standard output', 'no space left', 'expected')
    assert not [p for p in few.parent.iterdir() if p.suffix in ('.zip', '.json')]


@pytest.mark.parametrize('name', commands_that_print)
def test_output_that_is_cut_off(name, few, quick, ended, monkeypatch):
    out, into = os.pipe()
    os.close(out)
    Into(monkeypatch, os.fdopen(into, 'wb'))
    one_line(commands_that_print[name](ended, few), 'standard output', code=128 + signal.SIGPIPE)
    assert not [p for p in few.parent.iterdir() if p.suffix in ('.zip', '.json')]


@pytest.mark.parametrize('encoding', ('ascii', 'latin-1', 'cp1252', 'koi8-r'))
@pytest.mark.parametrize('name', commands_that_print)
def test_a_terminal_of_few_letters(name, encoding, few, quick, ended, monkeypatch):
    (few/'track_00001').rename(few/'track_ü–车')
    raw = io.BytesIO()
    Into(monkeypatch, raw, encoding=encoding)
    code, _, err = commands_that_print[name](ended, few)
    sys.stdout.flush()
    assert code == 0 and raw.getvalue().decode(encoding).isprintable() is False and len(raw.getvalue()) > 30, (code, err) # its line breaks are not


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='needs /dev/full')
def test_the_same_at_a_shell(few, weights):
    "Cut off, full, Latin-1: real processes, side by side"
    run = lambda tail, **more: subprocess.Popen(['bash', '-c', f'"$0" "$@" --device cpu --weights {weights} {tail}; echo "code ${{PIPESTATUS[0]}}" >&2', scripts/more.pop('program', 'ksr_read'), few, *more.pop('options', ())],
        cwd=root, env=env | more, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    cut = run('| head -n 1', options=['--out', few.parent/'cut.txt'])
    full = run('> /dev/full', program='ksr_eval', options=['--json', few.parent/'full.json'])
    latin = run('', program='ksr_eval', PYTHONIOENCODING='latin-1', PYTHONUTF8='0')
    answers = [[text.decode('latin-1').splitlines() for text in p.communicate(timeout=120)] for p in (cut, full, latin)]
    assert len(answers[0][0]) == 1 and answers[0][1][-1] in ('code 141', 'code 0') and len(answers[0][1]) <= 2, answers[0] # head may read on to the end
    assert len(answers[1][1]) == 2 and 'standard output' in answers[1][1][0] and answers[1][1][1] == 'code 1', answers[1]
    assert answers[2][1] == ['code 0'] and any('all' in line for line in answers[2][0]), answers[2]
    assert not [p for p in few.parent.iterdir() if p.name.startswith('.') or p.suffix == '.json']


# folders

def test_folders_1500_deep(few, quick, ended, monkeypatch):
    top = Path(tempfile.mkdtemp())
    try:
        monkeypatch.chdir(top)
        for _ in range(1500):
            os.mkdir('d')
            os.chdir('d')
        os.symlink(few/'track_00001', 'track_00001')
        os.chdir(top)
        code, out, err = ended(ksr_eval, [top, few/'track_00002'])
        assert out and all(line.startswith(('error: ', 'note: ')) for line in err), err
        one_line(ended(ksr_ccpd, top, out=few.parent/'new'), 'holds no pictures')
    finally: subprocess.run(['rm', '-rf', top])


def test_numbers_that_are_far_away(few, tmp_path):
    track = plate(tmp_path/'far', 1)
    for name in ('lr-123456.png', f'lr-{"9" * 11}.png', f'lr-{"9" * 200}.png'):
        Image.new('RGB', (12, 8)).save(track/name)
        began = time.monotonic()
        found = read_track(track)
        assert len(found.frames) == 6 and len('\n'.join(map(str, found.problems))) < 2000 and time.monotonic() - began < 1
        (track/name).unlink()


def in_time(action, seconds=20):
    "What it gives; where it hangs, a failure"
    found = []
    thread = threading.Thread(target=lambda: found.append(action()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert found, 'hangs'
    return found[0]


@pytest.mark.parametrize('kind', ('fifo', 'zero'))
@pytest.mark.parametrize('name', ('lr-002.png', 'annotations.json', 'corners.json'))
def test_a_pipe_and_a_file_without_end_in_a_track(name, kind, few):
    track = few/'track_00001'
    if name == 'corners.json': (track/'annotations.json').write_text('{}')
    (track/name).unlink(missing_ok=True)
    os.mkfifo(track/name) if kind == 'fifo' else (track/name).symlink_to('/dev/zero')
    found = in_time(lambda: read_track(track))
    assert any(p.file == name and 'no regular file' in p.message for p in found.problems) and len(found.frames) == 5 - name.startswith('lr')


def odd_files(folder, make):
    "The same where other commands read: each must come to an end"
    for name in ('photos.csv', 'split/train.txt', 'ccpd_base/x.jpg', 'config.json', 'synth.json', 'clip.mp4', 'b.jpg', 'w.safetensors', 'w.trust.json', 'manifest.csv', 'metrics.json'):
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        make(folder/name)
    return folder


@pytest.mark.parametrize('kind', ('fifo', 'zero'))
def test_a_pipe_and_a_file_without_end_elsewhere(kind, few, tmp_path, capsys, monkeypatch):
    folder = odd_files(tmp_path/'odd', os.mkfifo if kind == 'fifo' else lambda p: p.symlink_to('/dev/zero'))
    monkeypatch.setattr(commands, 'load_finder', lambda device: None)
    monkeypatch.setattr(R.Reader, 'from_pretrained', lambda *a, **k: Quick())
    asked = dict(photos=lambda: ksr_photos(str(folder), str(tmp_path/'new1')), ccpd=lambda: ksr_ccpd(str(folder), str(tmp_path/'new2')), train=lambda: ksr_train(str(folder), ['scale=3'], device='cpu'),
        init=lambda: ksr_train(str(tmp_path/'new3'), ['scale=3', f'init={folder/"w.safetensors"}'], device='cpu'), synth=lambda: ksr_synth(str(folder), n=1), calibrate=lambda: ksr_calibrate(str(folder/'w.safetensors')),
        card=lambda: ksr_card('small', record=str(folder/'metrics.json')), clip=lambda: ksr_read([str(folder/'clip.mp4')]), media=lambda: ksr_read([str(folder)]), given=lambda: ksr_read([str(few/'track_00001'), str(folder/'b.jpg')]))
    def ended_by(action):
        try: action()
        except SystemExit as e: return e.code
        return 0
    for name, action in asked.items():
        monkeypatch.setattr('signal.signal', lambda *a: None) # which only the main thread may call
        assert in_time(lambda: (ended_by(action),))[0] == 1, name
        said = capsys.readouterr().err
        assert said.strip() and all(line.startswith(('error: ', 'note: ', 'warning: ')) for line in said.splitlines()), (name, said)


def test_strays_above_tracks_hide_none(few, quick, ended):
    Image.new('RGB', (12, 8)).save(few/'lr-001.png')
    assert [p.name for p in find_tracks(few)] == sorted(['in', *(f'track_{k:05}' for k in range(1, 7))])
    code, out, err = ended(ksr_read, [few])
    assert len(out) == 7 and code == 0 and any('in' in line for line in err) # read with 1 frame


def test_views_may_be_chosen(few, quick, ended, monkeypatch):
    seen = []
    monkeypatch.setattr(R.Reader, 'from_pretrained', lambda name, device, *args, **options: seen.append(options) or Quick())
    assert ended(ksr_read, [few], tta='identity,larger')[0] == 0 and seen[-1]['tta'] == 'identity,larger'


def test_views_that_are_none_and_views_that_no_threshold_knows(few, ended):
    one_line(ended(ksr_read, [few], tta='mirrored'), 'mirrored', 'expected')
    one_line(ended(ksr_read, [few], tta='identity,larger', error_rate=.01), '--tta', '--error-rate', 'expected')


# long jobs

written = ('sub.zip', 'r.json', 'a.csv')


def long_job(few, go, **more):
    at = few.parent
    return go(ksr_read, [few], out=at/'sub.zip', json=at/'r.json', restored=at/'restored', answers=at/'a.csv', error_rate=.05, **more)


@pytest.fixture
def judged(monkeypatch): monkeypatch.setattr(commands, 'judge', lambda *a: lambda reading: dict(kind='needs review', text='ABC?234', confidence=.5, review=[4], ratios=[[]] * 7, reason='nobody knows'))


def bytes_of(folder): return {name: (folder/name).read_bytes() for name in written} | {p.name: p.read_bytes() for p in (folder/'restored').iterdir()}


@pytest.fixture
def whole(few, quick, judged, ended):
    "What a run leaves that nobody disturbs"
    torch.manual_seed(0)
    assert long_job(few, ended)[0] == 0
    found = bytes_of(few.parent)
    for p in (*(few.parent/name for name in written), *(few.parent/'restored').iterdir()): p.unlink()
    return found


def at_track(n, action): # a `look` that acts at the n-th track
    count = iter(range(1, 10**6))
    return lambda track: action() if next(count) == n else None


@pytest.mark.parametrize('n', (1, 3))
def test_ctrl_c_keeps_what_is_done_and_resume_skips_it(n, whole, few, quick, ended):
    quick(at_track(n, lambda: os.kill(os.getpid(), signal.SIGINT)))
    code, out, err = long_job(few, ended)
    assert code == 128 + signal.SIGINT and len(err) == 1 and '--resume' in err[0] and 'of 6' in err[0], err
    done = [line.split(',')[0] for line in out]
    with zipfile.ZipFile(few.parent/'sub.zip') as z: assert [line.split(',')[0] for line in z.read('sub.txt').decode().splitlines()] == done and len(done) >= n - 1
    assert [r['track'] for r in json.loads((few.parent/'r.json').read_text())['readings']] == done
    reader = quick()
    code, again, err = long_job(few, ended, resume=True)
    assert code == 0 and reader.seen == [f'track_{k:05}' for k in range(1, 7)][len(done):] and len(again) == 6
    assert bytes_of(few.parent) == whole and not list(few.parent.glob('*.part'))


def test_a_second_ctrl_c_stops_at_once(whole, few, quick, ended):
    def twice():
        for _ in range(2): signal.raise_signal(signal.SIGINT)
    quick(at_track(3, twice))
    torch.set_num_threads(1)
    code, out, err = long_job(few, ended)
    assert code == 128 + signal.SIGINT and len(err) == 1 and '--resume' in err[0], err
    assert not [p for p in few.parent.iterdir() if p.name in written or p.name.startswith('.')]
    reader = quick()
    assert long_job(few, ended, resume=True)[0] == 0 and 'track_00001' not in reader.seen
    assert bytes_of(few.parent) == whole


def test_what_a_kill_left_half_is_read_again(whole, few, quick, ended):
    quick(at_track(4, lambda: os.kill(os.getpid(), signal.SIGINT)))
    long_job(few, ended)
    part, = few.parent.glob('*.part')
    part.write_bytes(part.read_bytes()[:-20]) # in the middle of its last line
    (few/'track_00001'/'lr-001.png').write_bytes((few/'track_00002'/'lr-001.png').read_bytes()) # changed in between
    os.utime(few/'track_00001'/'lr-001.png', (1, 1))
    (few.parent/'restored'/'track_00002.png').unlink() # lost in between
    reader = quick()
    code, out, err = long_job(few, ended, resume=True)
    assert code == 0 and set(reader.seen) >= {'track_00001', 'track_00002', 'track_00006'} and len(out) == 6, (code, reader.seen)


def test_resume_of_another_run_is_refused_and_of_none_is_a_start(few, quick, ended):
    quick(at_track(2, lambda: os.kill(os.getpid(), signal.SIGINT)))
    ended(ksr_read, [few], out=few.parent/'sub.txt')
    quick()
    one_line(ended(ksr_read, [few], out=few.parent/'sub.txt', corners='given', resume=True), 'sub.txt.part', 'corners', 'expected')
    one_line(ended(ksr_read, [few], resume=True), '--resume', 'expected')
    assert ended(ksr_read, [few], out=few.parent/'new.txt', resume=True)[0] == 0
    assert ended(ksr_read, [few], out=few.parent/'sub.txt')[0] == 0 and not list(few.parent.glob('*.part')) # begun anew


def stopped_run(few, quick, ended, **more):
    "A run that was stopped in its second track, and the same again"
    quick(at_track(2, lambda: os.kill(os.getpid(), signal.SIGINT)))
    go = lambda **new: ended(ksr_read, [few], **dict(out=few.parent/'sub.txt') | more | new)
    go()
    return lambda **new: (quick(), go(**new, resume=True))


@pytest.mark.parametrize('change, said', [(dict(corners='given'), 'corners'), (dict(tta='identity,larger'), 'tta'), (dict(restored='another'), 'restored'), (dict(json='r.json'), 'each'),
    (dict(frames=3), 'frames'), (dict(every=2), 'every'), (dict(tracks='crops'), 'tracks'), (dict(error_rate=.05), 'error_rate')])
def test_resume_with_any_other_setting_is_refused(change, said, few, quick, judged, ended, monkeypatch):
    again = stopped_run(few, quick, ended)
    if 'tta' in change: monkeypatch.setattr(R.Reader, 'from_pretrained', lambda *a, **k: Quick(looks=k.get('tta')))
    change = {k: few.parent/v if k in ('restored', 'json', 'tracks') else v for k, v in change.items()}
    one_line(again(**change)[1], 'sub.txt.part', f'{said} ', 'expected')


def test_resume_after_other_thresholds_or_versions_is_refused(few, quick, ended, monkeypatch):
    again = stopped_run(few, quick, ended)
    monkeypatch.setattr(R, 'thresholds_sha256', lambda path: 'another')
    one_line(again()[1], 'trust')
    monkeypatch.undo()


def test_a_track_that_changes_while_others_are_read(few, quick, ended):
    again = stopped_run(few, quick, ended)
    frame = few/'track_00001'/'lr-001.png'
    quick(at_track(1, lambda: Image.new('RGB', (12, 8), (9, 9, 9)).save(frame)))
    code, out, err = ended(ksr_read, [few], out=few.parent/'sub.txt', resume=True)
    assert code == 0 and len(out) == 6, err


def test_a_frame_that_changed_with_its_time_kept(few, quick, ended):
    again = stopped_run(few, quick, ended)
    frame = few/'track_00001'/'lr-001.png'
    kept = frame.stat()
    data = bytearray(frame.read_bytes())
    frame.write_bytes((few/'track_00001'/'lr-002.png').read_bytes()[:len(data)].ljust(len(data), b'\0'))
    os.utime(frame, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    reader, _ = again()
    assert 'track_00001' in reader.seen


def test_a_stopped_evaluation_says_what_it_has(few, quick, ended):
    quick(at_track(4, lambda: os.kill(os.getpid(), signal.SIGINT)))
    code, out, err = ended(ksr_eval, [few], json=few.parent/'e.json')
    assert code == 128 + signal.SIGINT and len(err) == 1 and 'of 6' in err[0] and out, err
    assert len(json.loads((few.parent/'e.json').read_text())['readings']) < 6


@pytest.mark.parametrize('error', (OSError(5, 'Input/output error', 'lr-001.png'), MemoryError(), RuntimeError('shapes'), KSRError('unheard of'), ZeroDivisionError('division by zero')))
@pytest.mark.parametrize('command', ('ksr_read', 'ksr_eval'))
def test_a_broken_track_does_not_stop_the_rest(command, error, few, quick, ended):
    def fail(): raise error
    quick(at_track(3, fail))
    code, out, err = ended(dict(ksr_read=ksr_read, ksr_eval=ksr_eval)[command], [few], json=few.parent/'r.json')
    assert code == 1 and len(err) == 1 and err[0].startswith('error: track_0') and 'expected' in err[0], err
    assert len(json.loads((few.parent/'r.json').read_text())['readings']) == 6


def test_a_slow_track_does_not_stop_the_rest(few, quick, ended):
    quick(at_track(1, lambda: time.sleep(1)))
    assert ended(ksr_read, [few])[0] == 0


def test_a_track_that_vanishes_does_not_stop_the_rest(few, quick, ended):
    import shutil
    quick(at_track(2, lambda: shutil.rmtree(few/'track_00006')))
    code, out, err = ended(ksr_read, [few])
    assert code == 1 and len(out) == 5 and err and all(line.startswith('error: track_00006') for line in err), err


def test_progress_shows_the_time_left(few, quick, ended, monkeypatch):
    monkeypatch.setattr('ksr.core.at_terminal', lambda: True, raising=False)
    monkeypatch.setattr(R, 'at_terminal', lambda: True, raising=False)
    quick(lambda track: time.sleep(.15))
    torch.set_num_threads(1)
    code, out, err = ended(ksr_read, [few])
    assert code == 0 and len(out) == 6 and '/6' in '\n'.join(err) and '<00:0' in '\n'.join(err), err # tqdm: 3/6 [00:01<00:01, …]


def test_ctrl_c_at_a_shell(tmp_path, weights):
    for k in range(1, 60): plate(tmp_path/'in', k)
    command = [scripts/'ksr_read', tmp_path/'in', '--weights', weights, '--device', 'cpu', '--out', tmp_path/'sub.zip']
    process = subprocess.Popen([*map(str, command)], cwd=root, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    try:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally: process.kill()
    assert process.returncode == 130 and len(err.splitlines()) == 1 and 'Traceback' not in err, err
    with zipfile.ZipFile(tmp_path/'sub.zip') as z: assert z.read('sub.txt').decode() == first + out
    assert (tmp_path/'sub.zip.part').is_file()


@pytest.mark.parametrize('begin', [lambda few: ksr_synth(str(few.parent/'new'), n=64), lambda few: ksr_photos(str(few.parent/'photos'), str(few.parent/'new')), lambda few: ksr_ccpd(str(few.parent/'photos'), str(few.parent/'new')),
    lambda few: ksr_train(str(few.parent/'new'), ['scale=3'], device='cpu'), lambda few: ksr_calibrate('small'), lambda few: ksr_trust('small'), lambda few: ksr_card('small')], ids=('synth', 'photos', 'ccpd', 'train', 'calibrate', 'trust', 'card'))
def test_ctrl_c_in_any_command_is_one_line(begin, few, monkeypatch, ended):
    prepared(few)
    def stopped(*args, **options): raise KeyboardInterrupt
    for name in ('ksr.tracks.SyntheticTracks.draw', 'ksr.tracks.load_photo', 'ksr.datasets.ccpd_tables', 'ksr.experiment.load_net', 'ksr.experiment.run', 'ksr.trust.synthetic_evidence', 'ksr.card.page_values'): monkeypatch.setattr(name, stopped)
    code, out, err = ended(lambda: begin(few))
    assert code == 130 and len(err) == 1 and 'stopped' in err[0], (code, out, err)
