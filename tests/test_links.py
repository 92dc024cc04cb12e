"""Links lead somewhere: README, its guide, data/README, the changelog, model cards and the notebooks' markdown; every notebook stands on the map."""
import ast, json, re
from configparser import ConfigParser
from pathlib import Path
from urllib.parse import unquote

import pytest, yaml
from conftest import root

notebooks = sorted(p for p in (root/'nbs').glob('*.ipynb') if not p.name.startswith(('.', '_')))
guide = sorted((root/'docs'/'guide').glob('*.md'))
pages = [root/'README.md', *guide, root/'CHANGELOG.md', root/'data'/'README.md', *sorted((root/'ksr'/'weights').glob('*.md')), *notebooks]


def cells(path): return json.loads(path.read_text(encoding='utf-8'))['cells']


def prose(path): # the markdown of a page, without code
    text = path.read_text(encoding='utf-8') if path.suffix == '.md' else '\n\n'.join(''.join(c['source']) for c in cells(path) if c['cell_type'] == 'markdown')
    return re.sub(r'`[^`\n]*`', '', re.sub(r'^```.*?^```|^ {4,}.*?$', '', text, flags=re.M | re.S))


def html(path): # the markup that cells have left
    outputs = [o for c in cells(path) if c['cell_type'] == 'code' for o in c['outputs']] if path.suffix == '.ipynb' else []
    return '\n'.join(''.join(o['data']['text/html']) for o in outputs if 'text/html' in o.get('data', {}))


def links(path):
    found = re.findall(r'\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)', prose(path)) + re.findall(r'(?:href|src)="([^"]+)"', prose(path) + html(path))
    return [t for t in found if not re.match(r'(https?|mailto|data|attachment):', t)]


def anchors(path): # as JupyterLab makes them, and as forges do
    said = [re.sub(r'[`*]', '', t).strip() for t in re.findall(r'^#+ (.+)$', prose(path), re.M)]
    return {t.replace(' ', '-') for t in said} | {re.sub(r'[^\w\- ]', '', t.lower()).replace(' ', '-') for t in said}


@pytest.mark.parametrize('path', pages, ids=lambda p: str(p.relative_to(root)))
def test_every_relative_link_resolves(path):
    for target in links(path):
        name, _, part = unquote(target).partition('#')
        goal = (path.parent/name).resolve() if name else path
        assert goal.exists() and root in (goal, *goal.parents), f'{target}: no such file'
        if part: assert part in anchors(goal), f'{target}: no such heading'


def test_links_are_found():
    assert len(links(root/'nbs'/'index.ipynb')) > len(notebooks)
    assert 'figures/reading.png' in links(root/'README.md')


def test_every_page_of_the_guide_is_reached_from_the_readme():
    assert {f'docs/guide/{p.name}' for p in guide} <= {target.split('#')[0] for target in links(root/'README.md')}


def test_every_notebook_stands_on_the_map():
    shown = html(root/'nbs'/'index.ipynb')
    assert {p.name for p in notebooks} - {'index.ipynb'} == set(re.findall(r'href="([^"]+\.ipynb)"', shown))


def test_citation_is_of_this_version():
    config = ConfigParser(delimiters=['='])
    config.read(root/'settings.ini', encoding='utf-8')
    cff, settings = yaml.safe_load((root/'CITATION.cff').read_text(encoding='utf-8')), config['DEFAULT']
    assert (cff['version'], [a['name'] for a in cff['authors']], cff['title']) == (settings['version'], [settings['author']], settings['description'])
    assert cff['cff-version'] == '1.2.0' and 'doi' not in cff


modules = {p.stem[3:]: p for p in notebooks if p.stem[:2].isdigit()}


def used(path): # names of ksr's modules that a notebook imports
    code = '\n'.join(re.sub(r'^\s*[%!].*$', '', ''.join(c['source']), flags=re.M) for c in cells(path) if c['cell_type'] == 'code')
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import): found |= {a.name.split('.')[1] for a in node.names if a.name.startswith('ksr.')}
        elif isinstance(node, ast.ImportFrom) and node.module == 'ksr': found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or '').startswith('ksr.'): found.add(node.module.split('.')[1])
    return found & set(modules)


def ways(path): # the second cell of every notebook but the map: down to what it uses, up to what uses it
    named = lambda paths: ', '.join(f'[{p.stem.replace("_", " ")}]({p.name})' for p in sorted(paths)) or 'nothing'
    said = f'[Map](index.ipynb). Uses {named(modules[m] for m in used(path))}.'
    if path.stem[:2].isdigit(): said += f' Used by {named(p for p in notebooks if path.stem[3:] in used(p) and p != path and p.stem != "index")}.'
    return said


@pytest.mark.parametrize('path', [p for p in notebooks if p.stem != 'index'], ids=lambda p: p.stem)
def test_every_notebook_leads_to_its_neighbours(path):
    assert ''.join(cells(path)[1]['source']) == ways(path), f'run {Path(__file__).relative_to(root)} to write it anew'


if __name__ == '__main__': # write the cells of `ways`
    for path in notebooks:
        if path.stem == 'index': continue
        nb, said = json.loads(path.read_text(encoding='utf-8')), ways(path)
        if nb['cells'][1]['id'] != 'ways0000': nb['cells'].insert(1, dict(cell_type='markdown', id='ways0000', metadata={}, source=[]))
        nb['cells'][1]['source'] = [said]
        path.write_text(json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True) + '\n', encoding='utf-8')
