"""Whatever is in a file, an argument or a parameter: the right answer or a `KSRError` that says what was expected; files that are written are whole or absent.

KSR_FUZZ=1000000 makes so many mutated inputs in place of the 20,000 of a plain run, KSR_FUZZ_SEED=1 others; `pytest -s tests/test_fuzz.py` shows the totals."""
import json, math, os, random, resource, shutil, signal, struct, subprocess, tempfile, time, zlib
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import root
from hypothesis import HealthCheck, example, given, settings, strategies as st
from PIL import Image
from safetensors.torch import save

from ksr.clips import Clip, parse_mark, parse_time, write_clip
from ksr.core import KSRError, atomic_write, best_device, converted
from ksr.evidence import Examiner, examine, load_record, page_differences, problems_of, write_report
from ksr.experiment import Config, DetectorRun, KSRNet, load_detector, load_net, read_header, save_weights
from ksr.learner import load_checkpoint, save_checkpoint
from ksr.plates import layout_names
from ksr.reading import Reading, breaks_line, error_rates, json_file, kept_line, load_trust, out_file, write_restored
from ksr.tracks import (Track, check_text, contents, decode_image, find_tracks, given_track, max_side, min_side, missing_frames, parse_corners, parse_severity, read_annotations,
    read_marks, read_track, to_frame, write_manifest, write_track)

total, first = int(os.environ.get('KSR_FUZZ', 20_000)), int(os.environ.get('KSR_FUZZ_SEED', 0))
slowest = 10. # seconds that one input may take
shares = dict(pictures=.59, reports=.01, annotations=.15, checkpoints=.14, marks=.06, tracks=.02, trust=.02, clips=.01) # of the inputs
quick = settings(deadline=None, derandomize=True, database=None, max_examples=150, suppress_health_check=list(HealthCheck))


# seeds

def saved(image, fmt, **options):
    image.save(file := BytesIO(), fmt, **options)
    return file.getvalue()


def pictures(): # name → bytes of a whole file
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (12, 20, 3), dtype=np.uint8))
    other, exif = Image.new('RGB', (20, 12), 'red'), Image.Exif()
    exif[0x0112], exif[0x010F] = 6, 'a camera'
    wide = Image.fromarray(rng.integers(0, 65536, (12, 20), dtype=np.uint16))
    png = dict(rgb=rgb, gray=rgb.convert('L'), bits=rgb.convert('1'), palette=rgb.quantize(16), alpha=rgb.convert('RGBA'), grayalpha=rgb.convert('LA'), wide=wide)
    found = {f'png {name}': saved(image, 'PNG') for name, image in png.items()}
    found |= {'png turned': saved(rgb, 'PNG', exif=exif), 'png animated': saved(rgb, 'PNG', save_all=True, append_images=[other]), 'png clear': saved(rgb.quantize(8), 'PNG', transparency=3)}
    jpg = dict(rgb=rgb, gray=rgb.convert('L'), cmyk=rgb.convert('CMYK'))
    found |= {f'jpg {name}': saved(image, 'JPEG') for name, image in jpg.items()}
    return found | {'jpg progressive': saved(rgb, 'JPEG', progressive=True, subsampling=2), 'jpg turned': saved(rgb, 'JPEG', exif=exif, comment=b'x' * 20),
        'jpg mpo': saved(rgb, 'MPO', save_all=True, append_images=[other]), 'gif': saved(rgb, 'GIF'), 'tiff': saved(rgb, 'TIFF'), 'bmp': saved(rgb, 'BMP')}


corners = {f'lr-00{k}.png': {name: [x + k, y] for name, x, y in (('top-left', 1, 1), ('top-right', 30, 2), ('bottom-right', 30, 12), ('bottom-left', 1, 11))} for k in range(1, 4)}
annotation = json.dumps(dict(plate_layout='Mercosur', plate_text='ABC1D23', corners=corners)).encode()
marks = b'file,text,layout,plates\na.png,ABC1D23,Mercosur,"4,3;30,3;30,11;4,11"\nb.png,ABC1234|,Brazilian|,"4,3;30,3;30,11;4,11|5,3;31,3;31,11;5,11"\n'


# mutations

def with_checksums(data): # a PNG whose chunks are what they claim to be, so that the parser gets behind them
    at, out = 8, bytearray(data[:8])
    while at + 12 <= len(data):
        n, = struct.unpack('>I', data[at:at + 4])
        if at + 12 + n > len(data): break
        body = data[at + 4:at + 8 + n]
        out += struct.pack('>I', n) + body + struct.pack('>I', zlib.crc32(body))
        at += 12 + n
    return bytes(out) + data[at:]


