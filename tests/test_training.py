"""Training that is killed, and training in two processes, ends where one quiet process ends."""
import json, os, random, signal, socket, subprocess, sys, time
from pathlib import Path

import pytest
import torch
from conftest import env, root
from safetensors.torch import load_file

script = Path(__file__).with_name('smoke_run.py')


def start(folder, *options, launcher=(), **more): # one smoke run in a process of its own
    log = open(folder.with_suffix('.log'), 'a')
    return subprocess.Popen([sys.executable, *launcher, str(script), str(folder), *map(str, options)], cwd=root, env=env | more, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def finish(process, folder, limit=240):
    try: code = process.wait(limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert code == 0, folder.with_suffix('.log').read_text()[-3000:]


def weights(folder): return load_file(folder/'model.safetensors')


@pytest.fixture(scope='module')
def quiet(tmp_path_factory):
    "A run that nobody disturbs: four tracks a micro-batch, two micro-batches a step"
    folder = tmp_path_factory.mktemp('training')/'quiet'
    finish(start(folder, 2), folder)
    return folder


def test_killed_and_resumed_ends_the_same(quiet, tmp_path):
    folder, kills, moment = tmp_path/'killed', [], random.Random(os.getpid())
    for _ in range(2):
        process = start(folder, 2)
        checkpoint, before = folder/'checkpoint.safetensors', None
        began = time.monotonic()
        while process.poll() is None and time.monotonic() - began < 120: # the first checkpoint of this process, then a random moment
            stamp = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
            if before is None: before = (stamp,)
            elif stamp != before[0]: break
            time.sleep(.01)
        time.sleep(moment.uniform(0, .5))
        if process.poll() is None: kills.append(time.monotonic() - began)
        if process.poll() is None: os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert kills, 'the run ended before it could be killed'
    assert not (folder/'model.safetensors').exists(), 'the run was over before the last kill'
    finish(start(folder, 2), folder)
    once, again = weights(quiet), weights(folder)
    assert set(once) == set(again)
    assert [k for k in once if not torch.equal(once[k], again[k])] == []
    seen = lambda f: json.loads((f/'metrics.json').read_text())['seen']
    assert seen(folder) == seen(quiet)


def test_two_processes_learn_what_one_does(quiet, tmp_path):
    "Two processes of one micro-batch a step see the tracks of one process of two, and average the same gradients"
    folder = tmp_path/'two'
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    launcher = ['-m', 'torch.distributed.run', '--nproc_per_node=2', '--master_addr=127.0.0.1', f'--master_port={port}']
    finish(start(folder, 1, launcher=launcher, ACCELERATE_USE_CPU='true'), folder) # what `accelerate launch --cpu` sets
    one, two = weights(quiet), weights(folder)
    assert json.loads((folder/'metrics.json').read_text())['seen'] == json.loads((quiet/'metrics.json').read_text())['seen']
    for k in one: torch.testing.assert_close(two[k].float(), one[k].float(), atol=1e-3, rtol=1e-3, msg=k)
