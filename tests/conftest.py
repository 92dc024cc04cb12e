"""What the tests share: processes that cannot hang, synthetic tracks, untrained weights."""
import atexit, multiprocessing, os, random, runpy, signal, subprocess, sys, sysconfig, tempfile, time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

root = Path(__file__).resolve().parent.parent
scripts = Path(sysconfig.get_path('scripts'))
env = os.environ | dict(OMP_NUM_THREADS='1', MKL_NUM_THREADS='1', MPLBACKEND='agg', PYTHONUTF8='1', JUPYTER_PREFER_ENV_PATH='1', CUDA_VISIBLE_DEVICES='') # a GPU rounds differently


os.environ |= env # before torch is imported: what runs in this process, and in its forks, runs as in the processes that are started
forks = multiprocessing.get_context('forkserver') # of a process that has imported everything and computed nothing: seconds less for each command
forks.set_forkserver_preload(['ksr.commands', 'ksr.figures', 'ksr.baselines', 'nbdev.test', 'nbdev.clean', 'papermill.cli'])


@dataclass(frozen=True)
class Done:
    "What a process left"
    code: int
    out: str
    err: str


def be(program, args, cwd, folder):
    "In a fork: run the script of an installed command, between files in place of the standard streams"
    os.setsid() # what it starts ends with it
    os.chdir(cwd)
    for n, path in enumerate((os.devnull, folder/'out', folder/'err')): os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), n)
    errors = ('surrogateescape', 'surrogateescape', 'backslashreplace') # as Python's own streams
    sys.stdin, sys.stdout, sys.stderr = (open(n, 'rww'[n], encoding='utf-8', errors=errors[n], closefd=False) for n in range(3))
    sys.argv, sys.path[:] = [str(scripts/program), *args], [str(scripts), *(p for p in sys.path if Path(p or '.').resolve() != root/'tests')]
    import torch # is there in every fork
    random.seed(), np.random.seed(), torch.seed() # no two forks draw alike
    try: runpy.run_path(sys.argv[0], run_name='__main__')
    finally: atexit._run_exitfuncs() # which multiprocessing leaves out


def end_group(process, patience=5.) -> bool: # was anything of it still alive after so many seconds?
    "End a fork and what it has started"
    try:
        for _ in range(round(10 * patience)):
            os.killpg(process.pid, 0) # is there anything?
            time.sleep(.1)
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError: return False
    process.join()
    return True


def call(program, *args, cwd=root, limit=240, fresh=False):
    "Run one of the installed commands (or Python, for a path) to its end; `fresh`: from nothing, with hashes of its own, where two runs are compared"
    args = [*map(str, args)]
    if fresh or not isinstance(program, str):
        command = [scripts/program] if isinstance(program, str) else [sys.executable, program]
        done = subprocess.run([*map(str, command), *args], cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding='utf-8', timeout=limit)
        return Done(done.returncode, done.stdout, done.stderr)
    assert (scripts/program).exists(), f'{program} is not installed'
    with tempfile.TemporaryDirectory() as folder:
        process = forks.Process(target=be, args=(program, args, str(cwd), Path(folder)))
        process.start()
        try: process.join(limit)
        finally: # also after Ctrl-C
            late = process.exitcode is None
            left = end_group(process, 0. if late else 5.)
        if late: raise subprocess.TimeoutExpired([program, *args], limit)
        assert not left, f'{program} {args}: left a process behind'
        said = [(Path(folder)/name).read_text(encoding='utf-8') for name in ('out', 'err')]
        return Done(process.exitcode, *said)


@pytest.fixture(scope='session')
def synthetic(tmp_path_factory):
    "Twelve synthetic tracks, to be copied and corrupted"
    folder = tmp_path_factory.mktemp('synthetic')/'tracks'
    done = call('ksr_synth', folder, '--n', 12, '--seed', 3)
    assert done.code == 0, done.err
    return folder


@pytest.fixture(scope='session')
def weights(tmp_path_factory):
    "An untrained network of the smallest size"
    from ksr.core import seed_everything
    from ksr.experiment import KSRNet, save_weights
    seed_everything(0)
    path = tmp_path_factory.mktemp('weights')/'untrained.safetensors'
    save_weights(KSRNet('plus', 'smoke'), path)
    return path
