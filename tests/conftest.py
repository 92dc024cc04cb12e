"""What the tests share: processes that cannot hang, synthetic tracks, untrained weights."""
import os, subprocess, sys, sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

root = Path(__file__).resolve().parent.parent
scripts = Path(sysconfig.get_path('scripts'))
env = os.environ | dict(OMP_NUM_THREADS='1', MKL_NUM_THREADS='1', MPLBACKEND='agg', PYTHONUTF8='1', JUPYTER_PREFER_ENV_PATH='1', CUDA_VISIBLE_DEVICES='') # a GPU rounds differently


@dataclass(frozen=True)
class Done:
    "What a process left"
    code: int
    out: str
    err: str


def call(program, *args, cwd=root, limit=240):
    "Run one of the project's commands (or Python, for a path) to its end"
    command = [scripts/program] if isinstance(program, str) else [sys.executable, program]
    done = subprocess.run([*map(str, [*command, *args])], cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding='utf-8', timeout=limit)
    return Done(done.returncode, done.stdout, done.stderr)


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
