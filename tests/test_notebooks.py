"""The notebooks as files: clean, exported, small, in order; and their parameters, through papermill."""
import ast, json, re, shutil

import pytest
from conftest import call, root

notebooks = sorted((root/'nbs').glob('*.ipynb'))
reports = [p for p in notebooks if p.stem in ('train', 'ablation', 'clips', 'evaluate', 'explore', 'figures', 'generator', 'read')]
source = lambda cell: ''.join(cell['source'])
named = pytest.mark.parametrize('path', notebooks, ids=lambda p: p.stem)


def cells(path, kind='code'): return [c for c in json.loads(path.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == kind]


def module(path): # what the notebook exports to, or None
    found = re.findall(r'^#\|\s*default_exp (\S+)', '\n'.join(map(source, cells(path))), re.M)
    assert len(found) <= 1
    return found[0] if found else None


def exported(path): return [source(c) for c in cells(path) if re.match(r'#\|\s*export', source(c))]


@pytest.fixture(scope='module')
def copied(tmp_path_factory):
    "A copy of the project in which the tools may do their work"
    folder = tmp_path_factory.mktemp('copy')
    for name in ('nbs', 'ksr'): shutil.copytree(root/name, folder/name, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints', 'weights'))
    for name in ('settings.ini', 'setup.py', 'README.md'): shutil.copy(root/name, folder/name)
    return folder


def changed(folder, pattern): return [p.name for p in sorted(root.glob(pattern)) if p.read_bytes() != (folder/p.relative_to(root)).read_bytes()]


def test_notebooks_are_clean(copied):
    assert call('nbdev_clean', cwd=copied).code == 0
    assert changed(copied, 'nbs/*.ipynb') == []


def test_modules_are_exported(copied):
    for p in (copied/'ksr').glob('*.py'):
        if p.name != '__init__.py': p.unlink()
    done = call('nbdev_export', cwd=copied)
    assert done.code == 0, done.err
    assert changed(copied, 'ksr/*.py') == []
    assert {p.name for p in (copied/'ksr').glob('*.py')} == {p.name for p in (root/'ksr').glob('*.py')}


@named
def test_small_whole_and_without_errors(path):
    assert path.stat().st_size <= 400 * 1024
    outputs = [o for c in cells(path) for o in c.get('outputs', [])]
    assert not [o for o in outputs if o['output_type'] == 'error']
    assert 'widgets' not in json.loads(path.read_text(encoding='utf-8'))['metadata']


# notebooks that still have lines of code over 140 characters: a name leaves when its notebook has none, and none comes in
unwrapped = set()


@named
def test_lines_and_export_cells_are_short(path):
    long = [text for c in cells(path) for text in source(c).splitlines() if len(text) > 140]
    assert bool(long) == (path.stem in unwrapped), long[:3]
    assert [n for text in exported(path) if (n := len(text.splitlines())) > 50] == []


@named
def test_starts_with_a_title_and_its_idea(path):
    first = source(cells(path, 'markdown')[0])
    assert re.match(r'# \S.*\n\n> \S', first), first[:80]


@named
def test_cells_have_ids_of_their_own(path):
    ids = [c['id'] for c in cells(path)]
    assert len(set(ids)) == len(ids), [i for i in ids if ids.count(i) > 1]


def test_numbered_notebooks_import_only_lower_numbers():
    number = {module(p): int(p.stem[:2]) for p in notebooks if p.stem[:2].isdigit()}
    assert len(number) == sum(p.stem[:2].isdigit() for p in notebooks), 'two notebooks export to one module'
    for p in notebooks:
        if not p.stem[:2].isdigit(): continue
        code = '\n'.join(re.sub(r'^\s*[%!].*$', '', source(c), flags=re.M) for c in cells(p))
        wanted = {m for node in ast.walk(ast.parse(code)) for m in imported(node)}
        assert {m for m in wanted if number[m] >= int(p.stem[:2])} == set(), p.name


def imported(node): # names of ksr's modules that an import statement takes
    if isinstance(node, ast.Import): return [a.name.split('.')[1] for a in node.names if a.name.startswith('ksr.')]
    if not isinstance(node, ast.ImportFrom): return []
    if node.module == 'ksr': return [a.name for a in node.names]
    return [node.module.split('.')[1]] if (node.module or '').startswith('ksr.') else []


def test_there_are_reports(): assert {'train', 'ablation', 'clips', 'evaluate', 'explore', 'figures', 'generator', 'read'} <= {p.stem for p in reports}


@pytest.mark.parametrize('path', reports, ids=lambda p: p.stem)
def test_parameters_are_tagged_and_documented(path):
    tagged = [c for c in cells(path) if 'parameters' in c['metadata'].get('tags', [])]
    assert len(tagged) == 1 and module(path) is None
    for text in source(tagged[0]).splitlines(): assert re.fullmatch(r'\w+: (str|int|float|bool) = [^=]+ # .+', text), text


# report → a wrong value, what is named, what is said to be right
wrong = dict(train=('variant', 'v9', "'v1', 'v2', 'final', 'plus'"), evaluate=('device', 'abacus', 'expected auto, cpu, cuda'), read=('shown', '0', 'expected at least 1'),
    explore=('live', 'maybe', 'expected auto, yes or no'), generator=('tracks', '2', 'expected at least 8'), ablation=('rows', 'v1,v9', 'expected some of'), figures=('results', 'nowhere', 'no such folder'),
    clips=('pairs', '0', 'expected 0 or more, 1 or more'))


def papermill(path, folder, *options):
    done = call('papermill', path, folder/path.name, '--cwd', root/'nbs', '--no-progress-bar', *options)
    assert json.loads((folder/path.name).read_text(encoding='utf-8'))['metadata']['papermill']
    return done


@pytest.mark.parametrize('path', reports, ids=lambda p: p.stem)
def test_unknown_parameter_stops_and_lists_the_known(path, tmp_path):
    known = re.findall(r'^(\w+):', source(next(c for c in cells(path) if 'parameters' in c['metadata'].get('tags', []))), re.M)
    done = papermill(path, tmp_path, '-p', 'no_such_setting', 5)
    assert done.code != 0 and 'KSRError' in done.err and 'no_such_setting' in done.err, done.err[-2000:]
    said = re.sub(r'\x1b\[[0-9;]*m', '', done.err)[-3000:].splitlines()
    assert any(all(f"'{name}'" in text for name in known) for text in said), said[-5:]


@pytest.mark.parametrize('path', [p for p in reports if p.stem in wrong], ids=lambda p: p.stem)
def test_wrong_value_stops_and_lists_the_right_ones(path, tmp_path, weights):
    name, value, right = wrong[path.stem]
    more = [] if path.stem in ('train', 'ablation', 'figures') else ['-p', 'weights', weights]
    done = papermill(path, tmp_path, '-p', name, value, *more)
    assert done.code != 0 and f"{name}" in done.err and right in done.err, done.err[-2000:]


def test_read_reports_what_it_could_not_read(synthetic, weights, tmp_path):
    shutil.copytree(synthetic, tmp_path/'tracks')
    broken = sorted((tmp_path/'tracks').glob('*/*/track_*'))[0]
    for p in broken.glob('lr-*'): p.write_bytes(b'')
    done = papermill(root/'nbs'/'read.ipynb', tmp_path, '-p', 'paths', tmp_path/'tracks', '-p', 'weights', weights, '-p', 'out', tmp_path/'out', '-p', 'device', 'cpu')
    assert done.code != 0 and f'error: {broken.name}' in done.err, done.err[-2000:]
    lines = (tmp_path/'out'/'submission.txt').read_text(encoding='utf-8').splitlines()
    assert len(lines) == 11 and not any(text.startswith(broken.name) for text in lines)
    assert len(list((tmp_path/'out'/'restored').glob('*.png'))) == 11
    assert {p.name for p in (tmp_path/'out').iterdir()} == {'submission.txt', 'submission.zip', 'readings.json', 'reading.png', 'restored'}
