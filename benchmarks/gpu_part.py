"""Shared code of the parts of benchmarks/gpu.sh: arguments, a clock, rows that are printed at once, and checks.

Every row is also a line of JSON in the folder `--out`, gpu.jsonl: {"part", "table", and the columns by name}. The parts
import matchnet alone, so that they run where pipeline's packages are missing.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import torch

from matchnet.encoders.conv4 import Conv4Spec
from matchnet.episodes import ClassRows
from matchnet.episodic_training import EpisodicData
from matchnet.methods import Method
from matchnet.store import MemoryStore
from matchnet.training import Callbacks, Precision, Task, Values, Worker, train

LINES_FILE = "gpu.jsonl"
FIRST_COLUMN, OTHER_COLUMNS = 58, 15  # characters
LINES = 4  # lines of a training's log; the first, with all work that is done once, is left out
MIB = 2**20


def conv4_of(tiny: bool) -> Conv4Spec:
    return Conv4Spec(num_filters=8 if tiny else 64)


class Part:
    """One part of benchmarks/gpu.sh, begun now.

    tiny: sizes that a CPU runs in seconds, to try the script itself.
    """

    def __init__(self, name: str, parser: argparse.ArgumentParser, words: Sequence[str] | None = None) -> None:
        parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
        parser.add_argument("--tiny", action="store_true", help="sizes for a CPU, to try the script")
        parser.add_argument("--out", type=Path, help=f"folder of {LINES_FILE}")
        parser.add_argument("--seconds", type=float, default=60.0, help="that this part may take")
        self.began, self.name, self.failed = time.monotonic(), name, 0
        self.arguments = parser.parse_args(words)
        self.tiny, self.out, self.seconds = self.arguments.tiny, self.arguments.out, self.arguments.seconds
        self.device = torch.device(self.arguments.device)
        self.cuda = self.device.type == "cuda"
        self.table, self.columns = "", [""]
        print(f"\n## {name}: at most {self.seconds:.0f} s on {device_name(self.device)}", flush=True)

    @property
    def conv4(self) -> Conv4Spec:
        """The paper's encoder, with few filters where the sizes are tiny."""
        return conv4_of(self.tiny)

    def left(self) -> float:
        """Seconds that are left."""
        return self.seconds - (time.monotonic() - self.began)

    def begin(self, table: str, *columns: str) -> None:
        """Print the heading of a table, and the names of its columns after the first."""
        self.table, self.columns = table, ["what", *columns]
        print(f"\n{table:<{FIRST_COLUMN}}" + "".join(f"{column:>{OTHER_COLUMNS}}" for column in columns), flush=True)

    def row(self, *cells: object) -> None:
        """Print one line of the table; in JSON numbers stay numbers."""
        texts = [shown(cell) for cell in cells]
        print(f"{texts[0]:<{FIRST_COLUMN}}" + "".join(f"{text:>{OTHER_COLUMNS}}" for text in texts[1:]), flush=True)
        self.put(dict(zip(self.columns, cells, strict=True)))

    def check(self, what: str, found: float, limit: float) -> None:
        """A row of a table with the columns found, limit and holds: `found` may be at most `limit`."""
        holds = found <= limit
        self.failed += not holds
        self.row(what, f"{found:.2e}", f"{limit:.0e}", "yes" if holds else "NO")

    def say(self, text: str) -> None:
        print(text, flush=True)
        self.put({"note": text})

    def put(self, values: Values) -> None:
        if self.out:
            self.out.mkdir(parents=True, exist_ok=True)
            with open(self.out / LINES_FILE, "a", encoding="utf-8") as file:
                file.write(json.dumps({"part": self.name, "table": self.table, **values}) + "\n")

    def has(self, seconds: float, what: str) -> bool:
        """Whether `seconds` seconds are left; says so if they are not."""
        if self.left() >= seconds:
            return True
        self.say(f"{what}: left out: {max(0.0, self.left()):.0f} s are left, and it takes some {seconds:.0f}")
        return False

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Turn a failure in the block into a line of the table; the part goes on."""
        try:
            yield
        except Exception as error:
            self.failed += 1
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            print(f"{what}: FAILED: {reason}", flush=True)
            self.put({"what": what, "failed": reason})
        if self.cuda:
            torch.cuda.empty_cache()

    def end(self) -> None:
        """Leave the process: with status 1 if a check does not hold or something failed."""
        print(f"{self.name}: {time.monotonic() - self.began:.0f} s" + f", {self.failed} failed" * bool(self.failed),
              flush=True)
        sys.exit(1 if self.failed else 0)


def shown(cell: object) -> str:
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else f"a CPU, {torch.get_num_threads()} threads"


def steps_per_second(method: Method, task: Task, device: torch.device,
                     precision: Precision = "bf16") -> float:
    """Speed of matchnet.training.train: the median of the log's lines but the first. `task.spec` gives LINES lines."""
    lines: list[float] = []
    train(method, task, Callbacks(log=lambda values: lines.append(values["steps_per_second"])),
          worker=Worker(device=device, precision=precision))
    assert len(lines) == LINES
    return median(lines[1:])


def calls_per_second(call: Callable[[], object], calls: int, device: torch.device, rounds: int = 3) -> float:
    """The median of `rounds` rounds of `calls` calls, after one of them to warm up; the device has done its work."""
    speeds = []
    for _ in range(rounds + 1):
        synchronize(device)
        started = time.perf_counter()
        for _ in range(calls):
            call()
        synchronize(device)
        speeds.append(calls / (time.perf_counter() - started))
    return median(speeds[1:])


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_mib(device: torch.device) -> float:
    """Peak memory of torch's allocator on the GPU since `forget_peak`; NaN on a CPU."""
    return torch.cuda.max_memory_allocated(device) / MIB if device.type == "cuda" else float("nan")


def easy_images(num_classes: int, samples: int, shape: tuple[int, ...]) -> EpisodicData:
    """Classes that can be learned: a random pattern of squares each, under noise. A quarter of the classes validates.

    Two copies of the same call are equal.
    """
    generator = torch.Generator().manual_seed(0)
    channels, height, width = shape
    cells = torch.rand(num_classes, channels, 7, 7, generator=generator)
    pattern = torch.nn.functional.interpolate(cells, (height, width)).repeat_interleave(samples, 0)
    noise = torch.rand(pattern.shape, generator=generator)
    class_id_R = np.repeat(np.arange(num_classes), samples)
    first_valid = num_classes - num_classes // 4
    return EpisodicData(MemoryStore(((0.5 * pattern + 0.5 * noise) * 255).to(torch.uint8)),
                        ClassRows.from_class_ids(class_id_R, range(first_valid)),
                        valid_classes=ClassRows.from_class_ids(class_id_R, range(first_valid, num_classes)))
