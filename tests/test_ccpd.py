"""ksr_ccpd with worker processes: the same bytes as without, stopped and taken up again, no process left behind."""
import csv, os, signal, subprocess, time

import pytest
from conftest import call, env, scripts
from PIL import Image

numbers = '0_0_22_27_27_33_16'


@pytest.fixture(scope='module')
def ccpd(tmp_path_factory):
    "Sixty grey pictures named like CCPD's; one is damaged, one named wrongly"
    folder = tmp_path_factory.mktemp('ccpd')/'CCPD2019'
    (folder/'ccpd_base').mkdir(parents=True)
    for k in range(60):
        name = f'0100-90_90-{20 + k}&30_{120 + k}&70-{120 + k}&68_{22 + k}&70_{20 + k}&32_{118 + k}&30-{numbers}-90-50.jpg'
        Image.linear_gradient('L').resize((720, 1160)).rotate(k, expand=False).convert('RGB').save(folder/'ccpd_base'/name)
    damaged = sorted((folder/'ccpd_base').iterdir())[7]
    damaged.write_bytes(damaged.read_bytes()[:2000])
    Image.new('RGB', (720, 1160)).save(folder/'ccpd_base'/'holiday.jpg')
    return folder


def tree(folder): return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def test_workers_write_the_same(ccpd, tmp_path):
    done = {n: call('ksr_ccpd', ccpd, '--out', tmp_path/str(n), '--crops', '16x64', '--workers', n, fresh=n == 2) for n in (1, 2)}
    for n, d in done.items(): assert d.code == 1 and d.out.startswith('1 tables, 59 of 60 crops (0 were there) in '), d.err
    assert tree(tmp_path/'1') == tree(tmp_path/'2') and done[1].err == done[2].err
    assert done[1].err.count('\n') == 2 and 'holiday.jpg: has not the name' in done[1].err and 'is damaged or truncated' in done[1].err
    assert len(list(csv.DictReader(open(tmp_path/'1'/'ccpd_base.csv', encoding='utf-8')))) == 60


@pytest.mark.parametrize('how, code', [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_stopped_and_taken_up_again(ccpd, tmp_path, how, code):
    out = tmp_path/'out'
    command = [scripts/'ksr_ccpd', ccpd, '--out', out, '--crops', '256x512', '--workers', '2']
    running = subprocess.Popen([*map(str, command)], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    begun = time.monotonic()
    while not list(out.rglob('[!.]*.png')) and running.poll() is None and time.monotonic() - begun < 120: time.sleep(.02)
    if how == signal.SIGINT: os.killpg(running.pid, how) # as a terminal does: workers get it too
    else: running.send_signal(how)
    said, told = running.communicate(timeout=60) # ends only when the last worker has let go of the pipes
    assert running.returncode == code and 'Traceback' not in told, told
    if how == signal.SIGINT: assert told.splitlines()[-1] == 'note: stopped; the same command goes on from here', told
    there = {p: p.stat().st_mtime_ns for p in out.rglob('[!.]*.png')}
    for p in there: Image.open(p).load()
    again = call('ksr_ccpd', ccpd, '--out', out, '--crops', '256x512', '--workers', '1')
    assert f'59 of 60 crops ({len(there)} were there)' in again.out
    assert all(p.stat().st_mtime_ns == at for p, at in there.items())


def test_wrong_options_say_what_is_right(ccpd, tmp_path):
    done = call('ksr_ccpd', ccpd, '--out', tmp_path/'out', '--workers', 'two')
    assert done.code == 2 and 'invalid int' in done.err and 'Traceback' not in done.err
    done = call('ksr_ccpd', ccpd, '--out', tmp_path/'out', '--crops', '48')
    assert done.code == 1 and 'expected HEIGHTxWIDTH' in done.err and done.err.count('\n') == 1 and not done.out
    assert not (tmp_path/'out').exists()
