"""What each choice of the training loop is worth: episodes trained per second without it, over those with it.

    python -m benchmarks.loop_ablation [--threads 2] [--tasks 5w1s15q 20w1s5q] [--compile]

The first row is the loop as shipped: bf16 where the CPU has instructions for it, channels_last, ReLU after the pooling,
AdamW one weight after the other, one episode a step, and freed memory kept in the process. Each other row changes one
of these. The last rows leave out work: the batches are made beforehand; the loss is that of the bare loop of
benchmarks.training_loop too; the bare loop itself; and the bare loop with weights in bf16 beside copies in fp32, which
the optimizer changes. All rows of a task are measured in turn, in one run. The allocator's row is of another process,
since malloc reads its settings when a process starts. torch.compile needs a C++ compiler and some minutes.
"""

import argparse
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks.allocator import keep_freed_memory
from benchmarks.table import print_table
from benchmarks.training_loop import (
    PRECISION,
    STEPS_PER_CALL,
    TASKS,
    bare_episode,
    bare_steps,
    embedded,
    episodes_per_second,
    loss_of,
    plain_process,
    shipped_steps,
)
from matchnet.encoders.conv4 import Conv4, Conv4Spec
from matchnet.episodes import EpisodeSpec
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


def with_patches(steps: Callable[[], None], *patches: Callable[[], Any]) -> Callable[[], None]:
    """The same steps, with these patches in place."""
    def call() -> None:
        with ExitStack() as stack:
            for one in patches:
                stack.enter_context(one())
            steps()

    return call


def made_beforehand() -> Callable[[], Any]:
    """Patches a task's batches: eight are made once, and then come again and again."""
    made: dict[int, list] = {}
    make = EpisodicTask.batches

    def batches(task: EpisodicTask, steps: range, ranks: range, world_size: int, device: Any) -> Iterator[Any]:
        found = made.setdefault(id(task.data), [])
        if not found:
            found.extend(make(task, range(8), ranks, world_size, device))
        yield from itertools.islice(itertools.cycle(found), len(steps) * len(ranks))

    return partial(patch.object, EpisodicTask, "batches", batches)


def bare_loss(model: MatchingNetwork, batch: Batch) -> dict[str, Tensor]:
    embedding_BD = embedded(model.encoder_f, torch.cat([batch.support_ES[0], batch.query_EQ[0]]))
    return {"loss": loss_of(embedding_BD, batch.support_ES.shape[1], batch.query_way_EQ[0])}


@contextmanager
def onednn_rounds_to_bf16() -> Iterator[None]:
    """Tensors stay in fp32; convolutions and products of matrices round their inputs to bf16 themselves."""
    onednn: Any = torch.backends.mkldnn
    settings = onednn.conv, onednn.matmul
    before = [one.fp32_precision for one in settings]
    try:
        for one in settings:
            one.fp32_precision = "bf16"
        yield
    finally:
        for one, value in zip(settings, before, strict=True):
            one.fp32_precision = value


def bf16_weights(spec: EpisodeSpec, shape: tuple[int, ...]) -> Callable[[], None]:
    """The bare loop without autocast: convolutions have weights in bf16, and the optimizer changes copies in fp32."""
    encoder: Any = Conv4(Conv4Spec(), shape).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    copies = [nn.Parameter(weight.detach().clone()) for weight in encoder.parameters()]
    for part in encoder.modules():
        if isinstance(part, nn.Conv2d):
            part.bfloat16()
    optimizer = torch.optim.AdamW(copies, lr=1e-3)
    num_support, images, way_Q = bare_episode(spec, shape)

    def step() -> None:
        loss = loss_of(embedded(encoder, next(images).bfloat16()), num_support, way_Q)
        encoder.zero_grad()
        loss.backward()
        for copy, weight in zip(copies, encoder.parameters(), strict=True):
            copy.grad = weight.grad.float()
        optimizer.step()
        with torch.no_grad():
            for copy, weight in zip(copies, encoder.parameters(), strict=True):
                weight.copy_(copy)

    def steps() -> None:
        for _ in range(STEPS_PER_CALL):
            step()

    return steps


def speeds(task: str, compiled: bool) -> dict[str, float]:
    """Row -> episodes per second."""
    spec, shape = TASKS[task]
    calls = {SHIPPED: shipped_steps(spec, shape),
             "fp32": shipped_steps(spec, shape, "fp32"),
             "torch's default memory format": shipped_steps(spec, shape, change=default_format),
             "ReLU before the pooling": shipped_steps(spec, shape, change=relu_before_pooling),
             "AdamW fused": with_patches(shipped_steps(spec, shape),
                                         partial(patch.object, TrainingSpec, "fused_on_cpu", True)),
             f"{EPISODES} episodes a step": shipped_steps(spec, shape, episodes_per_step=EPISODES)}
    calls["fp32, which oneDNN rounds to bf16"] = with_patches(shipped_steps(spec, shape, "fp32"),
                                                              onednn_rounds_to_bf16)
    if compiled:
        calls["torch.compile"] = shipped_steps(spec, shape, change=lambda model: model.compile())
    calls["batches made beforehand"] = with_patches(shipped_steps(spec, shape), made_beforehand())
    calls["the same with the bare loss"] = with_patches(shipped_steps(spec, shape), made_beforehand(),
                                                        partial(patch.object, MatchingNetwork, "forward", bare_loss))
    calls |= {"the bare loop": bare_steps(spec, shape), "the bare loop, weights in bf16": bf16_weights(spec, shape)}
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
