"""What people report of neighbouring tools, tried here: foreign pictures, labels, names, junk beside the files, arrays in place of files, a forked process."""
import json, multiprocessing, shutil
from io import BytesIO

import numpy as np
import pytest
import torch
from conftest import call
from PIL import Image, ImageOps

from ksr import reading as R
from ksr.core import KSRError
from ksr.experiment import KSRNet, load_net
from ksr.reading import Reader, evaluate_tracks, find_folders, refuse_shared
from ksr.tracks import FolderTracks, check_text, decode_image, find_tracks, read_photos, read_track, track_sha256

line_breaks = ('\n', '\r', '\x0b', '\x0c', '\x1c', '\x85', '\u2028', '\u2029')


@pytest.fixture(scope='module')
def reader(weights): return Reader(load_net(weights), restore=False, each=False)


@pytest.fixture
def track(synthetic, tmp_path):
    "A copy of one synthetic track with PNG frames"
    found = next(p for p in sorted(synthetic.glob('Scenario-A/*/track_*')))
    return shutil.copytree(found, tmp_path/'in'/found.name)


def picture(seed=0, size=(24, 60)): # (h, w, 3)
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def saved(image, fmt, **options):
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(file := BytesIO(), fmt, **options)
    return file.getvalue()


def turned(fmt, orientation, **options): # a file that is to be turned, and what is seen then
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(picture(), fmt, exif=exif, **options)
    return data, np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(data))).convert('RGB'))


def shown(tensor): return tensor.permute(1, 2, 0).numpy()


# pictures

def mpo(): return saved(picture(), 'MPO', save_all=True, append_images=[Image.fromarray(picture(1))], quality=100)


def test_a_cameras_mpo_is_its_first_picture(track):
    first = np.asarray(Image.open(BytesIO(mpo())).convert('RGB'))
    assert (shown(decode_image(BytesIO(mpo()))[0]) == first).all()
    (track/'lr-001.png').unlink()
    (track/'lr-001.jpg').write_bytes(mpo())
    found = read_track(track, labelled=True)
    assert len(found.frames) == 5 and (shown(found.frames[0]) == first).all() and not found.errors
    assert any('2 pictures' in p.message for p in found.problems)
    assert len(FolderTracks(track).tracks) == 1


def test_an_animation_is_its_first_picture():
    data = saved(picture(), 'PNG', save_all=True, append_images=[Image.fromarray(picture(1))])
    assert (shown(decode_image(BytesIO(data))[0]) == picture()).all()


@pytest.mark.parametrize('fmt', ('PNG', 'JPEG'))
@pytest.mark.parametrize('orientation', range(1, 9))
def test_a_turned_picture_is_seen_as_it_was_held(track, fmt, orientation):
    data, seen = turned(fmt, orientation)
    (track/'lr-001.png').write_bytes(data)
    found = read_track(track)
    assert (shown(found.frames[0]) == seen).all()
    assert any('turned' in p.message and p.file == 'lr-001.png' for p in found.problems) == (orientation > 1)


def test_a_marked_photograph_is_cut_as_it_is_stored(tmp_path): # its marks count so
    data, _ = turned('PNG', 6)
    (tmp_path/'a.png').write_bytes(data)
    (tmp_path/'photos.csv').write_text('file,text,layout,plates\na.png,ABC1D23,Mercosur,"4,3;30,3;30,11;4,11"\n')
    found, = read_photos(tmp_path, margin=0)
    assert (shown(found.frames[0]) == picture()[3:11, 4:30]).all()


def test_a_turned_photograph_is_read_as_it_was_held(tmp_path):
    from ksr.clips import read_photo
    for fmt in ('PNG', 'JPEG'):
        data, seen = turned(fmt, 8)
        (tmp_path/'a.jpg').write_bytes(data)
        assert (shown(read_photo(tmp_path/'a.jpg')) == seen).all()
    (tmp_path/'b.jpg').write_bytes(mpo())
    assert read_photo(tmp_path/'b.jpg').shape == (3, 24, 60)


