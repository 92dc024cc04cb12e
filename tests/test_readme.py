"""What README tells people to run does what it says."""
import re

from conftest import root

from ksr.experiment import branches, protocol_stages, stage_rows


def test_real_tracks_are_learnt_by_what_reads():
    said = re.search(r'-p stages (\S+) -p init small -p data', (root/'README.md').read_text(encoding='utf-8'))[1].split(',')
    learns = {part for stage in said for part in stage_rows[stage]['trains']}
    assert branches['plus'] == ('joint',) and {'rectifier', 'reader'} <= learns, learns
    assert all(stage.steps > 0 for stage in protocol_stages('small', 'plus', only=tuple(said)))
