"""A driver of its own, for a test that kills it; the arguments of `run_training` come pickled on standard input.

An argument is the seconds between looks for nodes that came or went, of which an elastic run has 60 otherwise.
"""

import pickle
import sys
from functools import partial

from pipeline.training import driver, ray_training

if __name__ == "__main__":
    for seconds in sys.argv[1:]:
        ray_training.ScalingConfig = partial(  # type: ignore[misc]
            ray_training.ScalingConfig, elastic_resize_monitor_interval_s=float(seconds))
    driver.run_training(**pickle.load(sys.stdin.buffer))
