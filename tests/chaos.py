"""Kill parts of a training run on three nodes, at moments that a seed decides; it must end as a run left alone does.

    PYTHONPATH=. python tests/chaos.py --kills 10 --seed 0
    PYTHONPATH=. python tests/chaos.py --kind checkpoint power --kills 3

Two workers, one a node, train over gloo. What is killed (SIGKILL), and what a user does then:
    worker      one of the two processes that train; nothing
    node        a node and all that runs there; starts another one, after up to five seconds
    driver      the process that was started by the user; the same command again
    head        the head's node, with the controller; takes the nodes down, whose workers train on meanwhile, after up
                to three seconds, starts all again, then the same command
    elastic     a node, of a run that asks for one worker or two; starts another one once one worker trains alone
    checkpoint  the worker that writes a checkpoint, with half of it written, before it is synced, or just renamed;
                nothing
    power       all processes at once, and what was not synced is lost; starts all again, then the same command
Without a cluster, stages as their commands run them; see tests/chaos_files.py:
    shards      the stage while it writes and swaps in shards, every second time with what was not synced
    published   shards on their way to the storage of a cluster, likewise
    results     stages train, evaluate, compare and report while they write what they found, likewise
One line a kill of a training: the last step logged before, seconds until a step was logged again, and how many steps
ran twice.

A run ends as the one left alone: with the same bits where two workers trained always. Of an elastic run some steps are
one worker's; the mean over both episodes of a step is then summed in another order, over its hundreds of steps of Adam:
weights may differ by TOLERANCE. Its method has no batch normalisation, whose statistics are each worker's own.
"""

import argparse
import hashlib
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from chaos_files import FILE_KINDS, kill_while_files_are_written
from kill_points import AFTER, BEFORE, HALF
from places import TESTS
from power_loss import cut_power
from ray_nodes import Cluster, Host, environment
from small_omniglot import PARAMS, small_omniglot

from matchnet.encoders.conv4 import Conv4Spec
from matchnet.episodes import EpisodeSpec
from matchnet.episodic_training import EpisodicSpec
from matchnet.methods.mann import MannSpec
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.weights import CheckpointError, load_tensors
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.make import shard_dataset
from pipeline.params import ComputeParams, ModelParams
from pipeline.params.sections import ClusterParams
from pipeline.training.checkpoint import STATE_FILE
from pipeline.training.run_log import read_log
from pipeline.training.runs import RunFiles, run_folder

KINDS = ("worker", "node", "driver", "head", "elastic", "checkpoint", "power")
TOLERANCE = 1e-3
CHECKPOINT_EVERY = 10
PATIENCE = 900  # seconds for anything: a busy machine is slow
STEPS_A_KILL = {"head": 200, "elastic": 8000, "checkpoint": 40}  # they go on until they are taken down, or a node or
# a checkpoint has come; else 20
RESIZE_SECONDS = 3  # between looks for nodes that came; Ray's default is 60
COMPUTE = ComputeParams(num_workers=2, threads_per_worker=1, device="cpu", precision="fp32")
HEADER = ("killed", "at step", "s to next step", "steps twice", "cut short", "what was seen")


@dataclass(frozen=True)
class Problem:
    """What is trained, by how many."""

    model: ModelParams
    compute: ComputeParams


@dataclass(frozen=True)
class Outcome:
    """Of a run: all that its last checkpoint holds, and of each step the losses of every attempt."""

    state: dict[str, Any]
    losses: dict[int, set[float]]


@dataclass(frozen=True)
class Kill:
    """What one kill did. damaged: checkpoints that were cut short on disk just after it."""

    kind: str
    step: int
    seconds: float
    steps_twice: int
    damaged: int
    seen: str


class Driver:
    """`run_training` in a process of its own, on the head's host."""

    def __init__(self, arguments: dict[str, Any], output: Path, host: Host) -> None:
        self.output = output
        with open(output, "w") as file:
            self.process = subprocess.Popen(
                [*host[0], sys.executable, str(TESTS / "training_process.py"), str(RESIZE_SECONDS)],
                stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT, env=environment())
        assert self.process.stdin is not None
        self.process.stdin.write(pickle.dumps(arguments))
        self.process.stdin.close()

    def finish(self) -> None:
        status = self.process.wait(PATIENCE)
        assert status == 0, f"the driver ended with {status}:\n{self.output.read_text()[-3000:]}"

    def end_by_itself(self) -> str:
        """After its cluster was lost: how it ended."""
        began = time.monotonic()
        status = self.process.wait(PATIENCE)
        assert status != 0, "a driver that lost its cluster has not succeeded"
        lines = [line for line in self.output.read_text().splitlines() if line.strip()]
        return f"ended with {status} after {time.monotonic() - began:.0f} s: {lines[-1][-80:] if lines else ''}"


