"""The three answers through the command: every track has one, with its reason; what nobody should rely on is not called read."""
import csv, json, shutil

import pytest
import torch
from conftest import root

from ksr.commands import run
from ksr.core import KSRError
from ksr.reading import Reading, find_folders
from ksr.tracks import SyntheticTracks, Track, encode_image, write_track
from ksr.trust import Reader, judge, judged, load_trust, non_plates, run_trust, trust_file

small = root/'ksr/weights/small.safetensors'
cpu = dict(weights='small', device='cpu')


def answers_of(path): return {row['track']: row for row in csv.DictReader(path.read_text(encoding='utf-8').splitlines())}


def frames_of(batch, i): return [batch.native[i, t, :, :h, :w] for t, (h, w) in enumerate(batch.size[i].tolist())]


@pytest.fixture(scope='module')
def asked(tmp_path_factory):
    "Sample tracks, one without a frame, two plates in one track, five plates in one, plates of two rows: what was said of them, and the folder"
    folder = tmp_path_factory.mktemp('asked')
    shutil.copytree(root/'data/sample', folder/'tracks/sample')
    (folder/'tracks/broken').mkdir()
    (folder/'tracks/broken/lr-001.png').write_bytes(b'no picture')
    clear = SyntheticTracks(4, role='test', scenario='A', severity=(0., .1), steep=0.)(range(5))
    first, *others = (frames_of(clear, i) for i in range(5))
    mixed = dict(alone=first, two=first[:3] + others[0][3:], five=[first[0], *(frames[k] for k, frames in enumerate(others, 1))])
    square = non_plates('motorcycle', range(12))
    mixed |= {f'rows_{i:02}': frames_of(square, i) for i in range(12)}
    for name, frames in mixed.items(): write_track(Track(name, frames, [f'lr-{t:03}.png' for t in range(1, 6)]), folder/'tracks'/name)
    return folder


@pytest.fixture(scope='module')
def said(asked):
    code = run([asked/'tracks'], out=asked/'sub.txt', json=asked/'r.json', error_rate=.05, answers=str(asked/'a.csv'), **cpu)
    return code, answers_of(asked/'a.csv')


def test_every_track_has_an_answer_and_its_reason(asked, said):
    code, rows = said
    assert code == 1 and set(rows) == {p.name for p in find_folders([asked/'tracks'])[0]} # the broken one fails, and is there
    assert {row['answer'] for row in rows.values()} == {'read', 'needs review', 'cannot be read'}
    assert all(row['reason'] and len(row['text']) == 7 and row['text'].count('?') == len(row['open'].split()) for row in rows.values())
    assert rows['broken']['answer'] == 'cannot be read' and rows['broken']['problems'] and rows['broken']['reason'] == rows['broken']['problems']
    assert all(a.count('=') >= 2 for row in rows.values() if row['alternatives'] for a in row['alternatives'].split(';'))


def test_the_submission_stays_as_it_is(asked, said, capsys):
    capsys.readouterr()
    run([asked/'tracks/sample'], out=asked/'plain.txt', **cpu)
    plain = capsys.readouterr().out
    assert (asked/'plain.txt').read_text() == plain
    texts = lambda lines: dict(line.split(';')[0].split(',') for line in lines.splitlines())
    assert texts(plain).items() <= texts((asked/'sub.txt').read_text()).items() and all(line.count(';') == 1 for line in plain.splitlines())
    details = json.loads((asked/'r.json').read_text(encoding='utf-8'))['readings']
    assert {r['track']: r['answer']['kind'] for r in details} == {name: row['answer'] for name, row in said[1].items()}
    assert all(r['answer']['error_rate'] == .05 for r in details)


def test_several_plates_in_a_track_are_not_read(said):
    rows = said[1]
    assert rows['alone']['answer'] == 'read'
    assert (rows['two']['answer'], rows['two']['reason']) == ('needs review', 'the frames disagree, as those of several plates do')
    assert rows['five']['answer'] == 'cannot be read'


def test_plates_of_two_rows_cannot_be_read(said):
    rows = [row for name, row in said[1].items() if name.startswith('rows_')]
    assert len(rows) == 12 and {row['answer'] for row in rows} == {'cannot be read'} and {row['text'] for row in rows} == {'?' * 7}
    assert sum('plates of two rows' in row['reason'] for row in rows) >= 6 # the others are seen too steeply to be told by their shape


def test_photographs_have_answers_too(tmp_path, capsys):
    media = tmp_path/'media'
    media.mkdir()
    shutil.copy(root/'data/sample-media/photo.jpg', media/'photo.jpg')
    (media/'empty.png').write_bytes(encode_image(torch.full((3, 240, 320), 90, dtype=torch.uint8)))
    assert run([media], error_rate=.05, answers=str(tmp_path/'a.csv'), **cpu) == 0
    rows = answers_of(tmp_path/'a.csv')
    assert rows['empty.png']['answer'] == 'cannot be read' and 'no plate' in rows['empty.png']['reason']
    plates = [name for name in rows if name.startswith('photo.jpg#')]
    assert plates and len(capsys.readouterr().out.splitlines()) == len(rows)


