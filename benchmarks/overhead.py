"""Seconds that processes, Ray and DVC add to a run, whatever its length.

    python -m benchmarks.overhead [--rounds 3] [--only imports|here|ray|dvc]
    python -m benchmarks.overhead --only ray --set RAY_TRAIN_ENABLE_PREEMPTION_WATCHER=0

A run of a few tiny steps goes through `run_training`, as the train stage has it, in a process of its own: with one
worker on this machine, and under a Ray that is started for it. DVC runs stages that do nothing. By the clock, and in
CPU seconds (user and system) of all processes, which is what counts where others run beside it; both are medians over
the rounds. `processes` is how many a phase has started. The last table says what share of a run all this is, by its
length. With --set, variables of the environment are others than stages have.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import psutil
from PIL import Image

import stages as _stages  # noqa: F401  # how a stage's process collects garbage
from benchmarks.table import print_table
from pipeline.data.shards.folder import ShardFolder

if TYPE_CHECKING:
    from pipeline.params import ModelParams

RUN_LENGTHS = {"10 s": 10, "1 minute": 60, "10 minutes": 600, "1 hour": 3600}
IMPORTS = {"import torch": "import torch", "import ray, after torch": "import torch\n---\nimport ray",
           "import ray.train.torch, after both": "import torch, ray\n---\nimport ray.train.torch"}
STAGES = ("resolve", "download", "shard", "train", "evaluate", "compare", "report")  # their own imports
IMPORTS |= {f"all that stage {stage} imports": f"import stages.{stage}" for stage in STAGES}
STEPS, NO_OP_STAGES = 10, 6
ROOT = Path(__file__).parent.parent
LONGEST = ", with the longest dvc.lock"


@dataclass(frozen=True)
class Cost:
    """Cost of one phase: by the clock, and the CPU time of all processes that took part."""

    seconds: float
    cpu_seconds: float
    processes: int = 0


def middle(costs: Sequence[Cost]) -> Cost:
    """The median of each figure."""
    return Cost(median(cost.seconds for cost in costs), median(cost.cpu_seconds for cost in costs),
                round(median(cost.processes for cost in costs)))


def command_cost(command: Sequence[str], folder: Path | None = None) -> Cost:
    """Cost of a command that must succeed, its children included."""
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, check=True, cwd=folder, capture_output=True)
    after, seconds = os.times(), time.perf_counter() - started
    return Cost(seconds, after.children_user + after.children_system - before.children_user - before.children_system)


# ---- imports ----


def import_cost(code: str) -> Cost:
    """Cost of the last part of `code`, in a fresh process; parts are separated by ---."""
    *before, measured = code.split("---\n")
    script = "\n".join(["import time", *before, "clock, cpu = time.perf_counter(), time.process_time()", measured,
                        "print(time.perf_counter() - clock, time.process_time() - cpu)"])
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    seconds, cpu_seconds = map(float, output.split())
    return Cost(seconds, cpu_seconds)


# ---- training ----


class Tree:
    """CPU seconds of this process and all its descendants, those that have ended since included as last seen."""

    def __init__(self) -> None:
        self.seen: dict[tuple[int, float], float] = {}

    def look(self) -> tuple[float, int]:
        """(CPU seconds so far, processes so far)."""
        me = psutil.Process()
        for process in [me, *me.children(recursive=True)]:
            try:
                times = process.cpu_times()
                self.seen[process.pid, process.create_time()] = times.user + times.system
            except psutil.NoSuchProcess:
                continue
        with_ended_children = sum(os.times()[:4])  # one that has come and gone between two looks was never seen
        return max(sum(self.seen.values()), with_ended_children), len(self.seen)


def training_phases(steps: int, under_ray: bool) -> dict[str, Cost]:
    """Train for `steps` tiny steps, driven by this process, phase by phase."""
    tree = Tree()
    moments = [("", time.time(), *tree.look())]

    def now(name: str) -> None:
        moments.append((name, time.time(), *tree.look()))

    import stages.train  # noqa: F401
    from pipeline.params import ComputeParams
    from pipeline.params.sections import ClusterParams
    from pipeline.training.driver import run_training
    from pipeline.training.run_log import read_log
    from pipeline.training.runs import RunFiles

    if under_ray:
        from pipeline.cluster.connection import FOUND_BY_RAY, ray_cluster
    now("imports of the train stage")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        shards, runs = Path(folder, "shards"), Path(folder, "runs")
        model = tiny_problem(shards, steps)
        now("")  # the problem is the benchmark's own
        if under_ray:
            stack.enter_context(ray_cluster(None))
            now("start of Ray")
        compute = ComputeParams(threads_per_worker=1, device="cpu", precision="fp32")
        cluster = ClusterParams(ray_address=FOUND_BY_RAY if under_ray else None)
        run_training("tiny", model, compute, cluster, RunFiles(ShardFolder(shards), runs))
        now("fit")
        [run] = runs.iterdir()
        begin, *lines = [line for line in read_log(run) if "process" in line or "steps_per_second" in line]
        stack.close()
        if under_ray:
            now("end of Ray")
    return phases(moments, begin["time"], [line["seconds"] for line in lines])


def phases(moments: Sequence[tuple[str, float, float, int]], began: float,
           step_seconds: Sequence[float]) -> dict[str, Cost]:
    """Cost of each phase, from moments (name of the ended phase, time, CPU seconds so far, processes so far).

    Args:
        began: when the worker's function began; `fit` is divided at this and at the steps.
        step_seconds: from then on to the end of each step.
    """
    costs = {}
    for before, after in pairwise(moments):
        if after[0]:
            costs[after[0]] = Cost(after[1] - before[1], after[2] - before[2], after[3] - before[3])
        if after[0] == "fit":
            first, last = began + step_seconds[0], began + step_seconds[-1]
            parts = {"fit: to the worker's first line": began - before[1], "fit: its data and model, first step":
                     first - began, "fit: the other steps": last - first, "fit: last step to end": after[1] - last}
            costs |= {name: Cost(seconds, 0.0) for name, seconds in parts.items()}
    return costs


def tiny_problem(shards: Path, steps: int) -> "ModelParams":
    """Shards of 36 images of 6 classes, and the parameters of a model that learns them in no time."""
    from matchnet.encoders.conv4 import Conv4Spec
    from matchnet.episodes import EpisodeSpec
    from matchnet.episodic_training import EpisodicSpec
    from matchnet.files import sha256_of
    from matchnet.methods.matching_network import MatchingNetworkSpec
    from pipeline.data.formats.tar import TarWriter
    from pipeline.data.shards.index import INDEX, write_index
    from pipeline.data.shards.manifest import ClassEntry, Manifest, ShardEntry, write_manifest
    from pipeline.params import ModelParams

    shards.mkdir()
    columns: dict[str, list] = {name: [] for name in ("key", "shard", "offset", "length", "class_id", "class_name",
                                                      "group")}
    with open(shards / "all_train-000000.tar", "wb") as file:
        tar = TarWriter(file)
        for number in range(36):
            name, content = f"class{number // 6}", _png(number)
            row = (f"{name}/{number}", "all_train-000000.tar", tar.add(f"{name}/{number}.png", content), len(content),
                   number // 6, name, "all_train")
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
        tar.finish()
    write_index(shards / INDEX, {**columns})
    names = [f"class{c}" for c in range(6)]
    write_manifest(shards, Manifest(
        name="tiny", num_samples=36, classes=tuple(ClassEntry(name, "all_train", 6) for name in names),
        splits={"all": {"train": names, "valid": [], "test": []}},
        shards=(ShardEntry("all_train-000000.tar", "all_train", tar.size, 36, tar.digest.hexdigest()),),
        index_sha256=sha256_of(shards / INDEX), parameters={"source": "omniglot", "invert": False, "margin": None},
        sources={}))
    return ModelParams(dataset="tiny", split="all", image_size=16,
                       method=MatchingNetworkSpec(encoder=Conv4Spec(num_filters=4)),
                       training=EpisodicSpec(episode=EpisodeSpec(5, 1, 1), steps=steps, log_every=1))


def _png(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (16, 16), number).save(file, "png")
    return file.getvalue()


def training_in_a_process(where: str, settings: Sequence[str]) -> dict[str, Cost]:
    """`training_phases` in a fresh process, as a stage runs; `where` is here or ray."""
    command = [sys.executable, "-m", "benchmarks.overhead", "--phases", "--only", where]
    environment = {**os.environ, **dict(setting.split("=", 1) for setting in settings)}
    started = time.perf_counter()
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    seconds = time.perf_counter() - started
    found = {name: Cost(**cost) for name, cost in json.loads(output.splitlines()[-1]).items()}
    whole = [cost for name, cost in found.items() if not name.startswith("fit: ")]
    found["all of it, the process's start and end too"] = Cost(seconds, sum(cost.cpu_seconds for cost in whole),
                                                               sum(cost.processes for cost in whole))
    return {f"{where}: {name}": cost for name, cost in found.items()}


# ---- DVC ----


def dvc_costs() -> dict[str, Cost]:
    """`dvc repro` of stages that do nothing, with one dependency and one output each.

    DVC reads and writes all of a table's dvc.lock after each stage: so once more beside the longest of this repository.
    """
    costs: dict[str, Cost] = {}
    locks = sorted((*ROOT.glob("dvc.lock"), *ROOT.glob("experiments/*/dvc.lock")), key=lambda lock: lock.stat().st_size)
    for where, lock in (("", None), *((LONGEST, lock) for lock in locks[-1:])):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            dvc = [sys.executable, "-m", "dvc"]
            command_cost([*dvc, "init", "--no-scm", "--quiet"], folder)
            if lock is not None:
                shutil.copy(lock, folder)
            one, many = (_repro(folder, dvc, count) for count in (1, NO_OP_STAGES))
            nothing = command_cost([*dvc, "repro"], folder)
        more = NO_OP_STAGES - 1
        costs |= {f"dvc repro of one stage{where}": one, f"nothing to do{where}": nothing,
                  f"each stage more{where}": Cost((many.seconds - one.seconds) / more,
                                                  (many.cpu_seconds - one.cpu_seconds) / more)}
    return costs


def _repro(folder: Path, dvc: Sequence[str], count: int) -> Cost:
    """All `count` stages run: their dependency is new."""
    Path(folder, "dep").write_text(str(count))
    stages = [f"  s{i}:\n    cmd: echo {i} > out{i}\n    deps: [dep]\n    outs: [out{i}]\n" for i in range(count)]
    Path(folder, "dvc.yaml").write_text("stages:\n" + "".join(stages))
    return command_cost([*dvc, "repro"], folder)


# ---- tables ----


def rows_of(rounds: Sequence[dict[str, Cost]]) -> list[list[object]]:
    """A row a phase, in the order of the first round; a dash for what was not counted."""
    costs = {name: middle([found[name] for found in rounds]) for name in rounds[0]}
    return [[name, cost.seconds, cost.cpu_seconds or "–", cost.processes or "–"] for name, cost in costs.items()]


def shares(seconds: float) -> list[object]:
    """Share of this overhead in runs of RUN_LENGTHS, in percent of the whole."""
    return [f"{seconds / (seconds + length):.1%}" for length in RUN_LENGTHS.values()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("imports", "here", "ray", "dvc"))
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", dest="settings")
    parser.add_argument("--phases", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.phases:
        found = training_phases(STEPS, under_ray=arguments.only == "ray")
        return print(json.dumps({name: asdict(cost) for name, cost in found.items()}))
    measures = {"imports": lambda: {name: import_cost(code) for name, code in IMPORTS.items()},
                "here": lambda: training_in_a_process("here", arguments.settings),
                "ray": lambda: training_in_a_process("ray", arguments.settings), "dvc": dvc_costs}
    rows = [row for name, measure in measures.items() if arguments.only in (None, name)
            for row in rows_of([measure() for _ in range(arguments.rounds)])]
    print_table(["", "seconds", "CPU seconds", "processes"], rows)
    if arguments.only is None:
        seconds = {str(name): float(str(value)) for name, value, *_ in rows}
        here, ray = (seconds[f"{where}: all of it, the process's start and end too"]
                     - seconds[f"{where}: fit: the other steps"] for where in ("here", "ray"))
        one_more = seconds.get(f"each stage more{LONGEST}", seconds["each stage more"])
        print("\nShare of a run by its length")
        print_table(["of a stage of that length, this is", *RUN_LENGTHS],
                    [["the train stage with one worker, without its steps", *shares(here)],
                     ["the same under a Ray of its own", *shares(ray)],
                     ["DVC, one stage more", *shares(one_more)]])


if __name__ == "__main__":
    main()
