"""The training loop as shipped against a bare torch loop over the same tensors, in turn, in one run.

    python -m benchmarks.training_loop [--threads 2]

Both train Conv-4 on 28 x 28 grey or 84 x 84 coloured pixels, one episode a step, channels_last, all threads; bf16 where
the CPU has instructions for it. The bare loop has its episodes gathered beforehand and does nothing but forward,
backward and step: the limit. Both run in a thread, as Ray's workers train. The last column is the bare loop in a
process without the allocator's settings of pipeline.system.memory.
"""

import argparse
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.allocator import keep_freed_memory
from benchmarks.table import calls_per_second, print_table
from matchnet.augmentation import AffineSpec
from matchnet.encoders.conv4 import Conv4, Conv4Spec
from matchnet.episodes import ClassRows, EpisodeSpec
from matchnet.episodic_training import EpisodicData, EpisodicSpec, EpisodicTask
from matchnet.methods import MatchingNetwork
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.store import MemoryStore
from matchnet.training import Precision, Worker, autocast, train
from pipeline.system.memory import KEEP_FREED_MEMORY
from pipeline.training.computing import choose_precision

STEPS_PER_CALL = 100  # a call also makes an optimizer; a training reads a log line as often
ROUNDS = 3
GREY_28, COLOURED_84 = (1, 28, 28), (3, 84, 84)
TASKS = {"5w1s15q": (EpisodeSpec(5, 1, 15), GREY_28), "20w1s5q": (EpisodeSpec(20, 1, 5), GREY_28),
         "5w1s15q, 84 px": (EpisodeSpec(5, 1, 15), COLOURED_84)}
NUM_CLASSES, SAMPLES_A_CLASS = 480, 20
PRECISION = choose_precision("auto", torch.device("cpu"))


def shipped_steps(spec: EpisodeSpec, shape: tuple[int, ...], precision: Precision = PRECISION,
                  change: Callable[[MatchingNetwork], object] = lambda model: None,
                  **settings: Any) -> Callable[[], None]:
    """A call that trains STEPS_PER_CALL steps with matchnet.training.train.

    Args:
        change: is given the model before its first step.
        settings: fields of EpisodicSpec.
    """
    store = MemoryStore(torch.randint(256, (NUM_CLASSES * SAMPLES_A_CLASS, *shape), dtype=torch.uint8))
    data = EpisodicData(store, ClassRows.from_class_ids(np.repeat(np.arange(NUM_CLASSES), SAMPLES_A_CLASS)))
    training = EpisodicSpec(episode=spec, steps=STEPS_PER_CALL, schedule="constant",
                            checkpoint_every=STEPS_PER_CALL, **settings)
    model = MatchingNetwork(MatchingNetworkSpec(), shape)
    change(model)
    return lambda: train(model, EpisodicTask(data, training), worker=Worker(precision=precision))


def bare_steps(spec: EpisodeSpec, shape: tuple[int, ...]) -> Callable[[], None]:
    """A call that trains STEPS_PER_CALL steps with nothing but torch."""
    encoder = Conv4(Conv4Spec(), shape).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-3)
    num_support, images, way_Q = bare_episode(spec, shape)

    def step() -> None:
        with autocast("cpu", PRECISION):
            loss = loss_of(embedded(encoder, next(images)), num_support, way_Q)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def steps() -> None:
        for _ in range(STEPS_PER_CALL):
            step()

    return steps


def bare_episode(spec: EpisodeSpec, shape: tuple[int, ...]) -> tuple[int, Iterator[Tensor], Tensor]:
    """Number of support items; the images of episodes, for ever; the queries' ways."""
    images = [torch.rand(spec.num_ways * spec.samples_per_way, *shape) for _ in range(8)]
    way_Q = torch.arange(spec.num_ways).repeat_interleave(spec.num_queries)
    return spec.num_ways * spec.num_shots, itertools.cycle(images), way_Q


def embedded(encoder: nn.Module, image_BCHW: Tensor) -> Tensor:
    """Unit vectors (B, D)."""
    return F.normalize(encoder(image_BCHW).float(), dim=-1)


def loss_of(embedding_BD: Tensor, num_support: int, way_Q: Tensor) -> Tensor:
    """The loss of one episode with one shot, by as few operations as there can be."""
    return F.cross_entropy(10 * embedding_BD[num_support:] @ embedding_BD[:num_support].T, way_Q)


def episodes_per_second(calls: dict) -> dict[str, float]:
    """Best of ROUNDS rounds for each call, the calls in turn, so that a slow moment of the machine hits all of them."""
    best = dict.fromkeys(calls, 0.0)
    for _ in range(ROUNDS):
        for name, call in calls.items():
            best[name] = max(best[name], STEPS_PER_CALL * calls_per_second(call, rounds=1))
    return best


def plain_process(module: str, task: str, threads: int) -> float:
    """What `module --plain TASK` prints, in a fresh process whose allocator is as the system has it."""
    command = [sys.executable, "-m", module, "--threads", str(threads), "--plain", task]
    plain = {name: value for name, value in os.environ.items() if name not in KEEP_FREED_MEMORY}
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=plain).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--plain", choices=TASKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.plain:
        keep_freed_memory()
    thread = threading.Thread(target=measure, args=(arguments.threads, arguments.plain))
    thread.start()
    thread.join()


def measure(threads: int, plain: str | None) -> None:
    """Print the table; with `plain`, only the speed of the bare loop on that task."""
    torch.set_num_threads(threads)
    if plain:
        return print(episodes_per_second({"bare": bare_steps(*TASKS[plain])})["bare"])
    rows = []
    for task, (spec, shape) in TASKS.items():
        speed = episodes_per_second({"shipped": shipped_steps(spec, shape), "bare": bare_steps(spec, shape),
                                     "affine": shipped_steps(spec, shape, affine=AffineSpec())})
        rows.append([task, speed["shipped"], speed["affine"], speed["bare"], speed["shipped"] / speed["bare"],
                     plain_process("benchmarks.training_loop", task, threads)])
    print(f"{PRECISION}, {threads} threads, episodes trained per second")
    print_table(["episode", "shipped", "shipped, affine", "bare (limit)", "shipped / bare", "bare, plain malloc"], rows)


if __name__ == "__main__":
    main()
