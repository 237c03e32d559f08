"""Memory and disk of a training that goes on and on, process by process: do they grow?

    python -m benchmarks.soak omniglot/short [--minutes 60] [--results benchmarks/results]

Trains a model of a table, whose shards must be there, under a Ray of its own, but without a last step, with a
validation and a checkpoint every 50 steps. Memory is what would be free if the process ended (USS), so that shared
memory is not counted; a process that is replaced goes on under the same name. The table gives the memory of each
process after a tenth of the time, when all is loaded, and at the end. It also gives the growth an hour in the second
half (a line fitted by least squares). soak.csv and soak.svg hold all of it.
"""

import argparse
import csv
import os
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

from benchmarks.table import print_table
from pipeline import paths
from pipeline.cluster.connection import FOUND_BY_RAY, ray_cluster  # first: it sets what Ray reads when it is imported
from pipeline.data.shards.folder import ShardFolder
from pipeline.params import ModelParams, named, read_params
from pipeline.system.threads import thread_beside
from pipeline.training.runs import RunFiles

import ray  # isort: skip

EVERY = 50
SECONDS_BETWEEN_LOOKS = 10.0
MIB = 2**20
ROLES = {"RayTrainWorker": "worker", "TrainController": "controller", "raylet/raylet": "raylet",
         "gcs_server": "gcs_server"}  # part of a command line -> name of the process
OTHERS = "Ray's other processes"
SERIES = ("driver", *ROLES.values(), OTHERS, "object store", "run's folder")

Sample = dict[str, float]  # MiB of each series; "minutes" since the beginning


def without_end(model: ModelParams) -> ModelParams:
    """The model, trained until it is stopped."""
    if model.training is None:
        sys.exit("this model is not trained; name another one")
    return replace(model, training=replace(model.training, steps=10**9, valid_every=EVERY, checkpoint_every=EVERY))


def look(runs: Path) -> Sample:
    """Memory of this process and all below it, what lies in the object store, and files of the run."""
    me = psutil.Process()
    memory: Sample = defaultdict(float)
    memory["driver"] = me.memory_full_info().uss / MIB
    for process in me.children(recursive=True):
        try:
            command, uss = " ".join(process.cmdline()), process.memory_full_info().uss
        except psutil.Error:  # ended meanwhile
            continue
        memory[next((role for part, role in ROLES.items() if part in command), OTHERS)] += uss / MIB
    name = "object_store_memory"
    memory["object store"] = (ray.cluster_resources()[name] - ray.available_resources().get(name, 0)) / MIB
    memory["run's folder"] = sum(_size(path) for path in runs.rglob("*")) / MIB
    return memory


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # an old checkpoint, removed meanwhile
        return 0


def watch(runs: Path, samples: list[Sample], seconds: float, stop: threading.Event) -> None:
    """Look now and then; after `seconds` stop this process as Ctrl-C does."""
    began = time.monotonic()
    while not stop.wait(SECONDS_BETWEEN_LOOKS):
        samples.append({"minutes": (time.monotonic() - began) / 60, **look(runs)})
        if time.monotonic() - began > seconds:
            os.kill(os.getpid(), signal.SIGINT)
            return


def growth(minutes: Sequence[float], values: Sequence[float]) -> float:
    """Growth an hour in the second half: the slope of a line fitted to it."""
    half = len(minutes) // 2
    return float(np.polyfit(np.array(minutes[half:]) / 60, values[half:], 1)[0])


def write(folder: Path, samples: Sequence[Sample], title: str) -> None:
    """soak.csv and soak.svg."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "soak.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["minutes", *(f"{name} (MiB)" for name in SERIES)])
        writer.writerows([[f"{sample[name]:.2f}" for name in ("minutes", *SERIES)] for sample in samples])
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for name in SERIES:
        axes.plot([sample["minutes"] for sample in samples], [sample[name] for sample in samples], label=name)
    axes.set(xlabel="minutes", ylabel="MiB", title=title, ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    figure.savefig(folder / "soak.svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="TABLE/MODEL", help="such as omniglot/short")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), help="folder of soak.csv, soak.svg")
    arguments = parser.parse_args()
    from pipeline.training.driver import run_training

    params = read_params(arguments.model.partition("/")[0])
    model = without_end(named(params.models, "models", arguments.model))
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory() as folder, ray_cluster(None):
        runs = Path(folder)
        try:
            with thread_beside(watch, runs, samples, 60 * arguments.minutes):
                run_training(arguments.model, model, params.compute_of(arguments.model),
                             replace(params.cluster, ray_address=FOUND_BY_RAY),
                             RunFiles(ShardFolder(paths.SHARDS / model.dataset), runs))
        except KeyboardInterrupt:
            pass
        steps = max((int(path.name.removeprefix("step")) for path in runs.glob("*/step*")), default=0)
    if len(samples) < 10:
        sys.exit("stopped before there was anything to see")
    samples = [defaultdict(float, sample) for sample in samples]
    minutes = [sample["minutes"] for sample in samples]
    title = (f"{arguments.model}: {minutes[-1]:.0f} minutes, {steps:,} steps, "
             f"{steps // EVERY:,} validations and checkpoints")
    write(arguments.results, samples, title)
    print(title)
    loaded = samples[len(samples) // 10]
    print_table(["MiB", "loaded", "at the end", "most", "more an hour"],
                [[name, loaded[name], samples[-1][name], max(sample[name] for sample in samples),
                  growth(minutes, [sample[name] for sample in samples])] for name in SERIES])


if __name__ == "__main__":
    main()
