"""`ksr_read` with a detector that knows where the plates of one drawn clip are: `read_drawn.py SCRIPT SECONDS …`, the other arguments are the command's."""
import sys

from ksr import commands
from ksr.clips import drawn_clip, oracle

if __name__ == '__main__':
    script, seconds = sys.argv[1], float(sys.argv[2])
    del sys.argv[1:3]
    find = oracle(drawn_clip(1, script, seconds))
    commands.load_finder = lambda device: find
    commands.ksr_read()
