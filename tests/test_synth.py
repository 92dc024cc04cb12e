"""Synthetic tracks: the same seed, the same bytes, whatever the process; and the sample that is shipped."""
import csv, hashlib, json

import pytest
from conftest import call, root


def contents(folder): return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob('*')) if p.is_file()}


def test_same_seed_same_bytes(synthetic, tmp_path):
    assert call('ksr_synth', tmp_path/'again', '--n', 12, '--seed', 3, fresh=True).code == 0
    once, again = contents(synthetic), contents(tmp_path/'again')
    assert set(once) == set(again) and len(once) == 12 * 11 + 2
    assert [name for name in once if once[name] != again[name]] == []


def test_another_seed_other_tracks(synthetic, tmp_path):
    assert call('ksr_synth', tmp_path/'other', '--n', 2, '--seed', 4).code == 0
    once, other = contents(synthetic), contents(tmp_path/'other')
    images = {name for name in other if name.endswith(('.png', '.jpg'))}
    assert images and all(once.get(name) != other[name] for name in images)


def test_refuses_a_folder_that_is_not_empty(tmp_path):
    (tmp_path/'mine.txt').write_text('kept')
    done = call('ksr_synth', tmp_path, '--n', 2)
    assert done.code != 0 and 'is not empty' in done.err and 'Traceback' not in done.err
    assert contents(tmp_path) == {'mine.txt': b'kept'}


@pytest.mark.parametrize('options, expected', [(['--layout', 'Martian'], "'Brazilian', 'Mercosur'"), (['--severity', '2,3'], '0 ≤ LOW'), (['--n', 0], 'at least one'),
    (['--steep', '1.5'], '0 ≤ SHARE ≤ 1')])
def test_wrong_options_say_what_is_right(tmp_path, options, expected):
    done = call('ksr_synth', tmp_path/'tracks', *options)
    assert done.code != 0 and expected in done.err and 'Traceback' not in done.err
    assert not (tmp_path/'tracks').exists()


def test_steep_or_straight(tmp_path):
    for share in (0, 1):
        assert call('ksr_synth', tmp_path/str(share), '--n', 4, '--steep', share).code == 0
        assert [r['steep'] for r in csv.DictReader(open(tmp_path/str(share)/'manifest.csv', encoding='utf-8'))] == [str(share)] * 4


def test_sample_is_whole_and_synthetic_as_its_note_says():
    from ksr.tracks import parse_severity, SyntheticTracks, find_tracks, track_sha256
    sample = root/'data'/'sample'
    rows = {r['track']: r for r in csv.DictReader(open(sample/'manifest.csv', encoding='utf-8'))}
    assert {p.name: track_sha256(p) for p in find_tracks(sample)} == {t: r['sha256'] for t, r in rows.items()}
    assert {(r['layout'], r['scenario']) for r in rows.values()} == {(layout, s) for layout in ('Brazilian', 'Mercosur') for s in 'AB'}
    assert '1' in {r['steep'] for r in rows.values()} and max(float(r['plate_width']) for r in rows.values()) >= 60
    how = json.loads((sample/'synth.json').read_text(encoding='utf-8'))
    command = f'ksr_synth data/sample --n {how["n"]} --seed {how["seed"]} --severity {how["severity"]} --role {how["role"]}'
    assert command in (root/'data'/'README.md').read_text(encoding='utf-8')
    for s in 'AB':
        numbers = [i for i in range(how['n']) if 'AB'[i % 2] == s]
        tracks = SyntheticTracks(how['seed'], severity=parse_severity(how['severity']), scenario=s, role=how['role'], steep=how['steep']).tracks(numbers)
        assert [(t.text, f'{width:.2f}', str(steep)) for t, width, _, steep in tracks] == [tuple(rows[t.id][k] for k in ('text', 'plate_width', 'steep')) for t, *_ in tracks]
