"""Photographs and clips, through the real command: files of wrong kinds, Ctrl-C, memory."""
import json, os, re, signal, struct, subprocess, sys, weakref, zlib

import av, numpy as np, pytest
from browser import Browser, programs
from conftest import call, env, root

reader = root/'tests'/'read_drawn.py'
plate_line = re.compile(r'[^,]+#\d+,[A-Z0-9]{7};[01]\.\d{4}(;\d+\.\d\d-\d+\.\d\d)?')


def huge_png(w, h):
    "A PNG whose header says how large it is, and not much more"
    chunk = lambda kind, data: struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, 8, 2, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(b'')) + chunk(b'IEND', b'')


def sound(path):
    with av.open(str(path), 'w') as file:
        stream, silence = file.add_stream('aac', rate=44100), av.AudioFrame.from_ndarray(np.zeros((1, 44100), dtype=np.float32), format='fltp', layout='mono')
        silence.sample_rate = 44100
        file.mux(stream.encode(silence)), file.mux(stream.encode())


def motion_jpeg(pictures, path):
    "An AVI of JPEG pictures, each by itself"
    with av.open(str(path), 'w') as file:
        stream = file.add_stream('mjpeg', rate=25)
        stream.height, stream.width, stream.pix_fmt = pictures.shape[2], pictures.shape[3], 'yuvj420p'
        for p in pictures: file.mux(stream.encode(av.VideoFrame.from_ndarray(p.permute(1, 2, 0).contiguous().numpy(), format='rgb24')))
        file.mux(stream.encode())


@pytest.fixture(scope='module')
def several():
    from ksr.clips import synthetic_clip
    return synthetic_clip(1, 'several', .8)


@pytest.fixture(scope='module')
def asked(weights): return reader, 'several', .8, '--weights', weights, '--device', 'cpu'


