"""What README tells people to run does what it says."""
import re, textwrap

import pytest
from conftest import root

from ksr.experiment import branches, protocol_stages, stage_rows


def test_real_tracks_are_learnt_by_what_reads():
    said = re.search(r'-p stages (\S+) -p init small -p data', (root/'README.md').read_text(encoding='utf-8'))[1].split(',')
    learns = {part for stage in said for part in stage_rows[stage]['trains']}
    assert branches['plus'] == ('joint',) and {'rectifier', 'reader'} <= learns, learns
    assert all(stage.steps > 0 for stage in protocol_stages('small', 'plus', only=tuple(said)))


blocks = re.findall(r'(?:^    .*\n|^\n(?=    ))+', (root/'README.md').read_text(encoding='utf-8'), re.M)
python = [textwrap.dedent(b).strip() for b in blocks if re.search(r'^    (from ksr|import ksr)', b, re.M)]


@pytest.mark.parametrize('code', [c for c in python if not re.search('clip.mp4|raft|Second', c)], ids=lambda c: c[:40])
def test_python_of_the_readme_runs(code, monkeypatch):
    monkeypatch.chdir(root)
    exec(code, {})


def test_readme_has_python(): assert len(python) >= 2
