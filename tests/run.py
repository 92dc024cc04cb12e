"""Every notebook by nbdev_test, two at a time, then tests/ by pytest in six parts, two at a time; seconds for each, the output of what failed, and the count as the last line.

The notebooks run in a copy of the project, so that a run folder left by an earlier test is not taken up again, and your own are left alone."""
import json, os, re, shutil, signal, subprocess, sys, sysconfig, tempfile, time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

signal.signal(signal.SIGINT, signal.default_int_handler) # a shell's background job ignores Ctrl-C, and so would every process that is tested for hearing it
root = Path(__file__).resolve().parent.parent
scripts = Path(sysconfig.get_path('scripts'))
notebook_limit, pytest_limit = 900, 1500 # seconds for one notebook, for one part of tests/
threads = dict.fromkeys(('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS'), '1')
env = os.environ | threads | dict(MPLBACKEND='agg', PYTHONUTF8='1', JUPYTER_PREFER_ENV_PATH='1', PATH=os.pathsep.join([str(scripts), os.environ.get('PATH', '')]))


def limited(command, limit, folder=root):
    "Run a command in a folder → (exit code, what it printed, seconds); 124 where the time ran out"
    began = time.monotonic()
    try:
        done = subprocess.run(command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace', timeout=limit)
        code, said = done.returncode, done.stdout
    except subprocess.TimeoutExpired as e: code, said = 124, (e.stdout or b'').decode(errors='replace') + f'\nstopped after {limit} s'
    return code, said, time.monotonic() - began


def left_out(notebook):
    "How many cells a plain test run does not run: `eval: false`, `slow`, `gpu`"
    cells = [''.join(c['source']) for c in json.loads(notebook.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'code']
    return sum(bool(re.search(r'^#\|\s*(eval:\s*false|slow|gpu)\b', source, re.M)) for source in cells)


def copy_project(folder):
    "What the notebooks need, without runs; nbdev_test imports the `ksr` beside them"
    for name in ('nbs', 'ksr', 'data', 'docs', 'figures'):
        if (root/name).exists(): shutil.copytree(root/name, folder/name, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints', 'runs'))
    for name in ('settings.ini', 'setup.py', 'README.md', 'CITATION.cff'): shutil.copy(root/name, folder/name)


def test_notebook(notebook):
    "Run one notebook → did it pass, and what it printed if not"
    code, said, seconds = limited([scripts/'nbdev_test', '--path', notebook, '--n_workers', '0'], notebook_limit, notebook.parent.parent)
    if code == 0 and 'Success.' not in said: code = 1
    skipped = f', cells left out by their flags: {n}' if (n := left_out(notebook)) else ''
    print(f'{"passed" if code == 0 else "FAILED"}  {seconds:6.1f} s  {notebook.name}{skipped}', flush=True)
    return code == 0, said if code else ''


def parts():
    "The files of tests/: the injected faults, which take longest, and the others in five"
    files = sorted((root/'tests').glob('test_*.py'))
    injected, others = ([f for f in files if (f.stem == 'test_broken_on_purpose') == wanted] for wanted in (True, False))
    return injected, *(others[k::5] for k in range(5))


def test_processes(files):
    "Run pytest on these files → (passed, failed), and what it printed"
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder)/'report.xml'
        command = [sys.executable, '-m', 'pytest', *files, '-q', '-rs', '--durations=0', '--durations-min=1', '-p', 'no:cacheprovider', f'--junitxml={report}']
        code, said, _ = limited(command, pytest_limit)
        suites = list(ET.parse(report).getroot().iter('testsuite')) if report.exists() else []
    count = lambda name: sum(int(s.get(name, 0)) for s in suites)
    failed = count('failures') + count('errors')
    passed = count('tests') - failed - count('skipped')
    return passed, failed or int(code != 0), said


def main():
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        copy_project(Path(folder))
        notebooks = sorted(p for p in (Path(folder)/'nbs').glob('*.ipynb') if not p.name.startswith('_'))
        results = list(pool.map(test_notebook, notebooks))
    for notebook, (passed, said) in zip(notebooks, results):
        if not passed: print(f'\n===== {notebook.name}\n{said}')
    with ThreadPoolExecutor(2) as pool: tested = list(pool.map(test_processes, parts()))
    for *_, said in tested: print(f'\n===== tests\n{said}')
    passed, failed = (sum(ok is good for ok, _ in results) + sum(part[k] for part in tested) for k, good in enumerate((True, False)))
    print(f'{time.monotonic() - began:.0f} s')
    print(f'{passed} passed, {failed} failed', flush=True)
    return int(failed > 0 or passed == 0)


if __name__ == '__main__': sys.exit(main())