odd = (b'\0' * 4, b'\xff' * 4, b'\x7f\xff\xff\xff', b'\x80\0\0\0', b'\0\1', b'NaN', b'1e999', b'-1', b'"', b'{' * 50, b'\xed\xa0\x80', b'\\ud800', b'null', b'9' * 400, b'\xff\xd9', b'\xff\xd8', b'IEND', b',', b';', b'\n', '٣'.encode())


def mutated(rng, data, others):
    "One to four faults"
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        n, at = len(data), rng.randrange(len(data) or 1)
        end, way = at + rng.choice((1, 2, 4, 16, 64)), rng.randrange(8)
        if way == 0 and n: data[at] ^= 1 << rng.randrange(8)
        elif way == 1 and n: data[at] = rng.randrange(256)
        elif way == 2: del data[at:]
        elif way == 3: del data[at:end]
        elif way == 4: data[at:at] = data[at:end] * rng.randint(1, 20)
        elif way == 5: data[at:at + len(o)] = (o := rng.choice(odd))
        elif way == 6: data[at:at] = rng.choice(odd)
        else: data[at:end] = (o := rng.choice(others))[(k := rng.randrange(len(o) or 1)):k + end - at]
    return with_checksums(bytes(data)) if rng.random() < .5 and data[:4] == b'\x89PNG' else bytes(data)


@pytest.fixture
def cases(request): # (number, generator of randomness, mutated bytes) of a kind
    def made(kind, seeds):
        seeds = list(seeds)
        for i in range(math.ceil(total * shares[kind])):
            rng = random.Random(f'{first} {kind} {i}')
            yield i, rng, mutated(rng, rng.choice(seeds), seeds)
    return made


def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 # MiB


class Tally:
    "Counts the answers; anything but an answer or a `KSRError` ends the test and names the input"
    def __init__(self, kind): self.kind, self.count, self.began, self.before = kind, Counter(), time.monotonic(), peak()

    def __call__(self, number, action):
        began = time.monotonic()
        try: found, answer = action(), 'read'
        except KSRError as e:
            found, answer = None, 'refused'
            assert str(e).strip() and 'Error(' not in str(e), (self.kind, number, e)
        except BaseException as e: raise AssertionError(f'{self.kind} {number}, seed {first}: {type(e).__name__}: {e}') from e
        assert time.monotonic() - began < slowest, (self.kind, number, 'slow')
        self.count[answer] += 1
        return found

    def close(self, more): # MiB that may have been added
        grown = peak() - self.before
        print(f'{self.kind}: {self.count.total()} inputs, {self.count["read"]} read, {self.count["refused"]} refused, {time.monotonic() - self.began:.0f} s, peak memory {peak():.0f} MiB, + {grown:.0f}')
        assert self.count['read'] and self.count['refused'] and grown < more


def whole(picture): return picture.dtype == torch.uint8 and picture.shape[0] == 3 and all(min_side <= n <= max_side for n in picture.shape[1:])


def test_pictures(cases):
    tally = Tally('pictures')
    for i, rng, data in cases('pictures', pictures().values()):
        found = tally(i, lambda: decode_image(BytesIO(data)))
        assert found is None or whole(found[0]), i
    tally.close(200)


@pytest.mark.parametrize('name', pictures())
def test_pictures_cut_off_anywhere(name):
    data = pictures()[name]
    refused = 0
    for n in range(len(data)):
        try: decode_image(BytesIO(data[:n]))
        except KSRError as e: refused += 'expected' in str(e)
    assert refused == len(data) if name != 'jpg mpo' and 'animated' not in name else refused > len(data) // 3


def test_annotations(cases, tmp_path):
    tally, folder = Tally('annotations'), tmp_path/'track_00001'
    folder.mkdir()
    apart = json.dumps({k[:6]: list(q.values()) for k, q in corners.items()}).encode()
    for k in range(1, 4): (folder/f'lr-00{k}.png').write_bytes(b'')
    for i, rng, data in cases('annotations', [annotation, apart]):
        alone = rng.random() < .3
        (folder/'annotations.json').write_bytes(b'{}' if alone else data)
        (folder/'corners.json').write_bytes(data if alone else b'{}')
        known, said = tally(i, lambda: read_annotations(folder, labelled=rng.random() < .5))
        if said: tally.count.update(read=-1, refused=1) # what is wrong is said, not raised
        assert known['text'] is None or len(known['text']) == 7 and known['text'].isascii() and known['text'].isalnum()
        assert all(math.isfinite(v) for q in known['corners'].values() for point in q.values() for v in point), i
        assert known['layout'] is None or known['layout'].isprintable()
        assert all(isinstance(m, str) and level in ('error', 'warning', 'note') for _, m, level in said)
    tally.close(100)