def test_no_exception_of_one_file_ends_the_others(track, monkeypatch):
    from ksr import tracks as T
    class Odd(Exception): pass
    def load(self, *_): raise Odd('never heard of')
    monkeypatch.setattr('PIL.JpegImagePlugin.JpegImageFile.load', load)
    (track/'lr-002.png').write_bytes(saved(picture(), 'JPEG'))
    found = T.read_track(track, labelled=True)
    assert len(found.frames) == 4 and any('never heard of' in p.message for p in found.errors)
    assert len(FolderTracks(track).tracks[0].frames) == 4


# labels

@pytest.mark.parametrize('text, clean', [('GPP1E39', 'GPP1E39'), ('GPP-1E39', 'GPP1E39'), ('GPP 1E39', 'GPP1E39'), (' gpp·1e39 ', 'GPP1E39'), ('BAI-8068', 'BAI8068'),
    ('???????', None), ('GPP?E39', None), ('GPP1E3', None), ('89C20339', None), ('', None), (None, None), (7, None), ('GPP1Ë39', None)])
def test_one_label_rule(text, clean):
    found, said = check_text(text, labelled=True)
    assert found == clean and bool(said) == (clean is None or text != clean)
    assert {level for _, level in said} <= ({'error'} if clean is None else {'note'})


def test_training_scoring_and_photographs_take_the_same_labels(synthetic, reader, tmp_path):
    shutil.copytree(synthetic, tmp_path/'in')
    texts = {}
    for k, p in enumerate(find_tracks(tmp_path/'in')):
        known = json.loads((p/'annotations.json').read_text(encoding='utf-8'))
        text = texts[p.name] = known['plate_text']
        spelt = [text, f'{text[:3]}-{text[3:]}', f'{text[:3]} {text[3:]}', '???????'][k % 4]
        (p/'annotations.json').write_text(json.dumps(known | dict(plate_text=spelt)), encoding='utf-8')
    usable = {name: text for k, (name, text) in enumerate(texts.items()) if k % 4 != 3}
    assert {t.id: t.text for t in FolderTracks(tmp_path/'in').tracks} == usable
    rows, scores = evaluate_tracks(reader, [tmp_path/'in'])
    assert {s.track.id: s.track.text for s in scores if s.track.text} == usable and len(scores) == 12
    assert rows[0]['n'] == 9


def test_an_unusable_truth_is_counted_aloud(synthetic, weights, tmp_path):
    shutil.copytree(synthetic, tmp_path/'in')
    for p in find_tracks(tmp_path/'in')[:2]: (p/'annotations.json').write_text('{"plate_text": "???????"}')
    done = call('ksr_eval', tmp_path/'in', '--weights', weights, '--device', 'cpu')
    assert done.code == 1 and 'Traceback' not in done.err
    assert any('2 of 12 tracks' in said and 'usable' in said for said in done.err.splitlines()), done.err


# names

@pytest.mark.parametrize('mark', (',', ';', '\udcff', '\x1b', *line_breaks))
def test_a_name_that_breaks_a_line_is_refused_before_reading(track, weights, mark, monkeypatch, tmp_path):
    bad = track.rename(track.with_name(f'track_0{mark}1'))
    monkeypatch.setattr(R, 'read_track', lambda *a, **k: pytest.fail('too late'))
    with pytest.raises(KSRError) as e: R.run_read([bad.parent], out=tmp_path/'sub.txt', weights=weights, device='cpu')
    assert 'expected' in str(e.value) and str(e.value).isprintable() and not (tmp_path/'sub.txt').exists()


@pytest.mark.parametrize('mark', (',', ';', '\n', '\udcff'))
def test_a_photographs_name_is_no_exception(mark, tmp_path):
    from ksr.commands import refuse_same_names
    with pytest.raises(KSRError, match='expected'): refuse_same_names([(f'a{mark}b.jpg', tmp_path/f'a{mark}b.jpg')])


