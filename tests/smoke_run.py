"""smoke_run.py FOLDER: one small training run on the CPU with a checkpoint after every step."""
import sys
from functools import partial

from ksr import experiment

experiment.LearnerConfig = partial(experiment.LearnerConfig, save_every=0.)
config = experiment.Config(scale=3., batch_size=4, accumulate=2, validation_tracks=4, calibration_tracks=4)
experiment.run(config, sys.argv[1], 'cpu')