class Run:
    """A training run on the cluster: its folder, its driver, and what is killed of it."""

    def __init__(self, cluster: Cluster, shards: Path, folder: Path, problem: Problem) -> None:
        assert problem.model.training is not None
        self.cluster, self.steps, self.folder = cluster, problem.model.training.steps, folder
        files = RunFiles(ShardFolder(shards), folder / "runs")
        self.arguments = {"name": "chaos", "model": problem.model, "compute": problem.compute, "files": files,
                          "cluster": ClusterParams(ray_address=cluster.address, max_failures=1000)}
        self.state_folder = run_folder("chaos", problem.model, problem.compute, files)
        folder.mkdir()
        self.drivers = 0
        self.start()

    def start(self) -> None:
        self.drivers += 1
        self.driver = Driver(self.arguments, self.folder / f"driver{self.drivers}.txt", self.cluster.hosts[0])

    def wait_for_step(self, step: int, after_attempt: int = 0) -> None:
        deadline = time.monotonic() + PATIENCE
        while not any(line["step"] >= step for line in self.steps_logged() if line["attempt"] > after_attempt):
            if self.driver.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"step {step} was not reached:\n{self.driver.output.read_text()[-3000:]}")
            time.sleep(0.02)

    def steps_logged(self) -> list[dict[str, Any]]:
        return [line for line in read_log(self.state_folder) if "loss" in line]

    def kill(self, kind: str, chance: random.Random) -> Kill:
        """Kill, do what a user does, and wait for the next step."""
        killed, self.attempt, self.last = time.monotonic(), self.steps_logged()[-1]["attempt"], 0
        seen = getattr(self, f"_kill_{kind}")(chance)
        newest, damaged = self.checkpoints()
        self.wait_for_step(0, after_attempt=self.attempt)
        seconds = time.monotonic() - killed
        first = next(line["step"] for line in self.steps_logged() if line["attempt"] > self.attempt)
        last = max([self.last, *(line["step"] for line in self.steps_logged() if line["attempt"] == self.attempt)])
        assert first > newest, f"checkpoint {newest} was on disk, and the run went on from {first - 1}"
        if kind == "elastic":
            seen += self._grow()
        return Kill(kind, last, seconds, last - first + 1, damaged, seen)

    def _kill_worker(self, chance: random.Random) -> str:
        pid = chance.choice(self.cluster.training_workers())
        rank_0 = [line for line in read_log(self.state_folder) if "process" in line][-1]["process"]
        os.kill(pid, signal.SIGKILL)
        return "rank 0" if pid == rank_0 else "rank 1"

    def _kill_node(self, chance: random.Random) -> str:
        node = chance.choice(self.cluster.nodes[1:])
        node.kill()
        pause = chance.uniform(0, 5)
        time.sleep(pause)
        self.cluster.replace(node)
        return f"another node started after {pause:.1f} s"

    def _kill_driver(self, chance: random.Random) -> str:
        self.driver.process.kill()
        self.driver.process.wait()
        self.start()
        return ""

    def _kill_head(self, chance: random.Random) -> str:
        self.cluster.head.kill()
        time.sleep(chance.uniform(0, 3))
        for node in self.cluster.nodes[1:]:
            node.kill()
        ended = self.driver.end_by_itself()
        self.cluster.start()
        self.start()
        return f"driver {ended}"

    def _kill_checkpoint(self, chance: random.Random) -> str:
        moment = chance.choice([HALF, BEFORE, AFTER])
        armed = self.folder.parent / "armed"
        armed.write_text(str(moment))
        deadline = time.monotonic() + PATIENCE
        while armed.exists():
            assert time.monotonic() < deadline and self.driver.process.poll() is None, "no checkpoint was written"
            time.sleep(0.01)
        return {HALF: "half of it written", BEFORE: "before it was synced", AFTER: "just renamed"}[moment]

    def _kill_power(self, chance: random.Random) -> str:
        """What the log says of steps since the last checkpoint goes as well, and perhaps the attempt's number."""
        self.driver.process.kill()
        self.driver.process.wait()
        for node in self.cluster.nodes:
            node.kill()
        before, _ = self.checkpoints()
        self.last = max(line["step"] for line in self.steps_logged())
        cut_power(self.folder.parent / "synced", self.folder / "runs")
        left, damaged = self.checkpoints()
        assert damaged == 0 and left >= before - CHECKPOINT_EVERY, f"of checkpoint {before}, {left} was left"
        self.attempt = max((line["attempt"] for line in self.steps_logged()), default=0)
        self.cluster.start()
        self.start()
        return f"checkpoint {before} had been written, {left} was left"

    def _kill_elastic(self, chance: random.Random) -> str:
        self.lost = chance.choice(self.cluster.nodes[1:])
        self.lost.kill()
        return "one worker went on; "

    def _grow(self) -> str:
        """Once one worker trains alone: another node."""
        attempt, workers = self.attempts()[-1]
        assert workers == 1
        began = time.monotonic()
        self.cluster.replace(self.lost)
        self.wait_for_step(0, after_attempt=attempt)
        assert self.attempts()[-1][1] == 2
        return f"two, {time.monotonic() - began:.1f} s after another node was started"

    def attempts(self) -> list[tuple[int, int]]:
        """(number, workers) of each."""
        return [(line["attempt"], line["workers"]) for line in read_log(self.state_folder) if "process" in line]

    def checkpoints(self) -> tuple[int, int]:
        """Step of the newest one that can be read (0 without one), and how many cannot."""
        newest, damaged = 0, 0
        for path in self.state_folder.glob(f"step*/{STATE_FILE}"):
            try:
                newest = max(newest, load_tensors(path)["step"])
            except CheckpointError:
                damaged += path.exists()  # else it was an old one, removed just now
        return newest, damaged

    def end(self) -> Outcome:
        """Waits for it."""
        self.driver.finish()
        newest, damaged = self.checkpoints()
        assert (newest, damaged) == (self.steps, 0), f"last checkpoint {newest}, {damaged} damaged"
        losses: dict[int, set[float]] = {}
        for line in self.steps_logged():
            losses.setdefault(line["step"], set()).add(line["loss"])
        return Outcome(load_tensors(self.state_folder / f"step{newest:08d}" / STATE_FILE), losses)