@pytest.fixture(scope='module')
def mixed(several, asked, tmp_path_factory):
    "One run over a folder of everything that can be wrong, and what it left"
    from ksr.clips import write_clip
    from ksr.tracks import encode_image
    work = tmp_path_factory.mktemp('mixed')
    folder = work/'in'
    folder.mkdir()
    (folder/'good.png').write_bytes(encode_image(several.pictures[3]))
    write_clip(several.pictures, folder/'good.mp4', several.times)
    write_clip(several.pictures[:1], folder/'one.mp4')
    write_clip(several.pictures, folder/'whole.mkv', [3 * t for t in several.times])
    data = (folder/'whole.mkv').read_bytes()
    (folder/'whole.mkv').rename(folder/'cut.mkv').write_bytes(data[:len(data) * 3 // 5])
    motion_jpeg(several.pictures, folder/'broken.avi')
    data = bytearray((folder/'broken.avi').read_bytes())
    at = [m.start() for m in re.finditer(b'\xff\xd8\xff', data)][4]
    data[at + 400:at + 800] = b'U' * 400
    (folder/'broken.avi').write_bytes(data)
    (folder/'codec.mp4').write_bytes((folder/'good.mp4').read_bytes().replace(b'avc1', b'zzzz'))
    (folder/'cut.mp4').write_bytes((folder/'good.mp4').read_bytes()[:3000])
    (folder/'text.mp4').write_text('no video')
    (folder/'empty.jpg').write_bytes(b'')
    (folder/'cut.jpg').write_bytes(encode_image(several.pictures[3], 'jpg')[:4000])
    plain = several.pictures[:4] * 0 + 90
    (folder/'plain.png').write_bytes(encode_image(plain[0]))
    write_clip(plain, folder/'plain.mp4')
    (folder/'dot.png').write_bytes(huge_png(1, 1))
    (folder/'huge.png').write_bytes(huge_png(12000, 9000))
    sound(folder/'sound.mp4')
    (folder/'notes.txt').write_text('not read')
    written = ['--out', work/'lines.txt', '--json', work/'r.json', '--tracks', work/'cut', '--restored', work/'restored']
    done = call(*asked, folder, work/'nowhere', *written)
    return work, done


# file → what is found in the line about it
wrong = {
    'cut.mkv': 'is cut off after', 'cut.mp4': 'is cut off where', 'cut.jpg': 'truncated', 'broken.avi': '1 broken frame, skipped: at 0.16 s',
    'codec.mp4': 'codec that is not installed', 'text.mp4': 'is no video', 'sound.mp4': 'no video, but audio', 'empty.jpg': 'the file is empty',
    'dot.png': '1 × 1 pixels', 'huge.png': 'far too large', 'nowhere': 'does not exist'}
without = {name: 'shows no plate' for name in ('plain.png', 'plain.mp4')} # which is no error


@pytest.mark.parametrize('name', [*wrong, *without])
def test_one_line_says_what_is_wrong(mixed, name):
    said = [line for line in mixed[1].err.splitlines() if line.startswith((f'error: {name}:', f'warning: {name}:'))]
    assert len(said) == 1 and (wrong | without)[name] in said[0], mixed[1].err
    assert said[0].startswith('error' if name in wrong else 'warning')


def test_everything_else_is_read(mixed):
    work, done = mixed
    assert done.code == 1 and 'Traceback' not in done.err, done.err
    lines = done.out.splitlines()
    assert all(map(plate_line.fullmatch, lines)) and lines == (work/'lines.txt').read_text(encoding='utf-8').splitlines()
    plates = [line.split(',')[0] for line in lines]
    assert plates == [f'{name}#{k}' for name in ('broken.avi', 'cut.mkv', 'good.mp4', 'good.png', 'one.mp4') for k in (1, 2, 3)]
    assert [line.count(';') for line in lines] == [1 if 'png' in line else 2 for line in lines]
    readings = json.loads((work/'r.json').read_text(encoding='utf-8'))['readings']
    assert [r['track'] for r in readings if r['text']] == plates
    assert {r['track'] for r in readings if not r['text']} == {*wrong, *without}
    assert sorted(p.stem for p in (work/'restored').iterdir()) == sorted(p.name for p in (work/'cut').iterdir()) == plates
    assert len(done.err.splitlines()) == len(wrong) + len(without) + 1 and 'notes.txt' in done.err # no progress where nobody looks


def test_without_plates_is_no_failure(mixed, asked, tmp_path):
    done = call(*asked, *(mixed[0]/'in'/name for name in without), '--tracks', tmp_path/'cut')
    assert done.code == 0 and done.out == '' and done.err.count('\n') == 2, done.err
    assert not list(tmp_path.iterdir())


# file, corners, what is said of them
misplaced = [
    ('good.mp4', '900,900 990,900 990,930 900,930', 'do not lie in the picture'), ('good.png', '-9,5 40,5 40,20 -9,20', 'do not lie in the picture'),
    ('good.mp4', '1,2 40,12 40,2 1,12', 'expected x,y'), ('good.png', '1,2 20,2 40,2 60,2', 'expected x,y')] # crossed, on a line


@pytest.mark.parametrize('name, corners, said', misplaced)
def test_misplaced_corners_are_one_line(mixed, asked, tmp_path, name, corners, said):
    at = ['--at', '.2s'] * name.endswith('mp4')
    done = call(*asked, mixed[0]/'in'/name, f'--corners={corners}', *at, '--tracks', tmp_path/'cut', '--out', tmp_path/'lines.txt')
    assert done.code == 1 and done.out == '' and done.err.count('\n') == 1 and said in done.err, done.err
    assert not [p for p in tmp_path.rglob('*') if p.read_bytes()]


@pytest.fixture(scope='module')
def long_clip(tmp_path_factory):
    "A plate that leaves and comes back, again and again"
    from ksr.clips import synthetic_clip, write_clip
    path = tmp_path_factory.mktemp('long')/'long.mp4'
    write_clip(synthetic_clip(1, 'back', 1.).pictures.repeat(40, 1, 1, 1), path, crf=35)
    return path


def started(clip, weights, tmp_path):
    "The command on a clip, and its first line"
    command = [sys.executable, reader, 'back', 1, clip, '--weights', weights, '--device', 'cpu', '--json', tmp_path/'r.json', '--out', tmp_path/'lines.txt', '--annotated', tmp_path/'out.mp4']
    process = subprocess.Popen([*map(str, command)], cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return process, process.stdout.readline()


def test_ctrl_c_keeps_finished_plates(long_clip, weights, tmp_path):
    process, first = started(long_clip, weights, tmp_path)
    try:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally: process.kill()
    assert process.returncode == 130 and 'stopped' in err and 'Traceback' not in err, err
    lines = [first.rstrip('\n'), *out.splitlines()]
    assert lines[0].startswith('long.mp4#1,') and len(lines) < 40
    assert (tmp_path/'lines.txt').read_text(encoding='utf-8').splitlines() == lines
    assert [r['track'] for r in json.loads((tmp_path/'r.json').read_text(encoding='utf-8'))['readings'] if r['text']] == [f'long.mp4#{k}' for k in range(1, len(lines) + 1)]
    assert {p.name for p in tmp_path.iterdir()} == {'lines.txt', 'r.json'}


def test_told_to_end_it_leaves_nothing_half(long_clip, weights, tmp_path):
    process, _ = started(long_clip, weights, tmp_path)
    try:
        process.terminate()
        process.communicate(timeout=60)
    finally: process.kill()
    assert process.returncode == 143 and not list(tmp_path.iterdir())


@pytest.mark.parametrize('overlap', [True, False])
def test_frames_do_not_pile_up(several, tmp_path, monkeypatch, overlap):
    "However long the clip and however slow the reading, a few frames and their plates are alive"
    from ksr import clips
    from ksr.experiment import KSRNet
    from ksr.reading import Reader
    alive, most = [], [0]
    def watched(picture, number, time):
        frame = made(picture, number, time)
        alive[:] = [ref for ref in alive if ref() is not None] + [weakref.ref(picture)]
        most[0] = max(most[0], len(alive))
        return frame
    made = clips.Frame
    monkeypatch.setattr(clips, 'Frame', watched)
    clips.write_clip(several.pictures.repeat(10, 1, 1, 1), tmp_path/'long.mp4', crf=35)
    net = KSRNet('plus', 'smoke')
    follower = clips.Follower(net.rectifier, lambda picture: clips.found_none())
    how = clips.Reads(Reader(net), follower.find, overlap=overlap)
    assert list(clips.clip_tracks(clips.Clip(tmp_path/'long.mp4'), how)) == []
    assert most[0] <= (8 if overlap else 3), most


class Counted:
    "A clip of many frames that counts how many were asked for: a plate at first, then nothing"
    def __init__(self, pictures, plain, n):
        self.pictures, self.plain, self.n, self.asked, self.problems = pictures, plain, n, 0, []
        self.path, self.expected, self.rate, self.length = root, n, 25, n / 25

    def frames(self):
        from ksr.clips import Frame
        for k in range(self.n):
            self.asked += 1
            yield Frame(self.pictures[k] if k < len(self.pictures) else self.plain, k, k / 25)


@pytest.fixture
def plate_then_nothing(several):
    "Such a clip, and how it is read"
    from ksr import clips
    from ksr.experiment import KSRNet
    from ksr.reading import Reader
    seen = clips.oracle(several)
    find = lambda picture, **_: seen(picture) if picture.float().std() > 5 else clips.found_none()
    clip = Counted(several.pictures, several.pictures[0] * 0 + 90, 20_000)
    return clip, clips.Reads(Reader(KSRNet('plus', 'smoke')), find)


@pytest.mark.parametrize('overlap', [True, False])
def test_nobody_wants_more_and_the_frames_end(plate_then_nothing, overlap):
    from ksr import clips
    clip, how = plate_then_nothing
    tracks = clips.clip_tracks(clip, clips.replace(how, overlap=overlap))
    assert next(tracks).frames > 1
    so_far = clip.asked
    tracks.close()
    assert clip.asked <= so_far + 20, (so_far, clip.asked)


def test_ctrl_c_ends_the_following_of_a_marked_plate(several, tmp_path, monkeypatch):
    from ksr import clips
    from ksr.experiment import KSRNet
    from ksr.reading import Reader
    clips.write_clip(several.pictures[3:4].repeat(200, 1, 1, 1), tmp_path/'still.mp4', crf=35)
    how, decoded, frames = clips.Reads(Reader(KSRNet('plus', 'smoke')), None), [], clips.Clip.frames
    def counted(self, *args, **named):
        for frame in frames(self, *args, **named):
            decoded.append(frame.number)
            if len(decoded) == 40: how.stop.set()
            yield frame
    monkeypatch.setattr(clips.Clip, 'frames', counted)
    reading, = clips.read_marked(tmp_path/'still.mp4', how, several.corners[0, 3], .4)
    assert reading.text and reading.ended.endswith('(stopped)') and len(decoded) < 70, (reading.ended, len(decoded))


def test_four_of_five_plates_of_the_toll_lane_are_one_track_each():
    "Plates that a person can see: frame, x, y; the fifth, a bus's, 22 px wide and free for five frames, is not found"
    clip = root/'..'/'shared'/'real'/'toll_lane'/'cars.mp4'
    if not clip.exists(): pytest.skip('the clip of the toll lane is not here')
    from ksr.clips import Clip, Follower, follow, load_finder
    from ksr.reading import Reader
    ways, net = [], Reader.from_pretrained('small', 'cpu', restore=False).net.rectifier
    tracks = list(follow(Clip(clip).frames(), Follower(net, load_finder('cpu'), log=lambda *row: ways.append(row))))
    for number, x, y in ((0, 515, 677), (118, 456, 600), (200, 50, 434), (300, 860, 373)):
        keys = {key for n, key, quad in ways if n == number and abs(quad[:, 0].mean() - x) < 20 and abs(quad[:, 1].mean() - y) < 12}
        assert len([t for t in tracks if t.key in keys]) == 1, number
    assert len(tracks) <= 8, [(t.first.time, t.first.box) for t in tracks]


def repeated(short, path, times):
    "The same clip again and again: its packets, later"
    with av.open(str(short)) as one, av.open(str(path), 'w') as many:
        stream = many.add_stream_from_template(one.streams.video[0])
        base, seconds = one.streams.video[0].time_base, one.streams.video[0].frames / 25
        packets = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in one.demux(video=0) if p.pts is not None]
        for k in range(times):
            for data, pts, dts, key in packets:
                packet, later = av.Packet(data), k * round(seconds / base)
                packet.pts, packet.dts, packet.time_base, packet.is_keyframe, packet.stream = pts + later, dts + later, base, key, stream
                many.mux(packet)


@pytest.mark.skipif(not os.environ.get('KSR_SLOW'), reason='takes minutes: KSR_SLOW=1 runs it')
def test_ten_minutes_need_no_more_memory_than_one(tmp_path):
    from ksr.clips import synthetic_clip, write_clip
    seen, empty = (synthetic_clip(1, name, 2., (480, 640)).pictures for name in ('crossing', 'empty'))
    write_clip([*seen, *[*empty] * 5], tmp_path/'short.mp4', crf=28)
    (tmp_path/'peak.py').write_text("import atexit\nfrom ksr.commands import ksr_read\n"
        "atexit.register(lambda: print('peak', next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM'))))\nksr_read()\n")
    peaks = []
    for minutes in (1, 10):
        repeated(tmp_path/'short.mp4', tmp_path/'long.mp4', 5 * minutes)
        done = call(tmp_path/'peak.py', tmp_path/'long.mp4', '--device', 'cpu', '--every', 10, limit=1800)
        assert done.code == 0 and len(done.out.splitlines()) > 5 * minutes, done.err
        peaks.append(int(done.out.splitlines()[-1].split()[1]) / 1024)
    assert peaks[1] - peaks[0] < 100, peaks
    print(peaks, 'MB')


@pytest.mark.skipif(None in programs.values(), reason='there is no Chromium with ChromeDriver here (Debian: chromium, chromium-driver)')
def test_a_click_is_caught_in_a_browser(several, tmp_path):
    from PIL import Image
    from ksr.clips import Marking
    Image.fromarray(several.pictures[0].permute(1, 2, 0).contiguous().numpy()).save(tmp_path/'photo.png')
    marking = Marking(tmp_path/'photo.png')
    view, field = marking.widget(640).children[:2]
    page, wanted = tmp_path/'page.html', several.corners[0, 0].tolist()
    page.write_text(f'<div class="{field._dom_classes[0]}"><input></div><p style="margin:30px">{view.value}</p>', encoding='utf-8')
    h, w = marking.picture.shape[1:]
    with Browser() as browser:
        browser.open(page)
        for x, y in wanted:
            browser.value(f"""(() => {{
                const svg = document.querySelector('svg'), b = svg.getBoundingClientRect()
                const at = {{clientX: b.left + {x} / {w} * b.width, clientY: b.top + {y} / {h} * b.height, bubbles: true}}
                document.elementFromPoint(at.clientX, at.clientY).dispatchEvent(new MouseEvent('click', at))
            }})()""")
            field.value = browser.value("document.querySelector('input').value")
        assert browser.value("document.querySelector('svg').getBoundingClientRect().width") == 640
        assert browser.errors() == []
    assert np.abs(np.array(marking.quad.tolist()) - wanted).max() <= w / 640 # a pixel of the screen


def test_what_is_timed_beside_peers_runs():
    import beside_peers
    from PIL import Image
    photo = next((root/'data/sample-media').glob('*.jpg'))
    stages = beside_peers.ksr()(np.asarray(Image.open(photo).convert('RGB')).copy())
    assert list(stages) == ['detect', 'one_look', 'detect_and_cut', 'read']
    for stage in stages.values(): stage()
    assert len(stages['one_look']().boxes) >= 1
