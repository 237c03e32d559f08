"""`results/speed/TABLE/MODEL.json`: speed, waiting and memory of each of a training's workers.

A file of its own, since these figures differ from run to run where the weights do not. The file is checked when it is
written and when it is read, as details.json is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter

from pipeline.system.checked_json import read_checked, write_checked

OWN = "worker_"  # begins the names of a worker's own speeds in its log: worker_images_per_second
PER_SECOND = "_per_second"
UNITS = ("episodes", "images", "sentences", "tokens")  # names of a step's units in matchnet's tasks

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
Count = Annotated[int, Field(ge=0)]
NotNegative = Annotated[float, Field(ge=0)]
Lines = Sequence[Mapping[str, Any]]


class SpeedError(ValueError):
    """A .speed.json that is not one; the message names file, field and value."""


@dataclass(frozen=True)
class WorkerSpeed:
    """One worker over all attempts of the run, without validation and checkpoints.

    node: counted from 0, in the order of the ranks that are on it.
    per_second: this worker's own share of the episodes, images, ... of a step.
    data_wait_share: share of the time that was spent waiting for data; see matchnet.training.Meter.
    peak_gpu_mib: None on a CPU.
    """

    __pydantic_config__ = STRICT
    rank: Count
    node: Count
    steps_per_second: NotNegative
    per_second: dict[str, NotNegative]
    data_wait_share: Annotated[float, Field(ge=0, le=1)]
    peak_rss_mib: NotNegative
    peak_gpu_mib: NotNegative | None


@dataclass(frozen=True)
class Speed:
    """The content of the file; no workers where nothing was trained or nothing measured."""

    __pydantic_config__ = STRICT
    workers: tuple[WorkerSpeed, ...]

    @property
    def facts(self) -> str:
        """"4.1 steps/s · 262 images/s · 3% waiting for data · 2 workers, up to 612 MiB each"; empty without workers."""
        if not self.workers:
            return ""
        count = len(self.workers)
        nodes = len({worker.node for worker in self.workers})
        together = {unit: sum(worker.per_second.get(unit, 0.0) for worker in self.workers)
                    for unit in self.workers[0].per_second}
        gpu = max((worker.peak_gpu_mib for worker in self.workers if worker.peak_gpu_mib is not None), default=None)
        memory = f"{max(worker.peak_rss_mib for worker in self.workers):,.0f} MiB"
        memory += "" if gpu is None else f" and {gpu:,.0f} MiB of the GPU"
        who = "1 worker" if count == 1 else f"{count} workers" + (f" on {nodes} nodes" if nodes > 1 else "")
        waiting = sum(worker.data_wait_share for worker in self.workers) / count
        return " · ".join([f"{shown(self.workers[0].steps_per_second)} steps/s",
                           *(f"{shown(value)} {unit}/s" for unit, value in together.items()),
                           f"{waiting:.0%} waiting for data",
                           f"{who}, up to {memory}{' each' if count > 1 else ''}"])

    def table(self) -> tuple[list[str], list[list[str]]]:
        """A head, and a row a worker."""
        units = list(self.workers[0].per_second)
        head = ["worker", "node", "steps/s", *(f"{unit}/s" for unit in units), "waiting for data", "memory, MiB",
                "GPU memory, MiB"]
        return head, [[str(worker.rank), str(worker.node), shown(worker.steps_per_second),
                       *(shown(worker.per_second.get(unit, 0.0)) for unit in units), f"{worker.data_wait_share:.1%}",
                       f"{worker.peak_rss_mib:,.0f}",
                       "–" if worker.peak_gpu_mib is None else f"{worker.peak_gpu_mib:,.0f}"]
                      for worker in self.workers]


NOT_MEASURED = Speed(())
SPEED = TypeAdapter(Speed)
AGAIN = "train the model again"


def speed_from_logs(logs: Mapping[int, Lines]) -> Speed:
    """Speed of each rank from its lines, over all attempts with as many workers as the last attempt had.

    A rank that logged no speed in these attempts is left out. (If nodes came and went, a sum over all workers that ever
    took part would not be the speed of any attempt.)

    Args:
        logs: rank -> the lines of its log. An attempt begins with a line that has the `node`; a line with speeds is
            about the steps since the line before it.
    """
    workers = next((line["workers"] for line in reversed(logs.get(0, ())) if "workers" in line), None)
    logs = {rank: _with_workers(lines, workers) for rank, lines in logs.items()}
    measured = {rank: lines for rank, lines in logs.items() if any(map(_is_speed, lines))}
    names = list(dict.fromkeys(_node(measured[rank]) for rank in sorted(measured)))
    return Speed(tuple(_worker(rank, names.index(_node(measured[rank])), measured[rank]) for rank in sorted(measured)))


def write_speed(path: Path, speed: Speed) -> None:
    """Write the file, whole or not at all.

    Raises:
        SpeedError: a value that the file may not hold (a NaN, a share above 1).
    """
    write_checked(SPEED, asdict(speed), path, SpeedError, AGAIN)


def read_speed(path: Path) -> Speed:
    """Read what `write_speed` wrote.

    Raises:
        SpeedError: not JSON, or a field missing, unknown or impossible.
    """
    return read_checked(SPEED, Path(path), SpeedError, AGAIN)


def shown(value: float) -> str:
    """Three digits, or all before the point: 0.0412, 4.12, 262, 31,192."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _with_workers(lines: Lines, workers: int | None) -> Lines:
    """The lines of attempts with so many workers."""
    chosen, wanted = [], False
    for line in lines:
        if "process" in line:  # an attempt begins
            wanted = line.get("workers") == workers
        if wanted:
            chosen.append(line)
    return chosen