def test_python_says_the_same(asked, said):
    path = next(p for p in find_folders([asked/'tracks'])[0] if p.name == 'two')
    reading = Reader.from_pretrained('small', 'cpu', restore=False).trusted(path, error_rate=.05)
    row = said[1]['two']
    assert (reading.answer['kind'], reading.answer['text'], reading.answer['reason']) == (row['answer'], row['text'], row['reason'])


def test_what_cannot_be_asked_for(tmp_path):
    other = tmp_path/'mine.safetensors'
    shutil.copy(small, other)
    for options, expected in ((dict(error_rate=.01, weights=other), 'ksr_trust'), (dict(error_rate=2.), 'expected 0.001'), (dict(error_rate=.001), 'is less than 4096 synthetic tracks can show'),
                              (dict(answers='a.csv'), '--error-rate RATE'), (dict(error_rate=.01, corners='given'), '--corners given: expected found'), (dict(error_rate=.01, tta='identity,darker'), '--tta')):
        with pytest.raises(KSRError, match=expected): run([root/'data/sample'], **cpu | options)
    with pytest.raises(KSRError, match='each=True'): judged(Reading('t', log_p=torch.zeros(7, 36)), load_trust(trust_file('small'), Reader.from_pretrained('small', 'cpu').weights))
    judge('small', .01)
    for options in (dict(corners='given'), dict(tta='identity,darker')):
        with pytest.raises(KSRError, match='which the thresholds know'): Reader.from_pretrained('small', 'cpu', restore=False, **options).trusted(root/'data/sample', .01)
    other.with_suffix('.trust.json').write_text(trust_file('small').read_text().replace('"weights": "', '"weights": "0'))
    with pytest.raises(KSRError, match='is for weights 0'): Reader.from_pretrained(str(other), 'cpu')
    assert Reader.from_pretrained(str(other), 'cpu', trusted=False).line == (1., 0.)


def test_a_broken_file_of_thresholds_is_named(tmp_path):
    other = tmp_path/'mine.safetensors'
    shutil.copy(small, other)
    plain = json.loads(trust_file('small').read_text())
    for change, said in ((dict(line=[float('nan'), 0]), 'line'), (dict(text=[]), 'text'), (dict(quantiles=[]), 'quantiles'), (dict(least='4'), 'least'), (dict(text=plain['text'][0]), 'text')):
        other.with_suffix('.trust.json').write_text(json.dumps(plain | change))
        for ask in (lambda: Reader.from_pretrained(str(other), 'cpu'), lambda: run([root/'data/sample'], weights=str(other), device='cpu', error_rate=.01)):
            with pytest.raises(KSRError, match=rf'mine.trust.json: {said} .*expected'): ask()


def test_copies_of_a_frame_are_one_frame(asked, tmp_path):
    "Thresholds and sets are those of as many frames as differ, whatever the files are"
    batch = SyntheticTracks(4, role='test', scenario='A', severity=(0., .3), steep=0.)(range(6))
    trust, reader = load_trust(trust_file('small'), Reader.from_pretrained('small', 'cpu').weights), Reader.from_pretrained('small', 'cpu', restore=False)
    assert len({levels[3:] for levels in trust.text}) == len({levels[3:] for levels in trust.character}) == len({*trust.quantiles}) == 3
    for i in range(6):
        frames = frames_of(batch, i)
        said = {n: judged(reader.read(some), trust, .05) for n, some in ((5, frames), (1, frames[2:3]), (-1, frames[2:3] * 5), (2, [frames[1], frames[3]]))}
        for n, answer in said.items(): assert ('distinct frame' in answer['reason']) == (n != 5) or 'frames disagree' in answer['reason']
        assert said[1]['sets'] == said[-1]['sets'] and said[1]['kind'] == said[-1]['kind'] and 'from 1 distinct frame' in said[-1]['reason']
        sure = {n: a['kind'] == 'read' for n, a in said.items()}
        for n in (1, 2): assert sure[n] == (said[n]['confidence'] >= trust.threshold('text', .05, n)) or said[n]['kind'] == 'cannot be read'


def test_thresholds_that_differ_are_told(tmp_path, capsys):
    other = tmp_path/'mine.safetensors'
    shutil.copy(small, other)
    kept = other.with_suffix('.trust.json')
    assert run_trust(str(other), 12, 1, str(kept), '') == 0
    assert run_trust(str(other), 12, 1, '', '') == 0 and 'mine.trust.json: identical' in capsys.readouterr().out
    plain = json.loads(kept.read_text())
    plain['quantiles'][1][0][2][6] = .5
    kept.write_text(json.dumps(plain))
    assert run_trust(str(other), 12, 1, '', '') == 1 and 'mine.trust.json: NOT identical' in capsys.readouterr().out