def test_marks(cases, tmp_path):
    tally = Tally('marks')
    for i, rng, data in cases('marks', [marks, marks.replace(b'|', b'')]):
        (tmp_path/'photos.csv').write_bytes(data)
        for track, quad, where in tally(i, lambda: read_marks(tmp_path)) or []:
            assert quad is None or quad.shape == (4, 2) and quad.isfinite().all()
            assert track.text is None or check_text(track.text) == (track.text, [])
            assert track.layout in (None, *layout_names)
    tally.close(100)


def test_tracks(cases, tmp_path):
    "Whole folders, each file of which may be corrupted, under any name"
    tally, seeds = Tally('tracks'), list(pictures().values())
    for i, rng, data in cases('tracks', seeds):
        folder = tmp_path/str(i)/rng.choice(('track_00001', 'loose', 'a b', 'ü', '车'))
        folder.mkdir(parents=True)
        for k in range(rng.randint(0, 6)):
            name = rng.choice(('lr', 'hr', 'LR', 'x')) + rng.choice(('-', '_')) + rng.choice((f'{k:03}', str(k), '٣', '9' * rng.randint(1, 60), '')) + rng.choice(('.png', '.jpg', '.PNG', '.bmp', ''))
            (folder/name).write_bytes(data if rng.random() < .4 else rng.choice(seeds))
        if rng.random() < .5: (folder/'annotations.json').write_bytes(mutated(rng, annotation, [annotation]))
        for found in tally(i, lambda: find_tracks(folder.parent)) or []:
            track = read_track(found, strict=False)
            assert all(map(whole, track.frames)) and len('\n'.join(map(str, track.problems))) < 20_000
        shutil.rmtree(folder.parent)
    tally.close(100)


def test_clips(cases, tmp_path):
    tally, seeds = Tally('clips'), []
    shown = [torch.full((3, 32, 48), 20 * k, dtype=torch.uint8) for k in range(6)]
    for suffix in ('mp4', 'mkv'):
        write_clip(shown, tmp_path/f'seed.{suffix}')
        seeds.append((tmp_path/f'seed.{suffix}').read_bytes())
    for i, rng, data in cases('clips', seeds):
        (tmp_path/'clip.mp4').write_bytes(data)
        def read():
            clip, n = Clip(tmp_path/'clip.mp4'), 0
            for n, frame in zip(range(200), clip.frames()): assert frame.picture.dtype == torch.uint8 and math.isfinite(frame.time)
        tally(i, read)
    tally.close(600)


def test_reports(cases, weights, tmp_path):
    "Records and pages; whatever is changed on a page is said"
    track, examiner = tmp_path/'track_00001', Examiner.from_pretrained(str(weights), 'cpu')
    write_track(Track('x', [torch.randint(0, 256, (3, 8, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))]), track)
    path = write_report(examiner, track, tmp_path/'out')
    record, page = load_record(path)
    again, tally = examine(examiner, track, record['inputs']['folder']), Tally('reports')
    seeds, values = [path.read_bytes(), page], (b'null', b'"\\ud800"', b'1e999', b'-1', b'[]', b'{}', b'9' * 400, b'[' * 900 + b']' * 900, b'NaN', b'"../.."', b'.5', b'true')
    assert problems_of(record, page, track, *again) == []
    for i, rng, data in cases('reports', seeds):
        if b'<html' in data or data[:1] == b'<':
            assert data == page or list(tally(i, lambda: list(page_differences(data, page.decode())))), i
            continue
        if rng.random() < .5: # still JSON
            lines = seeds[0].split(b'\n')
            k = rng.choice([k for k, line in enumerate(lines) if b': ' in line and line[-1:] not in b'[{'])
            lines[k] = lines[k].partition(b': ')[0] + b': ' + rng.choice(values) + b',' * lines[k].endswith(b',')
            data = b'\n'.join(lines)
        path.write_bytes(data)
        found = tally(i, lambda: load_record(path))
        if found: assert tally(i, lambda: problems_of(*found, track, *again)) or found[0] == record, i
    tally.close(300)