def problem_of(kind: str, kills: int) -> Problem:
    """Steps of some 40 ms."""
    steps = STEPS_A_KILL.get(kind, 20) * kills + 4 * CHECKPOINT_EVERY  # so that the last kill is not too late
    training = EpisodicSpec(episode=EpisodeSpec(10, 1, 5), episodes_per_step=8, steps=steps, log_every=1,
                            checkpoint_every=CHECKPOINT_EVERY, valid_episode=EpisodeSpec(2, 1, 2), valid_episodes=2,
                            valid_every=steps)
    model = ModelParams(dataset="small", split="random", image_size=28, training=training,
                        method=MatchingNetworkSpec(encoder=Conv4Spec(num_filters=4)))
    if kind != "elastic":
        return Problem(model, COMPUTE)
    training = replace(training, episode=EpisodeSpec(5, 1, 5), valid_episode=EpisodeSpec(5, 1, 2),
                       episodes_per_step=2, learning_rate=1e-4)
    model = replace(model, method=MannSpec(), training=training, train_parts=("train", "valid"))
    return Problem(model, replace(COMPUTE, num_workers=(1, 2)))


def digest(value: Any) -> str:
    """SHA-256 of tensors and plain values, in nested dicts and lists."""
    sha = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            sha.update(f"{value.dtype}{tuple(value.shape)}".encode() + value.contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key in sorted(value, key=str):
                sha.update(repr(key).encode())
                add(value[key])
        elif isinstance(value, list | tuple):
            for item in value:
                add(item)
        else:
            sha.update(repr(value).encode())

    add(value)
    return sha.hexdigest()


def kill_steps(kills: int, steps: int, chance: random.Random) -> list[int]:
    return sorted(chance.sample(range(1, steps - CHECKPOINT_EVERY), kills))


def difference(outcome: Outcome, alone: Outcome, kind: str) -> str | None:
    """What the run ended with that the one left alone did not; None if nothing, or nothing that counts."""
    if outcome.losses.keys() != alone.losses.keys():
        return "other steps were logged"
    if kind == "elastic":
        farthest = max(float((weights - alone.state["model"][name]).abs().max())
                       for name, weights in outcome.state["model"].items())
        print(f"elastic: weights differ by at most {farthest:.1e}", flush=True)
        return None if farthest < TOLERANCE else f"weights differ by {farthest:.1e}"
    differing = [step for step in sorted(outcome.losses) if outcome.losses[step] != alone.losses[step]]
    if differing:
        return f"the loss differs at step {differing[0]}"
    return None if digest(outcome.state) == digest(alone.state) else "the last checkpoint differs"


@contextmanager
def three_nodes() -> Iterator[tuple[Cluster, Path]]:
    """The cluster and a folder with shards; at the end nothing of either is left."""
    with tempfile.TemporaryDirectory(prefix="chaos") as folder, pytest.MonkeyPatch.context() as patch:
        raw = small_omniglot(Path(folder, "raw"), patch)
        shard_dataset("small", PARAMS, raw, Path(folder, "shards"))
        patch.setenv("CHAOS_DISK", folder)  # so nodes and drivers note what they sync, and die in a checkpoint
        cluster = Cluster()
        try:
            cluster.start()
            yield cluster, Path(folder)
        finally:
            cluster.stop()


def left_alone(cluster: Cluster, folder: Path, problem: Problem) -> Outcome:
    """A run in which nothing is killed, by two workers."""
    problem = replace(problem, compute=COMPUTE)
    return Run(cluster, folder / "shards", Path(tempfile.mkdtemp(dir=folder)) / "alone", problem).end()


def disturbed(cluster: Cluster, folder: Path, kind: str, problem: Problem, kills: int, seed: int,
              alone: Outcome) -> Iterator[Kill]:
    """Every kill of one run.

    Raises:
        AssertionError: the run does not end as the one left alone, names the first step that differs; a checkpoint is
            lost or damaged.
    """
    chance = random.Random(f"{kind} {seed}")
    run = Run(cluster, folder / "shards", folder / f"{kind}{seed}", problem)
    try:
        for step in kill_steps(kills, 20 * kills + 2 * CHECKPOINT_EVERY, chance):
            if kind in STEPS_A_KILL:  # counted from the last kill
                step = step % 20 + max((line["step"] for line in run.steps_logged()), default=0)
            run.wait_for_step(step, after_attempt=max((line["attempt"] for line in run.steps_logged()), default=1) - 1)
            time.sleep(chance.uniform(0, 0.3))  # so that it comes within a step, or while a checkpoint is written
            yield run.kill(kind, chance)
        outcome = run.end()
    finally:
        run.driver.process.kill()
        run.driver.process.wait()
    found = difference(outcome, alone, kind)
    assert found is None, f"{kind}: {found}"


def main(kinds: list[str], kills: int, seed: int) -> None:
    """First those without a cluster: they fork this process while it is small."""
    if of_files := [kind for kind in kinds if kind in FILE_KINDS]:
        kill_while_files_are_written(of_files, kills, seed)
    if of_trainings := [kind for kind in kinds if kind in KINDS]:
        kill_trainings(of_trainings, kills, seed)


def kill_trainings(kinds: list[str], kills: int, seed: int) -> None:
    row = "{:<12}{:>8}{:>16}{:>13}{:>11}  {}"
    print(row.format(*HEADER), flush=True)
    with three_nodes() as (cluster, folder):
        alone: dict[Problem, Outcome] = {}
        for kind in kinds:
            problem = problem_of(kind, kills)
            if problem not in alone:
                alone[problem] = left_alone(cluster, folder, problem)
            for kill in disturbed(cluster, folder, kind, problem, kills, seed, alone[problem]):
                print(row.format(kill.kind, kill.step, f"{kill.seconds:.1f}", kill.steps_twice, kill.damaged,
                                 kill.seen), flush=True)
            print(f"{kind}: {kills} kills, and the run ended as the one left alone", flush=True)
    print("nothing was left behind", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", nargs="+", choices=[*FILE_KINDS, *KINDS], default=[*FILE_KINDS, *KINDS])
    parser.add_argument("--kills", type=int, default=10, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the cluster is stopped
    main(*(getattr(parser.parse_args(), name) for name in ("kind", "kills", "seed")))
