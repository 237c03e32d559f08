"""`results/comparisons/TABLE/NAME.json`: two rows on the same episodes, in figures."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, TypeAdapter

from matchnet.statistics import mean_and_interval
from pipeline.results.metrics import STRICT, Count, MetricsError, Percent, Positive
from pipeline.system.checked_json import read_checked, write_checked

HUB_SHARE = 0.6  # share of an episode's queries
Points = Annotated[float, Field(ge=-100, le=100)]


@dataclass(frozen=True)
class Comparison:
    """Comparison of `row` with `baseline` in a column, episode by episode.

    difference, ci95: mean over episodes of its accuracy less the baseline's, and half the width of the 95% interval of
        that mean of paired differences; both in points of percent.
    better, worse, equal: in how many episodes its accuracy is above the baseline's, below, the same.
    hubness, baseline_hubness: percent of the episodes in which more than HUB_SHARE of all queries are given one and the
        same way, although each way has 1 / N of them. These count a remark of the paper: Inception "appears to
        sometimes prefer an image above all others".
    """

    __pydantic_config__ = STRICT
    row: str
    baseline: str
    column: str
    episodes: Positive
    difference: Points
    ci95: Percent
    better: Count
    worse: Count
    equal: Count
    hubness: Percent
    baseline_hubness: Percent


COMPARISON = TypeAdapter(Comparison)


def difference_of(accuracy_E: np.ndarray, baseline_E: np.ndarray) -> np.ndarray:
    """Difference of accuracies, rounded: equal shares of right queries stay equal however they were computed."""
    return np.round(accuracy_E - baseline_E, 9)


def compared(names: tuple[str, str, str], difference_E: np.ndarray, most_one_way_E: np.ndarray,
             baseline_most_E: np.ndarray) -> Comparison:
    """Compute the comparison's figures.

    Args:
        names: the names of the row, the baseline and the column.
        most_one_way_E, baseline_most_E: see matchnet.evaluation.EpisodeResults.
    """
    mean, ci95 = mean_and_interval(difference_E)
    hubness, baseline_hubness = (round(100 * float((share_E > HUB_SHARE + 1e-9).mean()), 4)
                                 for share_E in (most_one_way_E, baseline_most_E))
    return Comparison(*names, len(difference_E), round(100 * mean, 4), round(100 * ci95, 4),
                      int((difference_E > 0).sum()), int((difference_E < 0).sum()), int((difference_E == 0).sum()),
                      hubness, baseline_hubness)


def write_comparison(path: Path, comparison: Comparison) -> None:
    write_checked(COMPARISON, asdict(comparison), path, MetricsError, _remedy(path))


def read_comparison(path: Path) -> Comparison:
    """Read what write_comparison wrote; MetricsError for anything else, with file and field."""
    return read_checked(COMPARISON, path, MetricsError, _remedy(path))


def _remedy(path: Path) -> str:
    return f"make it again with the stage compare@{path.stem} of {path.parent.name}"
