"""Settings that Ray reads from the environment when it is imported: import this module before Ray.

Workers and controller take these from the driver's environment; what a user has set there stays.
"""

import os

from pipeline.cluster.access import use_token

SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # seconds between checks that notice a worker's end; 2 without this
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_task_events_report_interval_ms": "0",  # no record of each check on the workers: it took 36 MiB an hour
    "RAY_worker_niceness": "0",  # 15 without this: workers starve on a busy machine
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # leave CUDA_VISIBLE_DEVICES of processes without a GPU as it is
}
for _name, _value in SETTINGS.items():
    os.environ.setdefault(_name, _value)
use_token()
