"""Episodes trained per second: our loop and easyfsl's, on the same encoder, in one run.

    python -m benchmarks.peers [--folder data/peers] [--threads 2] [--steps 10] [--rounds 3]

The first call makes an environment of its own in the folder: torch and numpy of constraints.txt, easyfsl 1.5.0 from the
package registry without its dependency torchvision, which does not import with this build of torch. Where easyfsl
imports torchvision, it gets a module of empty classes: no measured code uses one. Its sampler passes torch an argument
that torch has dropped; it is ignored here.

All train Conv-4 with our initial weights, by AdamW with the same rate, on one episode a step, from the same pixels in
memory. easyfsl's episodes are drawn and stacked by its own sampler and a DataLoader without processes, in fp32, as its
tutorials do. Its prototypical net does the work of our plain matching net. Its matching net has full context
embeddings, which read the support set once for each item of it, and so do ours here.

Everything is measured twice: with the system's allocator, as a script of a user has it, and with the settings that our
training workers have (pipeline.system.memory). `as shipped` is ours with those settings and the precision that `auto`
chooses, over theirs without. learn2learn 0.2.0 is tried, and why it cannot be measured is said.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from benchmarks.table import print_table
from matchnet.context import FullContextSpec
from matchnet.encoders.conv4 import Conv4, Conv4Spec
from matchnet.episodes import ClassRows, EpisodeSpec
from matchnet.episodic_training import EpisodicData, EpisodicSpec, EpisodicTask
from matchnet.methods import MatchingNetwork
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.store import MemoryStore
from matchnet.training import Worker, train

ROOT = Path(__file__).resolve().parent.parent
EASYFSL, LEARN2LEARN = "easyfsl==1.5.0", "learn2learn==0.2.0"
THEIR_NEEDS = ("torch", "numpy", "pandas", "matplotlib", "tqdm", "pillow")  # as constraints.txt has them
GREY_28, COLOURED_84 = (1, 28, 28), (3, 84, 84)
TASKS = {"5w1s15q": (EpisodeSpec(5, 1, 15), GREY_28), "20w1s5q": (EpisodeSpec(20, 1, 5), GREY_28),
         "5w1s15q, 84 px": (EpisodeSpec(5, 1, 15), COLOURED_84)}
NUM_CLASSES, SAMPLES_A_CLASS = 480, 20
OURS, OURS_FP32, OURS_FCE = "ours", "ours, fp32", "ours with FCE"
PLAIN, FCE = "easyfsl, prototypical net", "easyfsl, matching net"
PAIRS = ((PLAIN, OURS, OURS_FP32), (FCE, OURS_FCE, None))
TORCHVISION = ("torchvision", "torchvision.datasets", "torchvision.models", "torchvision.models.resnet",
               "torchvision.transforms", "torchvision.utils")


class EmptyModule(ModuleType):
    """A module in which every name is an empty class."""

    __path__: list[str] = []  # noqa: RUF012 - so that it may have modules in it

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (), {})
        setattr(self, name, made)
        return made


def stand_in_for_torchvision() -> None:
    """Let `import torchvision` of others give empty classes, in this process."""
    for name in TORCHVISION:
        sys.modules[name] = EmptyModule(name)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, sys.modules[name])


def let_samplers_name_their_data() -> None:
    """Let samplers of others call `Sampler.__init__(data_source=...)` as older versions of torch had it, here."""

    def accept(self: Sampler, data_source: object = None) -> None:
        return

    Sampler.__init__ = accept  # type: ignore[method-assign, assignment]


def cpu_precision() -> Literal["fp32", "bf16"]:
    found = torch.cpu.get_capabilities()
    return "bf16" if found.get("avx512_bf16") or found.get("amx_bf16") else "fp32"


def pixels(shape: tuple[int, int, int]) -> Tensor:
    return torch.randint(256, (NUM_CLASSES * SAMPLES_A_CLASS, *shape), dtype=torch.uint8)


def ours(episode: EpisodeSpec, images_RCHW: Tensor, precision: Literal["fp32", "bf16"], fce: FullContextSpec | None,
         steps: int) -> Callable[[], None]:
    """A function that trains so many steps with matchnet.training.train."""
    shape = tuple(images_RCHW.shape[1:])
    classes = ClassRows.from_class_ids(np.repeat(np.arange(NUM_CLASSES), SAMPLES_A_CLASS))
    spec = EpisodicSpec(episode=episode, steps=steps, schedule="constant", checkpoint_every=steps)
    task = EpisodicTask(EpisodicData(MemoryStore(images_RCHW), classes), spec)
    torch.manual_seed(0)
    model = MatchingNetwork(MatchingNetworkSpec(fce=fce), shape)
    return lambda: train(model, task, worker=Worker(precision=precision))


def easyfsl(episode: EpisodeSpec, images_RCHW: Tensor, context: bool, steps: int) -> Callable[[], None]:
    """A function that trains so many steps as easyfsl's tutorials do."""
    from easyfsl.datasets import FewShotDataset  # type: ignore[import-not-found]
    from easyfsl.methods import MatchingNetworks, PrototypicalNetworks  # type: ignore[import-not-found]
    from easyfsl.samplers import TaskSampler  # type: ignore[import-not-found]

    class InMemory(FewShotDataset):
        def __getitem__(self, row: int) -> tuple[Tensor, int]:
            return images_RCHW[row].float() / 255, row // SAMPLES_A_CLASS

        def __len__(self) -> int:
            return len(images_RCHW)

        def get_labels(self) -> list[int]:
            return [row // SAMPLES_A_CLASS for row in range(len(self))]

    dataset: Dataset = InMemory()
    torch.manual_seed(0)
    encoder = Conv4(Conv4Spec(), tuple(images_RCHW.shape[1:]))
    method = (MatchingNetworks(encoder, feature_dimension=encoder.embedding_size) if context
              else PrototypicalNetworks(encoder))
    sampler = TaskSampler(dataset, episode.num_ways, episode.num_shots, episode.num_queries, steps)
    loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=sampler.episodic_collate_fn)
    loss_of = nn.NLLLoss() if context else nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3)
    method.train()

    def run() -> None:
        for support, support_way, query, query_way, _ in loader:
            optimizer.zero_grad()
            method.process_support_set(support, support_way)
            loss = loss_of(method(query), query_way)
            loss.backward()
            optimizer.step()
            float(loss.detach())  # as its tutorials do, for their progress bar

    return run


