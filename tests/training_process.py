"""A driver of its own, for a test that kills it; the arguments of `run_training` come pickled on standard input."""

import pickle
import sys

from pipeline.training.ray_training import run_training

if __name__ == "__main__":
    run_training(**pickle.load(sys.stdin.buffer))
