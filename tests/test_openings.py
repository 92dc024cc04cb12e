"""Every module notebook opens with the one picture that shows what it is for. Where one of its own cells draws it (`#| label: opening`), `nbs/images` holds the very bytes of that cell's stored output; `python tests/test_openings.py` writes them."""
import base64, json, re
from pathlib import Path

import pytest

root = Path(__file__).resolve().parent.parent
notebooks = sorted((root/'nbs').glob('[0-9]*.ipynb'))
suffixes = {'image/png': 'png', 'image/jpeg': 'jpg'}
source = lambda cell: ''.join(cell['source'])


def cells(path): return json.loads(path.read_text(encoding='utf-8'))['cells']


def drawn(path): # (suffix, bytes) of the labelled cell's picture, or None
    labelled = [c for c in cells(path) if c['cell_type'] == 'code' and re.search(r'^#\|\s*label: opening$', source(c), re.M)]
    assert len(labelled) <= 1, f'{path.name}: {len(labelled)} cells are labelled opening'
    found = [(suffix, base64.b64decode(''.join(o['data'][kind]))) for c in labelled for o in c['outputs'] for kind, suffix in suffixes.items() if kind in o.get('data', {})]
    assert bool(found) == bool(labelled), f'{path.name}: the cell labelled opening has no stored picture'
    return found[0] if found else None


@pytest.mark.parametrize('path', notebooks, ids=lambda p: p.stem)
def test_a_module_opens_with_its_picture(path):
    links = re.findall(r'!\[([^\]]+)\]\(([^)]+)\)', source(cells(path)[0]))
    assert len(links) == 1 and links[0][0].strip(), f'{path.name}: expected one picture with a text below the title'
    picture = path.parent/links[0][1]
    assert picture.is_file(), f'{path.name}: {picture} is not there'
    own = drawn(path)
    if own: assert picture == path.parent/'images'/f'{path.stem}.{own[0]}' and picture.read_bytes() == own[1], f'{path.name}: run python tests/test_openings.py'


if __name__ == '__main__':
    for path in notebooks:
        if not (own := drawn(path)): continue
        target = path.parent/'images'/f'{path.stem}.{own[0]}'
        target.parent.mkdir(exist_ok=True)
        if not target.is_file() or target.read_bytes() != own[1]: target.write_bytes(own[1]), print(target.relative_to(root))
