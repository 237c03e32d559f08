"""`results/<experiment>/metrics.json`: what one experiment measured, in percent and seconds.

The file is checked when it is written and when it is read, so that no report shows a number that is not one.
"""

import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
from pydantic import ConfigDict, Field, TypeAdapter

from pipeline.machine import cores
from pipeline.results.checked_json import parse_checked, write_checked

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
Percent = Annotated[float, Field(ge=0, le=100)]
Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]


class MetricsError(ValueError):
    """A metrics.json that is not one; the message names file, field, value and rule."""


@dataclass(frozen=True)
class ColumnResult:
    """One column of a row: accuracy and the half width of its 95% interval over episodes, in percent.

    num_classes: how many the episodes are drawn from: words with too few sentences for the column are left out.
    """

    __pydantic_config__ = STRICT
    accuracy: Percent
    ci95: Percent
    episodes: Positive
    queries_per_way: Positive
    paper: Percent | None = None
    num_classes: Positive | None = None

    @staticmethod
    def from_fractions(mean: float, ci95: float, episodes: int, queries_per_way: int, paper: float | None,
                       num_classes: int | None = None) -> "ColumnResult":
        """From the fractions that evaluation yields; `paper` is in percent, as printed there."""
        return ColumnResult(round(100 * mean, 4), round(100 * ci95, 4), episodes, queries_per_way, paper, num_classes)


@dataclass(frozen=True)
class SecondsSpent:
    """Wall-clock seconds; an untrained method has 0.0 for `train`."""

    __pydantic_config__ = STRICT
    train: Seconds
    evaluate: Seconds


@dataclass(frozen=True)
class Machine:
    """Where the evaluation ran; `cores` are those this process may use."""

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
class Metrics:
    """The content of a metrics.json; `columns` is keyed by episode shape ("5w1s").

    perplexity: of a language model, on all sentences of the file that the part's are of.
    """

    __pydantic_config__ = STRICT
    columns: Annotated[dict[str, ColumnResult], Field(min_length=1)]
    seconds: SecondsSpent
    machine: Machine
    dataset: DatasetUsed
    model: ModelUsed
    perplexity: Annotated[float, Field(ge=1)] | None = None


METRICS = TypeAdapter(Metrics)


def write_metrics(path: Path, metrics: Metrics) -> None:
    """Write `metrics` to `path`, whole or not at all.

    Raises:
        MetricsError: a value that the file may not hold (a NaN, an accuracy above 100, ...).
    """
    content = {name: value for name, value in asdict(metrics).items() if value is not None}
    write_checked(METRICS, content, path, MetricsError, _remedy(path))


def read_metrics(path: Path) -> Metrics:
    """Read a metrics.json.

    Raises:
        MetricsError: not JSON, or a field missing, unknown or impossible.
    """
    return parse_checked(METRICS, Path(path).read_text(encoding="utf-8"), path, MetricsError, _remedy(path))


def _remedy(path: Path) -> str:
    return f"make it again with `dvc repro evaluate@{Path(path).parent.name}`"


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
