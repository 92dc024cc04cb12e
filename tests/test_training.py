"""Training that is killed, and training in two processes, ends where one quiet process ends."""
import csv, json, os, random, signal, socket, subprocess, sys, time
from pathlib import Path

import pytest
import torch
from conftest import env, root, scripts
from safetensors.torch import load_file

script = Path(__file__).with_name('smoke_run.py')


def start(folder, *launcher): # one smoke run in a process of its own
    log = open(folder.with_suffix('.log'), 'a')
    return subprocess.Popen([sys.executable, *launcher, str(script), str(folder)], cwd=root, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def train(folder, *options): # the documented command
    log = open(folder.with_suffix('.log'), 'a')
    command = [scripts/'ksr_train', folder, 'scale=3', 'batch_size=4', 'accumulate=2', 'validation_tracks=4', 'calibration_tracks=4', '--device', 'cpu', *options]
    return subprocess.Popen([*map(str, command)], cwd=root, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


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
    finish(start(folder), folder)
    return folder


def test_killed_and_resumed_ends_the_same(quiet, tmp_path):
    folder, kills, moment = tmp_path/'killed', [], random.Random(os.getpid())
    for _ in range(2):
        process = start(folder)
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
    finish(start(folder), folder)
    once, again = weights(quiet), weights(folder)
    assert set(once) == set(again)
    assert [k for k in once if not torch.equal(once[k], again[k])] == []
    seen = lambda f: json.loads((f/'metrics.json').read_text())['seen']
    assert seen(folder) == seen(quiet)


def alike(one, two): # the same weights up to rounding, the same history
    for k in one: torch.testing.assert_close(two[k].float(), one[k].float(), atol=1e-3, rtol=1e-3, msg=k)


def history(folder): return [(r['stage'], int(r['step']), int(r['seen']), float(r['loss'])) for r in csv.DictReader(open(folder/'history.csv'))]


def test_two_processes_learn_what_one_does(quiet, tmp_path):
    "Two processes share the micro-batches of a step and average their gradients: the documented command, at the same global batch"
    folder = tmp_path/'two'
    finish(train(folder, '--processes', 2), folder)
    alike(weights(quiet), weights(folder))
    for (*one, loss), (*two, again) in zip(history(quiet), history(folder), strict=True):
        assert one == two and abs(loss - again) < 1e-2 * loss
    record = json.loads((folder/'metrics.json').read_text())
    assert record['processes'] == 2 and record['seen'] == json.loads((quiet/'metrics.json').read_text())['seen']


def children(process): # numbers of the processes that it started
    return [int(p) for p in Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()]


@pytest.mark.skipif(not Path('/proc').is_dir(), reason='asks /proc for the processes that were started')
def test_one_of_two_is_killed_and_the_run_goes_on(quiet, tmp_path):
    "The others are stopped, the exit code says so, and the same command finishes the run, with one process too"
    folder = tmp_path/'killed'
    process, checkpoint = train(folder, '--processes', 2), folder/'checkpoint.safetensors'
    began = time.monotonic()
    while not checkpoint.exists() and process.poll() is None and time.monotonic() - began < 120: time.sleep(.01)
    ranks = [p for p in children(process) if b'spawn_main' in Path(f'/proc/{p}/cmdline').read_bytes()]
    assert len(ranks) == 2, 'the run was over before one of its processes could be killed'
    os.kill(ranks[1], signal.SIGKILL)
    assert process.wait(120) == 1
    assert 'failed' in folder.with_suffix('.log').read_text() and 'the same command goes on' in folder.with_suffix('.log').read_text()
    assert not (folder/'model.safetensors').exists()
    finish(train(folder), folder)
    alike(weights(quiet), weights(folder))


def test_torchrun_is_one_run_and_not_two(quiet, tmp_path):
    "A plain torchrun of a script that calls `run` takes part in one training"
    folder = tmp_path/'torchrun'
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    finish(start(folder, '-m', 'torch.distributed.run', '--nproc_per_node=2', '--master_addr=127.0.0.1', f'--master_port={port}'), folder)
    alike(weights(quiet), weights(folder))


def test_independent_copies_are_refused(tmp_path):
    "A launcher that torch does not know, and a second start in the same folder, end with the reason"
    done = subprocess.run([sys.executable, str(script), str(tmp_path/'copies')], cwd=root, env=env | dict(OMPI_COMM_WORLD_SIZE='2'), capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and 'independent copies; expected: ksr_train RUN_DIR --processes 2' in done.stderr, done.stderr[-2000:]
    folder = tmp_path/'once'
    first = start(folder)
    began = time.monotonic()
    while not (folder/'config.json').exists() and time.monotonic() - began < 120: time.sleep(.01)
    second = train(tmp_path/'once')
    code, said = second.wait(120), folder.with_suffix('.log').read_text()
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert code == 1 and f'a run is in it already, process {first.pid} on' in said, said[-2000:]