def test_other_names_are_fine(track):
    for name in ('track 1', 'trãck_ü', '车牌', "o'track", 'track_#1', 'track=1', '🚗', 'פלטה'):
        track = track.rename(track.with_name(name))
        folders, lost = find_folders([track.parent])
        refuse_shared(folders)
        assert len(folders) == 1 and not lost


# junk

def littered(folder): # what Finder, Explorer, Synology and unzipping leave beside and inside
    for at in (folder, *[p for p in folder.rglob('*') if p.is_dir()]):
        for name in ('.DS_Store', 'Thumbs.db', 'desktop.ini', '._x', '._lr-001.png', '._photo.jpg'): (at/name).write_bytes(b'\0\5\26\7junk')
    for name in ('__MACOSX', '@eaDir', '$RECYCLE.BIN', '.Trashes'):
        for p in [p for p in folder.rglob('track_*') if p.is_dir() and p.parent.name not in ('__MACOSX', '@eaDir', '$RECYCLE.BIN', '.Trashes')]:
            (folder/name/p.name).mkdir(parents=True)
            (folder/name/p.name/'._lr-001.png').write_bytes(b'\0\5\26\7junk')
            (folder/name/p.name/'lr-001.png').write_bytes(b'\0\5\26\7junk')


def test_junk_is_no_track(track):
    before, digest = read_track(track), track_sha256(track)
    littered(track.parent)
    folders, lost = find_folders([track.parent])
    assert [p.name for p in folders] == [track.name] and not lost
    refuse_shared(folders)
    found = read_track(track, labelled=True)
    assert found.problems == before.problems == [] and all(map(torch.equal, found.frames, before.frames))
    assert track_sha256(track) == digest


def test_junk_is_no_photograph(tmp_path):
    from ksr.commands import sort_paths
    from ksr.datasets import pictures_below
    (tmp_path/'in'/'inner').mkdir(parents=True)
    for name in ('a.jpg', 'inner/b.mp4'): (tmp_path/'in'/name).write_bytes(b'x')
    littered(tmp_path/'in')
    for name in ('__MACOSX', '@eaDir'):
        (tmp_path/'in'/name).mkdir()
        (tmp_path/'in'/name/'a.jpg').write_bytes(b'x')
    tracks, media, notes = sort_paths([tmp_path/'in'])
    assert [name for name, _ in media] == ['a.jpg', 'inner/b.mp4'] and not tracks and not notes
    assert pictures_below(tmp_path/'in', 'a set') == ['a.jpg']


def test_junk_does_not_fill_an_empty_folder(tmp_path):
    from ksr.tracks import claim_folder
    for name in ('.DS_Store', 'Thumbs.db'): (tmp_path/name).write_bytes(b'x')
    claim_folder(tmp_path, dict(n=1))
    assert (tmp_path/'synth.json').is_file()


# numbers

def renumbered(track, numbers):
    files = sorted(track.glob('lr-*'))
    for k, p in enumerate(files): p.rename(track/f'x{k}')
    for k, n in enumerate(numbers): (track/f'x{k}').rename(track/f'lr-{n:03}.png')
    for p in track.glob('x*'): p.unlink()


@pytest.mark.parametrize('numbers, missing', [(range(5), None), (range(1, 6), None), ((0, 1, 2, 3), 'lr-004'), ((0, 1, 3, 4), 'lr-002'), ((1, 2, 3, 4), 'lr-005'), ((2, 3, 4, 5), 'lr-001')])
def test_frames_may_be_numbered_from_zero(track, numbers, missing):
    renumbered(track, numbers)
    said = [p.message for p in read_track(track).problems if p.level == 'warning' and not p.file]
    assert not said if missing is None else len(said) == 1 and said[0].endswith(f'without {missing}')


# arrays

