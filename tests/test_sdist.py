"""The source distribution: it holds what the tests need, and they can be collected where it is unpacked."""
import shutil, subprocess, sys, tarfile

import pytest
from conftest import env, root

parts = ('ksr', 'nbs', 'tests', 'data', 'figures', 'docs', '.ci')
files = ('settings.ini', 'setup.py', 'MANIFEST.in', 'Makefile', 'LICENSE', 'README.md', 'CHANGELOG.md', 'CITATION.cff', 'constraints.txt')
ignored = shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints', 'runs')


@pytest.fixture(scope='module')
def unpacked(tmp_path_factory):
    "Built in a copy, so that the project is left as it is"
    folder = tmp_path_factory.mktemp('sdist')
    for name in parts: shutil.copytree(root/name, folder/'project'/name, ignore=ignored)
    for name in files: shutil.copy(root/name, folder/'project')
    backend = 'import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])'
    done = subprocess.run([sys.executable, '-c', backend, folder], cwd=folder/'project', stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    with tarfile.open(next(folder.glob('*.tar.gz'))) as tar: tar.extractall(folder/'out', **(dict(filter='data') if hasattr(tarfile, 'data_filter') else {})) # Pythons before 3.10.12 have none
    return next((folder/'out').iterdir())


def test_it_holds_every_file(unpacked):
    wanted = {p.relative_to(root) for name in parts for p in (root/name).rglob('*') if p.is_file() and not {'__pycache__', '.ipynb_checkpoints', 'runs'} & {*p.parts}}
    assert {*wanted, *map(type(root), files)} - {p.relative_to(unpacked) for p in unpacked.rglob('*') if p.is_file()} == set()


def test_its_tests_can_be_collected(unpacked):
    command = [sys.executable, '-m', 'pytest', '--collect-only', '-q', '-p', 'no:cacheprovider', 'tests']
    done = subprocess.run(command, cwd=unpacked, env=env | dict(PYTHONPATH=str(unpacked)), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and 'error' not in done.stdout.splitlines()[-1], done.stdout[-2000:]
    assert {line.split('::')[0] for line in done.stdout.splitlines() if '::' in line} == {f'tests/{p.name}' for p in (root/'tests').glob('test_*.py')}