def contenders(episode: EpisodeSpec, shape: tuple[int, int, int], steps: int) -> dict[str, Callable[[], None]]:
    images, support = pixels(shape), episode.num_ways * episode.num_shots
    return {OURS: ours(episode, images, cpu_precision(), None, steps),
            OURS_FP32: ours(episode, images, "fp32", None, steps),
            OURS_FCE: ours(episode, images, cpu_precision(), FullContextSpec(num_steps=support), steps),
            PLAIN: easyfsl(episode, images, False, steps), FCE: easyfsl(episode, images, True, steps)}


def measure(threads: int, steps: int, rounds: int) -> dict[str, dict[str, float]]:
    """Episodes a second by task and contender: the best round of each, in turn, after one to warm up."""
    torch.set_num_threads(threads)
    stand_in_for_torchvision()
    let_samplers_name_their_data()
    found = {}
    for task, (episode, shape) in TASKS.items():
        calls = contenders(episode, shape, steps)
        best = dict.fromkeys(calls, 0.0)
        for turn in range(rounds + 1):
            for name, call in calls.items():
                started = time.perf_counter()
                call()
                if turn:
                    best[name] = max(best[name], steps / (time.perf_counter() - started))
        found[task] = best
    return found


def rows(plain: dict[str, dict[str, float]], tuned: dict[str, dict[str, float]]) -> list[list[object]]:
    """One row for a task and a method of theirs; `plain` is with the system's allocator, `tuned` with ours."""
    made: list[list[object]] = []
    for task in plain:
        for theirs, mine, mine_fp32 in PAIRS:
            fp32 = "" if mine_fp32 is None else plain[task][mine_fp32] / plain[task][theirs]
            made.append([f"{task}: {theirs}", plain[task][theirs], tuned[task][theirs], tuned[task][mine],
                         tuned[task][mine] / plain[task][theirs], tuned[task][mine] / tuned[task][theirs], fp32])
    return made


def make_environment(folder: Path) -> Path:
    """Install missing packages into the environment; return its interpreter."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not list(folder.glob("lib/python*/site-packages/easyfsl")):
        subprocess.run([*install, "-c", str(ROOT / "constraints.txt"), *THEIR_NEEDS], check=True)
        subprocess.run([*install, "--no-deps", EASYFSL], check=True)
    if not list(folder.glob("lib/python*/site-packages/learn2learn")):
        tried = subprocess.run([*install, "--no-deps", LEARN2LEARN], capture_output=True, text=True)
        errors = [line.strip() for line in tried.stderr.splitlines() if " error: " in line or "Failed" in line]
        print(f"{LEARN2LEARN}: " + ("installed, and not measured" if tried.returncode == 0 else
                                    f"does not install here: {errors[0] if errors else 'pip does not say why'}"))
    return python


def measured_in(python: Path, arguments: argparse.Namespace, settings: dict[str, str]) -> dict[str, dict[str, float]]:
    """Measure in a fresh process of the environment, whose allocator has these settings and no others."""
    from pipeline.system.memory import KEEP_FREED_MEMORY

    environment = {name: value for name, value in os.environ.items() if name not in KEEP_FREED_MEMORY}
    sizes = [f"--{name}={getattr(arguments, name)}" for name in ("threads", "steps", "rounds")]
    done = subprocess.run([str(python), "-W", "ignore", "-m", "benchmarks.peers", "--inside", *sizes], cwd=ROOT,
                          check=True, stdout=subprocess.PIPE, text=True,
                          env=environment | settings | {"PYTHONPATH": str(ROOT)})
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "data" / "peers", help="of the environment")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=10, help="episodes that are timed together")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        return print(json.dumps(measure(arguments.threads, arguments.steps, arguments.rounds)))
    assert find_spec("pipeline") is not None
    from pipeline.system.memory import KEEP_FREED_MEMORY

    python = make_environment(arguments.folder.absolute())
    plain, tuned = (measured_in(python, arguments, settings) for settings in ({}, KEEP_FREED_MEMORY))
    print(f"{arguments.threads} threads, ours in {cpu_precision()}; episodes trained per second, and ours over theirs")
    print_table(["", "theirs", "theirs, our allocator", "ours", "as shipped", "same allocator", "both fp32, plain"],
                rows(plain, tuned))
    return None


if __name__ == "__main__":
    main()