# checkpoints

@pytest.fixture(scope='module')
def net():
    torch.manual_seed(0)
    return KSRNet('plus', 'smoke')


def test_checkpoints(cases, tmp_path):
    "Training states and headers of weights, small ones, their bytes and their JSON corrupted"
    tally, path = Tally('checkpoints'), tmp_path/'w.safetensors'
    tensors = dict(a=torch.arange(6.).reshape(2, 3), b=torch.zeros(2).half(), c=torch.arange(200.))
    headers = [dict(state=json.dumps(dict(step=3, identity={}))), dict(ksr=json.dumps(dict(variant='plus', size='smoke', exponent=1.)))]
    seeds = [save(tensors, header) for header in (*headers, None)]
    for i, rng, data in cases('checkpoints', seeds):
        if rng.random() < .5: # whole, but for the JSON in its header
            (key, text), = rng.choice(headers).items()
            data = save(tensors, {key: mutated(rng, text.encode(), [annotation]).decode('utf-8', 'replace')})
        path.write_bytes(data)
        found = tally(i, lambda: (load_checkpoint if b'"state"' in data else read_header)(path))
        assert found is None or isinstance(found if isinstance(found, dict) else found[1], dict)
    tally.close(100)


def test_thresholds(cases, tmp_path):
    "What stands beside the weights: bytes corrupted, or one entry's value replaced; the reader's line is loaded by the same way"
    whole = (root/'ksr/weights/small.trust.json').read_bytes()
    tally, known, weights = Tally('trust'), json.loads(whole), tmp_path/'w.safetensors'
    for i, rng, data in cases('trust', [whole]):
        if rng.random() < .5:
            name = rng.choice(list(known))
            data = json.dumps(known | {name: rng.choice((None, [], {}, 'x', -1, 5, .5, True, math.nan, math.inf, 10**400, known['line'], known['text'], known['quantiles'][0]))}).encode()
        (tmp_path/'w.trust.json').write_bytes(data)
        found = tally(i, lambda: load_trust(tmp_path/'w.trust.json', known['weights']))
        line = tally(i, lambda: kept_line(weights, known['weights']))
        assert (found is None) == (line is None) and (found is None or line == found.line)
        for kind in ('text', 'character') if found else (): assert all(0 <= found.threshold(kind, rate, n) for rate in error_rates for n in (1, 2, 5))
    tally.close(100)


strange = [{}, dict(variant='plus'), dict(variant=[], size='smoke'), dict(variant='plus', size={}), dict(variant='plus', size='giant'), dict(variant='plus', size='smoke', exponent='x'),
    dict(variant='plus', size='smoke', exponent=-1), dict(variant='plus', size='smoke', exponent=math.nan), dict(variant='plus', size='smoke', exponent=None), dict(variant='plus', size='smoke', join=3), dict(variant='v1', size='smoke'),
    dict(detector=3), dict(detector=dict(dims=[1])), dict(detector=dict(dims=[10**9] * 5)), dict(detector=dict(depth=[10**9] * 4)), dict(detector=dict(width=3)), dict(detector=dict(dims=None)), dict(detector={})]


@pytest.mark.parametrize('header', strange, ids=str)
def test_a_strangers_header(header, tmp_path):
    (tmp_path/'w.safetensors').write_bytes(save(dict(a=torch.zeros(2)), {'ksr': json.dumps(header)}))
    for load in (load_net, load_detector):
        with pytest.raises(KSRError) as e: load(tmp_path/'w.safetensors')
        assert 'expected' in str(e.value) and 'w.safetensors' in str(e.value) or 'expected' in str(e.value)


def test_tensors_that_do_not_fit_are_named(net, tmp_path):
    path, states = tmp_path/'w.safetensors', net.state_dict()
    name = next(k for k, v in states.items() if v.ndim > 1)
    header = {'ksr': json.dumps(dict(variant='plus', size='smoke', exponent=1.))}
    for corrupt in (lambda s: s.pop(name), lambda s: s.update({name: torch.zeros(3)}), lambda s: s.update(stranger=torch.zeros(1)), lambda s: s.update({name: torch.full_like(s[name], math.nan)}),
                  lambda s: s.update({name: s[name].long()})):
        some = dict(states)
        corrupt(some)
        path.write_bytes(save(some, header))
        with pytest.raises(KSRError) as e: load_net(path)
        assert str(path) in str(e.value) and ('stranger' if 'stranger' in some else name) in str(e.value)


