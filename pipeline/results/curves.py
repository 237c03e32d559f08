"""Learning curves: `results/TABLE/training/MODEL.csv`, one line per step that was logged or validated."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from pipeline.files import atomic_write

FRACTIONS = ("accuracy", "valid_accuracy", "valid_ci95")


@dataclass(frozen=True)
class CurvePoint:
    """What was known at one step; None where nothing was logged. Accuracies in percent, the loss in nats.

    valid_perplexity: of a language model; curves of others have no such column.
    """

    step: int
    loss: float | None = None
    accuracy: float | None = None
    learning_rate: float | None = None
    valid_accuracy: float | None = None
    valid_ci95: float | None = None
    episodes_per_second: float | None = None
    valid_perplexity: float | None = None


FIELDS = tuple(field.name for field in fields(CurvePoint))
OF_EPISODES = tuple(name for name in FIELDS if name != "valid_perplexity")


def curve_from_records(records: Iterable[Mapping[str, float]]) -> list[CurvePoint]:
    """Merge what training logged and reported, one point a step.

    Steps after the last checkpoint run again when a run resumes: of two records of a step, the later holds.

    Args:
        records: each with a `step` and any of the fields of CurvePoint; accuracies are fractions here. Other
            keys are left out.
    """
    values: dict[int, dict[str, float]] = {}
    for record in records:
        known = {name: 100 * value if name in FRACTIONS else value
                 for name, value in record.items() if name in FIELDS and value is not None}
        values.setdefault(int(record["step"]), {}).update(known)
    return [CurvePoint(**{**values[step], "step": step}) for step in sorted(values)]  # type: ignore[arg-type]


def write_curve(path: Path, points: Sequence[CurvePoint]) -> None:
    """Write the CSV, whole or not at all; six significant digits."""
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        names = FIELDS if any(point.valid_perplexity is not None for point in points) else OF_EPISODES
        writer.writerow(names)
        for point in points:
            rest = (getattr(point, name) for name in names[1:])
            writer.writerow([point.step, *("" if value is None else f"{value:.6g}" for value in rest)])


def read_curve(path: Path) -> list[CurvePoint]:
    """Read what `write_curve` wrote.

    Raises:
        ValueError: another header, or a cell that is no number; names file, line and column.
    """
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) not in (FIELDS, OF_EPISODES):
            raise ValueError(f"{path}: columns are {reader.fieldnames}, expected {list(OF_EPISODES)}; "
                             f"make it again with the stage train@{Path(path).stem} of {Path(path).parent.parent.name}")
        return [_point(row, f"{path}, line {reader.line_num}") for row in reader]


def _point(row: Mapping[str, str], where: str) -> CurvePoint:
    values = {name: _number(cell, f"{where}, column {name}") for name, cell in row.items()}
    step = values.pop("step")
    if step is None:
        raise ValueError(f"{where}: the step is missing; train the model again")
    return CurvePoint(step=int(step), **values)


def _number(cell: str | None, where: str) -> float | None:
    try:
        return float(cell) if cell else None
    except ValueError as error:
        raise ValueError(f"{where}: {cell!r} is not a number; train the model again") from error
