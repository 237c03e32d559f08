"""Results of one row, in percent and seconds: results/metrics/TABLE/ROW.json and results/details/TABLE/ROW.json.

The file of metrics is flat: the accuracy of each column, and a perplexity. It is what `dvc metrics` shows. The file of
details has everything. Both are checked when they are written and when they are read.
"""

import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
from pydantic import ConfigDict, Field, TypeAdapter

from pipeline.system.checked_json import read_checked, write_checked
from pipeline.system.machine import cores

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
Percent = Annotated[float, Field(ge=0, le=100)]
Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]


class MetricsError(ValueError):
    """A file of results that holds something else; the message names file, field, value and rule."""


@dataclass(frozen=True)
class ColumnResult:
    """One column of a row: accuracy and the half width of its 95% interval over episodes, in percent.

    num_classes: classes that the episodes are drawn from; words with too few sentences for the column are left out.
    """

    __pydantic_config__ = STRICT
    accuracy: Percent
    ci95: Percent
    episodes: Positive
    queries_per_way: Positive
    num_classes: Positive | None = None

    @staticmethod
    def from_fractions(mean: float, ci95: float, episodes: int, queries_per_way: int,
                       num_classes: int | None = None) -> "ColumnResult":
        """Make a result from the fractions that evaluation yields."""
        return ColumnResult(round(100 * mean, 4), round(100 * ci95, 4), episodes, queries_per_way, num_classes)


@dataclass(frozen=True)
class SecondsSpent:
    """Wall-clock seconds; an untrained method has 0.0 for `train`."""

    __pydantic_config__ = STRICT
    train: Seconds
    evaluate: Seconds


@dataclass(frozen=True)
class Machine:
    """The machine that ran the evaluation; `cores` are those this process may use."""

    __pydantic_config__ = STRICT
    cpu: str
    cores: Positive
    gpu: str | None
    torch: str


@dataclass(frozen=True)
class DatasetUsed:
    """The classes tested on, and the SHA-256 of the manifest that lists them."""

    __pydantic_config__ = STRICT
    name: str
    split: str
    part: str
    manifest_sha256: str


@dataclass(frozen=True)
class ModelUsed:
    """The model evaluated; `parameters` are the trainable ones."""

    __pydantic_config__ = STRICT
    name: str
    steps: Count
    parameters: Count
    seed: Count


@dataclass(frozen=True)
class Details:
    """The content of a file of details; `columns` is keyed by task ("5w1s").

    perplexity: a language model's, on all sentences of the file that has the part's sentences.
    """

    __pydantic_config__ = STRICT
    columns: Annotated[dict[str, ColumnResult], Field(min_length=1)]
    seconds: SecondsSpent
    machine: Machine
    dataset: DatasetUsed
    model: ModelUsed
    perplexity: Annotated[float, Field(ge=1)] | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """The content of the file of metrics. Two decimals: intervals are seldom below 0.02."""
        accuracies = {column: round(result.accuracy, 2) for column, result in self.columns.items()}
        return accuracies | ({"perplexity": round(self.perplexity, 2)} if self.perplexity else {})


DETAILS = TypeAdapter(Details)
METRICS = TypeAdapter(dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]])


def write_metrics(path: Path, details: Details) -> None:
    """Write the flat file, whole or not at all."""
    write_checked(METRICS, details.metrics, path, MetricsError, _remedy(path))


def write_details(path: Path, details: Details) -> None:
    """Write a file of details, whole or not at all.

    Raises:
        MetricsError: a value that the file may not hold (a NaN, an accuracy above 100, ...).
    """
    content = {name: value for name, value in asdict(details).items() if value is not None}
    write_checked(DETAILS, content, path, MetricsError, _remedy(path))


def read_details(path: Path) -> Details:
    """Read a file of details.

    Raises:
        MetricsError: not JSON, or a field missing, unknown or impossible.
    """
    return read_checked(DETAILS, path, MetricsError, _remedy(path))


def _remedy(path: Path) -> str:
    return f"make it again with the stage evaluate@{path.stem} of {path.parent.name}"


def machine_facts() -> Machine:
    """This machine: processor, cores this process may use, first GPU if there is one, version of torch."""
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return Machine(cpu=_cpu_model(), cores=cores(), gpu=gpu, torch=torch.__version__)


def _cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def format_accuracy(accuracy: float, ci95: float) -> str:
    """"99.3 ± 0.1"; two decimals where one would show the interval as 0.0."""
    decimals = 2 if 0 < ci95 < 0.05 else 1
    return f"{accuracy:.{decimals}f} ± {ci95:.{decimals}f}"
