"""The rows of a table: their parameters, their results, and the paper's figures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import paths
from pipeline.data.spec import TEXT_SOURCES
from pipeline.params import Params
from pipeline.resolve import title_of
from pipeline.results.columns import COLUMN, column_order
from pipeline.results.metrics import ColumnResult, Details, read_details
from pipeline.results.staleness import stale_comparisons, stale_rows

POINTS_OFF = 2.0  # a difference from the paper above this asks for an explanation
UNEXPLAINED = f"More than {POINTS_OFF:g} points off the paper's figure. No explanation yet."


@dataclass(frozen=True)
class RowInfo:
    """A row's entries in the parameters. `paper` is in percent, by column.

    name: the full name, such as `omniglot/short-fce`.
    of_sentences: samples are sentences, and classes are words.
    command: the command that makes the row again.
    """

    name: str
    title: str
    note: str = ""
    paper: Mapping[str, float] = field(default_factory=dict)
    stand_in: bool = False
    of_sentences: bool = False
    command: str = ""


@dataclass(frozen=True)
class Row:
    """A row and what was measured, if it has run. stale: why its figures are not those of the files as they are now."""

    info: RowInfo
    details: Details | None
    stale: str = ""

    @property
    def columns(self) -> set[str]:
        """The columns that either we or the paper have a figure for."""
        return set(self.info.paper) | set(self.details.columns if self.details else ())

    def difference(self, column: str) -> float | None:
        """Ours minus the paper's, in points of percent; None if either is missing."""
        result, paper = self.details.columns.get(column) if self.details else None, self.info.paper.get(column)
        return None if result is None or paper is None else result.accuracy - paper

    def is_off(self, column: str) -> bool:
        """Whether ours and the paper's differ by more than POINTS_OFF."""
        return abs(self.difference(column) or 0.0) > POINTS_OFF + 1e-9

    def notes(self) -> list[str]:
        """Notes that a reader must know about the row."""
        off = UNEXPLAINED if any(map(self.is_off, self.columns)) else ""
        return [note for note in (self.info.note or off, self._classes(), self._same_classes(),
                                  self._perplexity()) if note]

    def _classes(self) -> str:
        """Note on the number of classes of each column, if columns differ: too rare classes are left out."""
        results = self.details.columns if self.details else {}
        counts = {column: results[column].num_classes for column in sorted(results, key=column_order)}
        if len(set(counts.values())) < 2:
            return ""
        what = "Words that have enough sentences" if self.info.of_sentences else "Classes that episodes are drawn from"
        return f"{what}: {', '.join(f'{count} in {name}' for name, count in counts.items())}."

    def _same_classes(self) -> str:
        """Note on columns that have as many ways as there are classes."""
        results = self.details.columns if self.details else {}
        same = [column for column in sorted(results, key=column_order) if _has_all_classes(column, results[column])]
        if not same:
            return ""
        all_episodes = "All test episodes" if len(same) == len(results) else f"In {', '.join(same)}, all test episodes"
        count = results[same[0]].num_classes
        return (f"{all_episodes} have the same {count} classes; the interval does not tell how the accuracy differs "
                "for other classes.")

    def _perplexity(self) -> str:
        perplexity = self.details.perplexity if self.details else None
        return f"Perplexity {perplexity:.1f}." if perplexity else ""


@dataclass(frozen=True)
class Table:
    """Rows under one heading; `stand_in` where their data only stands in for the paper's.

    stale_comparisons: full name of a comparison -> why its figures are not those of the files as they are now.
    """

    name: str
    title: str
    about: str
    stand_in: bool
    rows: Sequence[Row]
    stale_comparisons: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_results(self) -> bool:
        return any(row.details for row in self.rows)


def collect_table(params: Params) -> Table:
    """The table with what its rows measured, as far as they have run.

    Raises:
        MetricsError: a malformed details.json; names file and field.
    """
    stale = stale_rows(params)
    rows = []
    for name, row in params.rows.items():
        short, dataset = paths.short_name(name), params.datasets[row.dataset]
        where = "" if params.folder == Path() else f"{params.folder / 'dvc.yaml'}:"
        info = RowInfo(name=name, title=title_of(params, name), note=params.report.notes.get(short, ""),
                       paper=params.report.paper_of(short, row.columns), stand_in=dataset.stands_in,
                       of_sentences=dataset.source in TEXT_SOURCES, command=f"dvc repro {where}evaluate@{short}")
        path = paths.details_file(name)
        rows.append(Row(info, read_details(path) if path.exists() else None, stale.get(name, "")))
    return Table(params.table, params.report.title, params.report.about, any(row.info.stand_in for row in rows), rows,
                 stale_comparisons(params))


def _has_all_classes(column: str, result: ColumnResult) -> bool:
    shape = COLUMN.fullmatch(column)
    ways = (shape[2] or result.num_classes) if shape else None  # `all-5s` has no number of ways
    return ways is not None and int(ways) == result.num_classes


def by_reason(stale: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Reason -> the titles that are stale for it, of pairs of a title and a reason; those without a reason are left
    out."""
    found: dict[str, list[str]] = {}
    for title, reason in stale:
        if reason:
            found.setdefault(reason, []).append(title)
    return found
