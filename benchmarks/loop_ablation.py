"""What each choice of the training loop is worth: episodes trained per second without it, over those with it.

    python -m benchmarks.loop_ablation [--threads 2] [--tasks 5w1s15q 20w1s5q] [--compile]

The first row is the loop as shipped: bf16 where the CPU has instructions for it, channels_last, ReLU after the pooling,
AdamW one weight after the other, one episode a step, and freed memory kept in the process. Each other row changes one
of these. The last rows leave out work: the batches are made beforehand; the loss is that of the bare loop of
benchmarks.training_loop too; and the bare loop itself. All rows of a task are measured in turn, in one run. The
allocator's row is of another process, since malloc reads its settings when a process starts. torch.compile needs a C++
compiler and some minutes.
"""

import argparse
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks.allocator import keep_freed_memory
from benchmarks.table import print_table
from benchmarks.training_loop import (
    PRECISION,
    TASKS,
    bare_steps,
    embedded,
    episodes_per_second,
    loss_of,
    plain_process,
    shipped_steps,
)
from matchnet.encoders.conv4 import Conv4
from matchnet.episodic_training import EpisodicTask
from matchnet.methods import Batch, MatchingNetwork
from matchnet.training import TrainingSpec

SHIPPED, EPISODES = "as shipped", 4


def relu_before_pooling(model: MatchingNetwork) -> None:
    assert isinstance(model.encoder_f, Conv4)
    for block in model.encoder_f.blocks.children():
        assert isinstance(block, nn.Sequential)
        block[2], block[3] = block[3], block[2]


def default_format(model: MatchingNetwork) -> None:
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def with_patches(steps: Callable[[], None], *patches: Any) -> Callable[[], None]:
    """The same steps, with these patches in place."""
    def call() -> None:
        with ExitStack() as stack:
            for one in patches:
                stack.enter_context(one)
            steps()

    return call


def made_beforehand() -> Any:
    """Patches a task's batches: eight are made once, and then come again and again."""
    made: dict[int, list] = {}
    make = EpisodicTask.batches

    def batches(task: EpisodicTask, steps: range, ranks: range, world_size: int, device: Any) -> Iterator[Any]:
        found = made.setdefault(id(task.data), [])
        if not found:
            found.extend(make(task, range(8), ranks, world_size, device))
        yield from itertools.islice(itertools.cycle(found), len(steps) * len(ranks))

    return patch.object(EpisodicTask, "batches", batches)


def bare_loss(model: MatchingNetwork, batch: Batch) -> dict[str, Tensor]:
    embedding_BD = embedded(model.encoder_f, torch.cat([batch.support_ES[0], batch.query_EQ[0]]))
    return {"loss": loss_of(embedding_BD, batch.support_ES.shape[1], batch.query_way_EQ[0])}


def speeds(task: str, compiled: bool) -> dict[str, float]:
    """Row -> episodes per second."""
    spec, shape = TASKS[task]
    calls = {SHIPPED: shipped_steps(spec, shape),
             "fp32": shipped_steps(spec, shape, "fp32"),
             "torch's default memory format": shipped_steps(spec, shape, change=default_format),
             "ReLU before the pooling": shipped_steps(spec, shape, change=relu_before_pooling),
             "AdamW fused": with_patches(shipped_steps(spec, shape), patch.object(TrainingSpec, "fused_on_cpu", True)),
             f"{EPISODES} episodes a step": shipped_steps(spec, shape, episodes_per_step=EPISODES)}
    if compiled:
        calls["torch.compile"] = shipped_steps(spec, shape, change=lambda model: model.compile())
    calls["batches made beforehand"] = with_patches(shipped_steps(spec, shape), made_beforehand())
    calls["the same with the bare loss"] = with_patches(shipped_steps(spec, shape), made_beforehand(),
                                                        patch.object(MatchingNetwork, "forward", bare_loss))
    calls["the bare loop"] = bare_steps(spec, shape)
    found = episodes_per_second(calls)
    found[f"{EPISODES} episodes a step"] *= EPISODES
    return found


def measure(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    if arguments.plain:
        return print(episodes_per_second({SHIPPED: shipped_steps(*TASKS[arguments.plain])})[SHIPPED])
    by_task = {}
    for task in arguments.tasks:
        by_task[task] = speeds(task, arguments.compile)
        by_task[task]["the system's allocator"] = plain_process("benchmarks.loop_ablation", task, arguments.threads)
    print(f"{PRECISION}, {arguments.threads} threads, episodes trained per second and ratio to the first row")
    print_table(["", *arguments.tasks],
                [[row, *(f"{found[row]:.1f} ({found[row] / found[SHIPPED]:.2f})" for found in by_task.values())]
                 for row in next(iter(by_task.values()))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--plain", choices=TASKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.plain:
        keep_freed_memory()
    thread = threading.Thread(target=measure, args=(arguments,))
    thread.start()
    thread.join()


if __name__ == "__main__":
    main()
