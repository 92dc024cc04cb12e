"""What a contributor runs before a commit (`make check`): export, clean, the notebooks that differ from the last commit, the quick tests.

`make test` runs everything, and takes far longer."""
import subprocess, sys, time

from run import env, limited, root, scripts, test_notebook

quick = ['tests/test_links.py', 'tests/test_notebooks.py', '-k', 'not papermill and not unknown_parameter and not wrong_value and not read_reports']


def git(*args): return subprocess.run(['git', *args], cwd=root, capture_output=True, text=True, encoding='utf-8').stdout.split('\n')


def tool(*command):
    "Run one of nbdev's tools, to its end or not at all"
    code, said, seconds = limited([scripts/command[0], *command[1:]], 300)
    print(f'{"done  " if code == 0 else "FAILED"}  {seconds:6.1f} s  {" ".join(command)}', flush=True)
    if code: sys.exit(said)


def main():
    began = time.monotonic()
    tool('nbdev_export')
    tool('nbdev_clean')
    named = {line for args in (('diff', '--name-only', 'HEAD', '--', 'nbs'), ('ls-files', '--others', '--exclude-standard', '--', 'nbs')) for line in git(*args)}
    changed = sorted(root/name for name in named if name.endswith('.ipynb') and (root/name).exists())
    results = [test_notebook(path) for path in changed]
    print(f'{len(changed)} notebooks differ from the last commit', flush=True)
    code = subprocess.run([sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', *quick], cwd=root, env=env, stdin=subprocess.DEVNULL).returncode
    for passed, said in results:
        if not passed: print(said)
    if moved := [line for line in git('status', '--short', '--', 'nbs', 'ksr') if line]: print('to be committed:', *moved, sep='\n')
    print(f'{time.monotonic() - began:.0f} s')
    return int(code != 0 or not all(passed for passed, _ in results))


if __name__ == '__main__': sys.exit(main())