@pytest.fixture(scope='module')
def five(): return [picture(k, (20 + k, 50 + k)) for k in range(5)]


def as_files(five, folder):
    for k, a in enumerate(five, 1): Image.fromarray(a).save(folder/f'lr-{k:03}.png')
    return folder


routes = dict(
    folder=as_files, text=lambda five, folder: str(as_files(five, folder)),
    files=lambda five, folder: sorted(as_files(five, folder).iterdir()),
    names=lambda five, folder: [str(p) for p in sorted(as_files(five, folder).iterdir())],
    tensors=lambda five, _: [torch.from_numpy(a).permute(2, 0, 1) for a in five],
    tensors_last=lambda five, _: [torch.from_numpy(a) for a in five],
    arrays=lambda five, _: five, arrays_first=lambda five, _: [a.transpose(2, 0, 1) for a in five],
    strided=lambda five, _: [np.asfortranarray(a[::-1, :, ::-1])[::-1, :, ::-1] for a in five],
    pictures=lambda five, _: [Image.fromarray(a) for a in five],
    opaque=lambda five, _: [Image.fromarray(a).convert('RGBA') for a in five],
    opened=lambda five, folder: [Image.open(p) for p in sorted(as_files(five, folder).iterdir())],
    mixed=lambda five, _: [Image.fromarray(five[0]), *five[1:3], *[torch.from_numpy(a).permute(2, 0, 1) for a in five[3:]]],
    lazily=lambda five, _: (a for a in five))


@pytest.mark.parametrize('route', routes)
def test_every_route_reads_the_same(reader, five, route, tmp_path):
    wanted = reader.read([torch.from_numpy(a).permute(2, 0, 1).contiguous() for a in five])
    found = reader.read(routes[route](five, tmp_path))
    assert (found.text, found.confidence, found.size, found.frames_used) == (wanted.text, wanted.confidence, wanted.size, 5)


def test_a_stack_is_a_list_of_frames(reader):
    a = np.stack([picture(k) for k in range(5)])
    one, two, three = reader.read(a), reader.read(torch.from_numpy(a).permute(0, 3, 1, 2)), reader.read(list(a))
    assert one.line == two.line == three.line and one.frames_used == 5


refused = dict(
    floats=(lambda a: a / 255, 'uint8'), floats32=(lambda a: torch.from_numpy(a).permute(2, 0, 1) / 255, 'uint8'), nan=(lambda a: np.full(a.shape, np.nan), 'uint8'),
    wide=(lambda a: a.astype('uint16'), 'uint8'), signed=(lambda a: a.astype(int), 'uint8'), truth=(lambda a: a > 9, 'uint8'), objects=(lambda a: a.astype(object), 'uint8'),
    gray=(lambda a: a[..., 0], '3 × h × w'), alpha=(lambda a: np.dstack([a, a[..., 0]]), '3 × h × w'), batch=(lambda a: a[None], '3 × h × w'), flat=(lambda a: a.ravel(), '3 × h × w'),
    dot=(lambda a: a[:1, :1], '1 × 1'), either=(lambda a: a[:3], 'expected'), thin=(lambda a: a[:, :3], 'expected'), empty=(lambda a: a[:0], 'expected'),
    screen=(lambda a: np.zeros((1080, 1920, 3), np.uint8), '1920 × 1080'), screen_tensor=(lambda a: torch.zeros(3, 1080, 1920, dtype=torch.uint8), '1920 × 1080'),
    screen_picture=(lambda a: Image.new('RGB', (1920, 1080)), '1920 × 1080'), clear=(lambda a: Image.new('RGBA', (60, 20)), 'transparent'),
    float_picture=(lambda a: Image.new('F', (60, 20)), 'mode F'), int_picture=(lambda a: Image.new('I', (60, 20)), 'mode I'),
    none=(lambda a: None, 'NoneType'), number=(lambda a: 7, 'int'), bytes=(lambda a: saved(a, 'PNG'), 'bytes'), lists=(lambda a: a.tolist(), 'list'),
    nowhere=(lambda a: 'no/such/file.png', 'no/such/file.png'), meta=(lambda a: torch.empty(3, 20, 50, dtype=torch.uint8, device='meta'), 'meta'))