def test_a_pickle_runs_nothing(tmp_path):
    import pickle
    class Evil:
        def __reduce__(self): return Path.touch, (tmp_path/'ran',)
    for name in ('w.safetensors', 'w.pth'):
        (tmp_path/name).write_bytes(pickle.dumps(dict(ksr=Evil())))
        for load in (load_net, load_detector, load_checkpoint, read_header):
            with pytest.raises(KSRError): load(tmp_path/name)
    assert not (tmp_path/'ran').exists()


# arguments and parameters

texts = st.text(max_size=40) | st.from_regex(r'[-0-9eE.,;:sx ]{0,30}', fullmatch=True)
values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | texts | st.binary(max_size=8), lambda inner: st.lists(inner, max_size=4) | st.tuples(inner) | st.dictionaries(texts, inner, max_size=3), max_leaves=6)


def answered(action):
    try: return action()
    except KSRError as e: assert 'expected' in str(e) or 'unknown' in str(e)


@quick
@given(texts)
@example('0,0 0,0 0,0 0,0')
@example('1e999')
@example('nan,nan')
def test_arguments(text):
    for parse in (parse_mark, parse_time, parse_severity, parse_corners, best_device): answered(lambda: parse(text))
    assert (found := check_text(text)[0]) is None or check_text(found) == (found, [])


@quick
@given(values, st.sampled_from([bool, int, float, str, tuple[str, ...], tuple[int, ...]]))
def test_parameters_are_converted_or_refused(value, kind):
    found = answered(lambda: converted('name', value, kind))
    if found is not None: assert converted('name', found, kind) == found


@quick
@given(st.sampled_from([Config, DetectorRun]), st.data())
def test_notebook_parameters(kind, data):
    from dataclasses import fields
    name = data.draw(st.sampled_from([f.name for f in fields(kind)]))
    answered(lambda: kind(**{name: data.draw(values)}))


# arrays and names

@quick
@given(st.lists(st.integers(0, 24), max_size=5), st.sampled_from([np.uint8, np.int8, np.uint16, np.float32, np.float64, bool, complex, object]), st.booleans())
def test_arrays(shape, kind, tensor):
    array = np.zeros(shape, kind)
    if tensor and kind not in (object,): array = torch.from_numpy(array)
    found = answered(lambda: to_frame(array)[0])
    plain = kind is np.uint8 and len(shape) == 3 and (shape[0] == 3) != (shape[-1] == 3)
    sides = sorted(shape[1:] if plain and shape[0] == 3 else shape[:-1]) if plain else []
    assert (found is not None) == (plain and sides[0] >= min_side)
    assert found is None or whole(found)


@quick
@given(values)
def test_frames(value): answered(lambda: given_track(value))


@quick
@given(st.text(max_size=30))
def test_names(name):
    if breaks_line(name): return
    line = Reading(name, 'ABC1D23', confidence=.5).line
    assert line.splitlines() == [line] or not name.isprintable()
    assert line.encode().decode() == line and line.split(',') == [name, 'ABC1D23;0.5000']


@quick
@given(st.sets(st.integers(0, 12) | st.integers(0, 10**30), min_size=1, max_size=8))
def test_frame_numbers(numbers):
    said = missing_frames(numbers)
    start = min(1, *numbers)
    whole = set(range(start, start + max(5, len(numbers)))) == numbers
    assert bool(said) != whole and all(len(message) < 400 for _, message, _ in said)


# odd files

def test_pipes_devices_and_endless_files(tmp_path):
    folder = tmp_path/'track_00001'
    write_track(Track('x', [torch.zeros(3, 12, 40, dtype=torch.uint8)] * 5), folder)
    for name, make in {'lr-002.png': os.mkfifo, 'lr-003.png': lambda p: p.symlink_to('/dev/zero'), 'lr-004.png': Path.mkdir, 'lr-005.png': lambda p: p.symlink_to(p), 'annotations.json': os.mkfifo, 'corners.json': lambda p: p.symlink_to('/dev/zero')}.items():
        if (folder/name).exists(): (folder/name).unlink()
        make(folder/name)
    began = time.monotonic()
    track = read_track(folder, labelled=True)
    assert len(track.frames) == 1 and time.monotonic() - began < 5
    assert {p.file for p in track.errors} == {'lr-002.png', 'lr-003.png', 'lr-004.png', 'lr-005.png', 'annotations.json'}
    with open(tmp_path/'huge.png', 'wb') as file: file.truncate(2**40) # a hole
    with pytest.raises(KSRError, match='at most'): to_frame(tmp_path/'huge.png')


