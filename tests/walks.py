"""Count the stops of three walks through the code, as data flows: PYTHONPATH=. python tests/walks.py [--list]

With --list it names every function on the way; a star marks the stops.

1. train: from `make_model` to the first training batch, as its driver and its worker run it, in one process.
2. load: one part of a split into memory.
3. evaluate: one row, up to its accuracies.

All run on a small Omniglot, and every call between functions of matchnet, pipeline and stages is traced.

- A **stop** is a function, a method or a property that calls another one of ours, so that a reader must open it to
  follow the data. Its length does not matter: a function that only passes on is a stop as well. A function that calls
  none of ours is no stop, since the walk ends there. So cutting a function into smaller ones never lowers the count;
  joining a function with its callers does. A property that calls none of ours is read as an attribute, and counts
  nowhere.
- **modules** have the stops.
- A **climb** is a stop in a module where the walk has been before, reached from a module that has not led there yet.
- **functions** are all that are called, stops or not.

A dataclass's check of its own values (`__post_init__`, and what it calls) is no part of the walks.
"""

import linecache
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
import small_omniglot
import torch
from places import ROOT

from matchnet.augmentation import AffineSpec
from matchnet.context import FullContextSpec
from matchnet.encoders.conv4 import Conv4Spec
from matchnet.episodes import EpisodeSpec
from matchnet.episodic_training import EpisodicSpec
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.training import Worker
from pipeline.data.load.samples import load_samples
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.make import shard_dataset
from pipeline.evaluate.row import evaluate_row
from pipeline.params import ComputeParams, ModelParams, Params, RowParams
from pipeline.params.sections import ClusterParams, ReportParams
from pipeline.training import local_training
from pipeline.training.models import make_model
from pipeline.training.runs import RunFiles
from pipeline.training.worker import train_on_worker

OURS = tuple(f"{ROOT / floor}/" for floor in ("matchnet", "pipeline", "stages"))
LAST = "make_batches"  # when it yields, the walk of the training has come to its first batch
TRAINING = EpisodicSpec(episode=EpisodeSpec(5, 1, 2), steps=1, affine=AffineSpec(), valid_episode=EpisodeSpec(2, 1, 2),
                        valid_episodes=10)
MODEL = ModelParams(dataset="small", split="random", image_size=16, training=TRAINING, method=MatchingNetworkSpec(
    encoder=Conv4Spec(num_filters=4), fce=FullContextSpec(1)))
ROW = RowParams(model="t/model", dataset="small", split="random", columns=("3w1s2q",), episodes=6)
PARAMS = Params(table="t", folder=Path(), cluster=ClusterParams(), own_datasets=("small",),
                datasets={"small": small_omniglot.PARAMS}, models={"t/model": MODEL}, rows={"t/row": ROW},
                comparisons={}, report=ReportParams(title="small"),
                compute=ComputeParams(num_workers=1, threads_per_worker=1, device="cpu", precision="fp32"))
Call = tuple[CodeType | None, CodeType]  # caller, or None for the first, and callee


def in_this_process(patch: pytest.MonkeyPatch) -> None:
    """Let the worker, which has a process of its own, train in this one."""
    patch.setattr(local_training, "_train_in_a_process",
                  lambda settings, device: train_on_worker(settings, Worker(device=device)))


def is_ours(frame: FrameType) -> bool:
    """Lambdas, comprehensions and the bodies of modules are part of the function around them."""
    return frame.f_code.co_filename.startswith(OURS) and not frame.f_code.co_name.startswith("<")


def callers(frame: FrameType) -> Iterator[FrameType]:
    above = frame.f_back
    while above is not None:
        if is_ours(above):
            yield above
        above = above.f_back


def traced(work: Callable[[], Any]) -> tuple[Any, list[Call]]:
    """What `work` returns, and the calls between functions of ours in this thread, in their order."""
    calls: list[Call] = []
    ended = False

    def look(frame: FrameType, event: str, _: object) -> None:
        nonlocal ended
        if ended or event not in ("call", "return") or not is_ours(frame):
            return
        if event == "return":
            ended = frame.f_code.co_name == LAST
            return
        above = list(callers(frame))
        if not any(one.f_code.co_name == "__post_init__" for one in (frame, *above)):
            calls.append((above[0].f_code if above else None, frame.f_code))

    sys.setprofile(look)
    try:
        return work(), calls
    finally:
        sys.setprofile(None)


def followed(calls: list[Call]) -> tuple[list[Call], set[CodeType]]:
    """The calls without those of properties that are read as attributes, and the functions that call another one."""
    while True:
        goes_on = {caller for caller, callee in calls if caller and caller is not callee}
        kept = [(caller, callee) for caller, callee in calls if callee in goes_on or not is_property(callee)]
        if len(kept) == len(calls):
            return calls, goes_on
        calls = kept


def is_property(code: CodeType) -> bool:
    return linecache.getline(code.co_filename, code.co_firstlineno).strip() in ("@property", "@cached_property")


def counted(calls: list[Call], goes_on: set[CodeType]) -> tuple[int, int, int, int]:
    """Stops, modules, climbs, functions."""
    stops: set[CodeType] = set()
    led: set[tuple[str, str]] = set()  # pairs of modules
    climbs = 0
    for caller, callee in calls:
        if callee in goes_on and callee not in stops:
            module = callee.co_filename
            way = (caller.co_filename if caller else "", module)
            climbs += module in {to for _, to in led} and way not in led and way[0] != module
            stops.add(callee)
            led.add(way)
    modules = {to for _, to in led}
    return len(stops), len(modules), climbs, len({callee for _, callee in calls})


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as patch:
        folder = Path(temporary)
        raw = small_omniglot.small_omniglot(folder / "raw", patch)
        shard_dataset("small", small_omniglot.PARAMS, raw, folder / "shards")
        in_this_process(patch)
        files = RunFiles(ShardFolder(folder / "shards"), folder / "runs")
        (model, _), training = traced(lambda: make_model("t/model", PARAMS, files))
        _, loading = traced(lambda: load_samples(ShardFolder(folder / "shards"), "random", ("train",), (1, 16, 16)))
        method = model.build(folder / "model.pt")
        _, evaluation = traced(lambda: evaluate_row(ROW, model, method, ShardFolder(folder / "shards")))
    print("| walk | stops | modules | climbs | functions |\n|---|---|---|---|---|")
    for name, calls in (("train", training), ("load", loading), ("evaluate", evaluation)):
        calls, goes_on = followed(calls)
        print(f"| {name} | {' | '.join(map(str, counted(calls, goes_on)))} |")
        if "--list" in sys.argv:
            for code in dict.fromkeys(callee for _, callee in calls):
                print(f"  {'*' if code in goes_on else ' '} {Path(code.co_filename).relative_to(ROOT)}:"
                      f"{code.co_qualname}")


if __name__ == "__main__":
    main()