@pytest.mark.parametrize('case', refused)
def test_what_is_ambiguous_is_refused(reader, case):
    make, said = refused[case]
    with pytest.raises(KSRError) as e: reader.read([picture(), make(picture())])
    assert said in str(e.value) and 'expected' in str(e.value) and 'frame 1' in str(e.value), e.value


@pytest.mark.parametrize('one', [lambda: picture(), lambda: torch.from_numpy(picture()).permute(2, 0, 1), lambda: Image.fromarray(picture()), lambda: None, lambda: 7, lambda: [], lambda: {}])
def test_one_picture_is_no_list(reader, one):
    with pytest.raises(KSRError, match='expected'): reader.read(one())


def test_a_picture_closed_or_cut_off_is_refused(reader, tmp_path):
    data = saved(picture(), 'PNG')
    (tmp_path/'cut.png').write_bytes(data[:len(data) // 2])
    (tmp_path/'whole.png').write_bytes(data)
    with Image.open(tmp_path/'whole.png') as closed: pass
    for frame in (tmp_path/'cut.png', Image.open(tmp_path/'cut.png'), closed):
        with pytest.raises(KSRError, match='expected'): reader.read([frame])


def test_turned_pictures_are_seen_alike_by_both_routes(reader, tmp_path):
    data, seen = turned('PNG', 6)
    (tmp_path/'a.png').write_bytes(data)
    assert reader.read([tmp_path/'a.png']).line == reader.read([Image.open(tmp_path/'a.png')]).line == reader.read([seen]).line


# processes

def _work(path, frames, answers): # in a process of its own
    torch.set_num_threads(1)
    answers.put(Reader(load_net(path), restore=False, each=False).read(frames).line)


def test_a_spawned_process_reads(reader, weights):
    frames, context = [picture(k) for k in range(5)], multiprocessing.get_context('spawn')
    here, answers = reader.read(frames).line, context.Queue()
    other = context.Process(target=_work, args=(weights, frames, answers))
    other.start()
    assert answers.get(timeout=120) == here
    other.join(60)
    assert other.exitcode == 0


# what fuzzing found

quads = dict(whole=[[3, 2], [38, 2], [38, 13], [3, 13]], point=[[5, 5]] * 4, line=[[0, 0], [10, 10], [20, 20], [30, 30]], bow=[[0, 0], [40, 15], [40, 0], [0, 15]], mirrored=[[40, 0], [0, 0], [0, 15], [40, 15]], far=[[-10**6, -10**6], [10**6, -10**6], [10**6, 10**6], [-10**6, 10**6]])


@pytest.mark.parametrize('quad', quads)
def test_given_corners_of_any_kind_end_in_a_reading(track, weights, quad): # whole numbers ended in a RuntimeError
    known = {p.name: dict(zip(('top-left', 'top-right', 'bottom-right', 'bottom-left'), quads[quad])) for p in sorted(track.glob('lr-*'))}
    (track/'annotations.json').write_text(json.dumps(dict(corners=known)))
    found = Reader(load_net(weights), corners='given').read(track)
    assert found.text and json.dumps(found.as_dict(), allow_nan=False)


@pytest.mark.parametrize('size', [(4, 4), (4, 512), (512, 4), (512, 512)])
@pytest.mark.parametrize('value', (0, 255))
def test_pictures_of_one_colour_and_any_shape_give_finite_numbers(weights, size, value): # a thin one had corners of NaN
    found = Reader(load_net(weights)).read([np.full((*size, 3), value, np.uint8)] * 2)
    assert json.dumps(found.as_dict(), allow_nan=False) and found.restored.isfinite().all()