def test_a_folder_of_many_files(tmp_path):
    folder = tmp_path/'track_00001'
    write_track(Track('x', [torch.zeros(3, 12, 40, dtype=torch.uint8)] * 5, text='ABC1D23'), folder)
    for k in range(20_000): (folder/f'note-{k}.txt').touch()
    began = time.monotonic()
    assert find_tracks(tmp_path) == [folder] and not read_track(folder, labelled=True).problems and time.monotonic() - began < 5


@pytest.mark.parametrize('depth, name', [(1500, 'd'), (40, 'e' * 200)]) # the second: a path longer than a system takes
def test_folders_of_any_depth(depth, name, monkeypatch):
    top = Path(tempfile.mkdtemp())
    try:
        monkeypatch.chdir(top)
        for _ in range(depth):
            os.mkdir(name)
            os.chdir(name)
        write_track(Track('x', [torch.zeros(3, 12, 40, dtype=torch.uint8)] * 5), 'track_00001')
        os.chdir(top)
        began = time.monotonic()
        found = answered(lambda: find_tracks(top)) or []
        assert len(found) == 1 and time.monotonic() - began < 20
        assert len(found[0].parts) < depth or len(read_track(found[0]).frames) == 5
        assert read_track(found[0], strict=False).frames or read_track(found[0], strict=False).errors
    finally: subprocess.run(['rm', '-rf', top]) # pytest's own cleaning is recursive


# written whole or not at all

reading = Reading('track_00001', 'ABC1D23', confidence=.5, restored=torch.rand(3, 64, 192, generator=torch.Generator().manual_seed(0)))


def lines(path, add): # a submission
    with out_file(path) as line:
        for _ in range(add): line(reading)


def details(path, add):
    with json_file(path, 'f' * 64) as one:
        for _ in range(add): one(reading)


writers = { # name → file name, writer(path, amount)
    'checkpoint': ('c.safetensors', lambda path, n: save_checkpoint(path, dict(a=torch.full((n * 100,), float(n))), dict(n=n))),
    'submission': ('s.txt', lines), 'zip': ('s.zip', lines), 'details': ('r.json', details),
    'picture': ('track_00001.png', lambda path, n: write_restored(reading, path.parent)),
    'manifest': ('manifest.csv', lambda path, n: write_manifest(path.parent, [dict(track=f't{k}', text='ABC1D23') for k in range(n)])),
    'weights': ('w.safetensors', None)} # filled by the test


def in_child(action): # exit code of a forked process that uses no threads; 99: something else than what a person can act on
    if (pid := os.fork()) == 0:
        code = 98
        try:
            action()
            code = 0
        except (KSRError, OSError): code = 1
        except BaseException as e:
            os.write(2, repr(e).encode() + b'\n')
            code = 99
        finally: os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize('kind', writers)
@pytest.mark.parametrize('before', (False, True))
def test_a_disk_that_fills_while_writing(kind, before, net, tmp_path):
    "A limit on the size of a file stands in for the end of the disk, at every stage of writing"
    name, write = writers[kind]
    path, write = tmp_path/name, write or (lambda path, n: save_weights(net, path, n=n))
    write(path, 60)
    size, old = path.stat().st_size, path.read_bytes()
    if not before: path.unlink()
    def limited(limit):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        write(path, 60)
    for limit in sorted({0, 1, 7, size // 3, size // 2, size - 1}):
        assert in_child(lambda: limited(limit)) == 1, (kind, limit)
        assert [p.name for p in tmp_path.iterdir()] == [name] * before and (not before or path.read_bytes() == old)
    assert in_child(lambda: write(path, 60)) == 0 and path.read_bytes() == old


@pytest.mark.parametrize('kind', [k for k in writers if k != 'weights'])
def test_killed_while_writing(kind, tmp_path):
    "What stands under the name is always one of the whole files"
    name, write = writers[kind]
    path, rng, wholes = tmp_path/name, random.Random(kind), set()
    for n in (40, 60):
        write(path, n)
        wholes.add(path.read_bytes())
    for _ in range(12):
        if (pid := os.fork()) == 0:
            try:
                while True:
                    for n in (40, 60): write(path, n)
            finally: os._exit(98)
        time.sleep(rng.uniform(.001, .03))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert path.read_bytes() in wholes
    assert [p.name for p in contents(tmp_path)] == [name] # what was begun is hidden