def _node(lines: Lines) -> str:
    return next((line["node"] for line in reversed(lines) if "node" in line), "")


def _worker(rank: int, node: int, lines: Lines) -> WorkerSpeed:
    """Means over time of one worker: all steps divided by all seconds."""
    steps, speeds = _stretches(lines)
    seconds = [count / line["steps_per_second"] for count, line in zip(steps, speeds, strict=True)]

    def mean(name: str) -> float:
        weighted = (line[name] * length for line, length in zip(speeds, seconds, strict=True))
        return sum(weighted) / sum(seconds)

    units = [unit for unit in UNITS if all(f"{OWN}{unit}{PER_SECOND}" in line for line in speeds)]
    gpu = [line["peak_gpu_mib"] for line in speeds if line["peak_gpu_mib"] is not None]
    return WorkerSpeed(rank=rank, node=node, steps_per_second=_digits(sum(steps) / sum(seconds)),
                       per_second={unit: _digits(mean(f"{OWN}{unit}{PER_SECOND}")) for unit in units},
                       data_wait_share=_digits(mean("data_wait_share")),
                       peak_rss_mib=max(line["peak_rss_mib"] for line in speeds), peak_gpu_mib=max(gpu, default=None))


def _is_speed(line: Mapping[str, Any]) -> bool:
    """Whether a line has all speeds; a damaged line may have only some."""
    return (line.get("steps_per_second") or 0) > 0 and 0 <= (line.get("data_wait_share") or 0) <= 1 and \
        {"data_wait_share", "peak_rss_mib", "peak_gpu_mib"} <= line.keys()


def _stretches(lines: Lines) -> tuple[list[int], list[Mapping[str, Any]]]:
    """The lines with speeds, and how many steps each is about."""
    steps: list[int] = []
    speeds: list[Mapping[str, Any]] = []
    before = 0
    for line in lines:
        if "process" in line:  # an attempt begins
            before = line["step"]
        elif _is_speed(line) and line["step"] > before:
            steps.append(line["step"] - before)
            speeds.append(line)
            before = line["step"]
    return steps, speeds


def _digits(value: float) -> float:
    return float(f"{value:.6g}")
