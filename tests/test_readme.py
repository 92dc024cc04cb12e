"""What README and its guide tell people to run does what it says, and README stays short."""
import re, textwrap

import pytest
from conftest import root

from ksr.experiment import branches, protocol_stages, stage_rows


pages = [root/'README.md', *sorted((root/'docs'/'guide').glob('*.md'))]
texts = {p: p.read_text(encoding='utf-8') for p in pages}


def test_real_tracks_are_learnt_by_what_reads():
    said = re.search(r'-p stages (\S+) -p init small -p data', '\n'.join(texts.values()))[1].split(',')
    learns = {part for stage in said for part in stage_rows[stage]['trains']}
    assert branches['plus'] == ('joint',) and {'rectifier', 'reader'} <= learns, learns
    assert all(stage.steps > 0 for stage in protocol_stages('small', 'plus', only=tuple(said)))


blocks = [b for text in texts.values() for b in re.findall(r'(?:^    .*\n|^\n(?=    ))+', text, re.M)]
python = [textwrap.dedent(b).strip() for b in blocks if re.search(r'^    (from ksr|import ksr)', b, re.M)]


@pytest.mark.parametrize('code', [c for c in python if 'raft' not in c], ids=lambda c: c[:40])
def test_python_of_the_readme_runs(code, monkeypatch):
    monkeypatch.chdir(root)
    exec(code, {})


def test_pages_have_python(): assert len(python) >= 4


def test_readme_is_short():
    text = texts[root/'README.md']
    assert text.count('\n') <= 150 and len(re.sub('<!--.*?-->', '', text).encode()) <= 14 * 1024
