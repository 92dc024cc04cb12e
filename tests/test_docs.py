"""The site: what its sources hold (always), and the built pages (where the extra `docs` is installed): links, pictures, search, nothing from another host."""
import json, re, sys
from html.parser import HTMLParser
from importlib.util import find_spec
from urllib.parse import unquote

import pytest
from conftest import root

sys.path.insert(0, str(root/'docs'))
import build as B

missing = [name for name in ('sphinx', 'myst_nb', 'furo') if not find_spec(name)]


def test_docments_become_a_table():
    (name, doc, table), = B.docments('@patch\ndef go(self:Car,\n    far:float=2., # km, ≥ 0\n    *,\n    fast=False,\n) -> int: # steps\n    "Drive"\n    return 1')
    assert (name, doc) == ('Car.go', 'Drive')
    assert table.split('\n')[2:] == ['| `far` | `float` | `2.0` | km, ≥ 0 |', '| `fast` |  | `False` |  |', '| → | `int` |  | steps |']
    for text, rows in {"def go(far:float=2.) -> int: # steps\n    return 1": ['| `far` | `float` | `2.0` |  |', '| → | `int` |  | steps |'],
            'def go(far): return far # steps': ['| `far` |  |  |  |', '| → |  |  | steps |'],
            'def go(far, # km\n    fast): # or not\n    return 1': ['| `far` |  |  | km |', '| `fast` |  |  | or not |']}.items():
        (_, _, table), = B.docments(text)
        assert table.split('\n')[2:] == rows, table
    (_, _, table), = B.docments('class Stage:\n    "A phase"\n    steps:int = 3 # of the optimiser')
    assert table.split('\n')[2:] == ['| `steps` | `int` | `3` | of the optimiser |']


def test_names_lead_to_their_cells():
    names = B.exports()
    assert names['ksr.core.rectify'][0] == '00_core' and len(names) > 500
    assert B.linked('`KSRError` and `rectify`', names) == '[`KSRError`](#ksr.core.-k-s-r-error) and `rectify`' # a plain word may mean anything
    assert B.linked('    `KSRError`', names) == '    `KSRError`'


def test_cells_are_shown_as_they_are_stored(tmp_path):
    B.write_source(tmp_path)
    for path in B.notebooks:
        was, now = (json.loads(p.read_text(encoding='utf-8'))['cells'] for p in (path, tmp_path/'nbs'/path.name))
        pictures = lambda cells: [d for c in cells for o in c.get('outputs', []) for k, d in o.get('data', {}).items() if k.startswith('image/')]
        assert pictures(was) == pictures(now)
        assert not re.search('^#\\|', '\n'.join(B.source(c) for c in now if c['cell_type'] == 'code'), re.M)


class Page(HTMLParser):
    "What a page refers to, and the names in it"
    def __init__(self, path):
        super().__init__()
        self.links, self.fetched, self.ids = [], [], set()
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attributes):
        a = dict(attributes)
        if 'id' in a: self.ids.add(a['id'])
        if tag == 'a' and a.get('href'): self.links.append(a['href'])
        if tag in ('script', 'img', 'iframe', 'source') and a.get('src'): self.fetched.append(a['src'])
        if tag == 'link' and a.get('rel') in ('stylesheet', 'icon', 'preload'): self.fetched.append(a['href'])


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    if missing: pytest.skip(f'{", ".join(missing)} not installed: make docs installs them')
    return B.build(tmp_path_factory.mktemp('docs'))


def test_every_link_of_the_site_resolves(site):
    pages = {p: Page(p) for p in site.rglob('*.html')}
    assert {site/'nbs'/f'{p.stem}.html' for p in B.notebooks} < set(pages)
    broken = []
    for path, page in pages.items():
        for target in page.links + page.fetched:
            if re.match(r'(https?|mailto|data):', target): continue
            name, _, part = unquote(target.split('?')[0]).partition('#')
            goal = (path.parent/name).resolve() if name else path
            if goal.is_dir(): goal = goal/'index.html'
            if not goal.exists() or part and goal in pages and part not in pages[goal].ids | {'', 'top'}: broken.append((path.name, target))
    assert broken == []
    assert [(p.name, t) for p, page in pages.items() for t in page.fetched if re.match('(https?:)?//', t)] == []


def test_the_site_shows_figures_tables_equations_and_finds_words(site):
    text = (site/'nbs'/'07_rectifier.html').read_text(encoding='utf-8')
    assert '<img' in text and '<math' in text and '<th class="head"><p>meaning</p></th>' in text
    assert 'consist' in (site/'searchindex.js').read_text(encoding='utf-8')
    assert 'href="07_rectifier.html"' in (site/'nbs'/'index.html').read_text(encoding='utf-8')


def test_every_equation_is_synthetic(site):
    for path in (site/'nbs').glob('*.html'):
        text = re.sub(r'<pre.*?</pre>|<code.*?</code>|<script.*?</script>|<table.*?</table>', '', path.read_text(encoding='utf-8'), flags=re.S)
        assert '$' not in re.sub('<[^>]*>', '', text), path.stem
