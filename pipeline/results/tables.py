"""The rows of the paper's tables with our results beside them, for HTML, Markdown and the terminal."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.results.metrics import Metrics, format_accuracy, read_metrics

POINTS_OFF = 2.0  # a difference from the paper above this asks for an explanation
DASH = "–"
OTHER = "Other"
COLUMN = re.compile(r"(fine-)?(\d+)w(\d+)s(?:(\d+)q)?")  # as EpisodeSpec.column names it, with the queries a way


@dataclass(frozen=True)
class RowInfo:
    """What params.yaml says of an experiment: one row of a table. `paper` is in percent, by column.

    suite: one that has the experiment; `dvc repro` knows only the stages of the suites that are selected.
    of_sentences: classes are then words.
    """

    experiment: str
    title: str
    table: str
    note: str = ""
    paper: Mapping[str, float | None] = field(default_factory=dict)
    stand_in: bool = False
    suite: str = ""
    of_sentences: bool = False


@dataclass(frozen=True)
class Row:
    """An experiment and what it measured, if it has run."""

    info: RowInfo
    metrics: Metrics | None

    @property
    def columns(self) -> set[str]:
        """The columns that either we or the paper have a figure for."""
        return set(self.info.paper) | set(self.metrics.columns if self.metrics else ())

    def ours(self, column: str) -> str:
        """"99.3 ± 0.1", or a dash."""
        result = self.metrics.columns.get(column) if self.metrics else None
        return format_accuracy(result.accuracy, result.ci95) if result else DASH

    def paper(self, column: str) -> float | None:
        """The paper's figure, as params.yaml has it, else as it was when the experiment ran."""
        result = self.metrics.columns.get(column) if self.metrics else None
        given = self.info.paper.get(column)
        return given if given is not None or result is None else result.paper

    def points_off(self, column: str) -> float | None:
        """Ours minus the paper's where they differ by more than POINTS_OFF, else None."""
        result, paper = self.metrics.columns.get(column) if self.metrics else None, self.paper(column)
        if result is None or paper is None:
            return None
        difference = result.accuracy - paper
        return difference if abs(difference) > POINTS_OFF + 1e-9 else None

    def remark(self) -> str:
        """The row's note; before it which columns are off and by how much, after it of how many classes they are."""
        return " ".join(filter(None, [self._off(), self._classes(), self._perplexity()]))

    def _classes(self) -> str:
        """Of how many classes each column is, where columns differ in it: those with too few samples are left out."""
        results = self.metrics.columns if self.metrics else {}
        counts = {column: results[column].num_classes for column in sorted(results, key=column_order)}
        if len(set(counts.values())) < 2:
            return ""
        what = "Words that have enough sentences" if self.info.of_sentences else "Classes that episodes are drawn from"
        return f"{what}: {', '.join(f'{count} in {name}' for name, count in counts.items())}."

    def _perplexity(self) -> str:
        perplexity = self.metrics.perplexity if self.metrics else None
        return f"Perplexity {perplexity:.1f}." if perplexity else ""

    def _off(self) -> str:
        off = {column: self.points_off(column) for column in sorted(self.columns, key=column_order)}
        listed = ", ".join(f"{column_title(name)} {signed(points)}" for name, points in off.items() if points)
        if not listed:
            return self.info.note
        return f"Off by more than {POINTS_OFF:g} points ({listed}): {self.info.note or 'no explanation yet.'}"

    def episodes(self) -> str:
        """The number of test episodes a column, or the range of it."""
        results = self.metrics.columns.values() if self.metrics else ()
        counts = sorted({result.episodes for result in results})
        return DASH.join(f"{count:,}" for count in (counts[:1] + counts[1:][-1:])) or DASH

    @property
    def command(self) -> str:
        """What makes the row again; empty where params.yaml does not have it."""
        if self.info.table == OTHER:
            return ""
        select = f"python -m stages.select {self.info.suite} && " if self.info.suite else ""
        return f"{select}dvc repro evaluate@{self.info.experiment}"

    def seconds(self) -> tuple[str, str]:
        """Training and evaluation, in seconds."""
        spent = self.metrics.seconds if self.metrics else None
        return (_whole(spent.train), _whole(spent.evaluate)) if spent else (DASH, DASH)


@dataclass(frozen=True)
class Table:
    """Rows under one heading; `stand_in` where their data only stands in for the paper's."""

    title: str
    stand_in: bool
    rows: Sequence[Row]

    @property
    def columns(self) -> list[str]:
        """Every column of any row: fewer ways first, then fewer shots."""
        return sorted(set().union(*(row.columns for row in self.rows)), key=column_order)


def collect_tables(results_dir: Path, rows: Sequence[RowInfo]) -> list[Table]:
    """The tables in the order of `rows`; results that no row speaks of last of all, under "Other".

    Raises:
        MetricsError: a malformed metrics.json; names file and field.
    """
    found = {path.parent.name: path for path in sorted(Path(results_dir).glob("*/metrics.json"))}
    unknown = [name for name in found if name not in {info.experiment for info in rows}]
    infos = [*rows, *(RowInfo(name, title=name, table=OTHER) for name in unknown)]
    grouped: dict[tuple[str, bool], list[Row]] = {}
    for info in infos:
        metrics = read_metrics(found[info.experiment]) if info.experiment in found else None
        grouped.setdefault((info.table, info.stand_in), []).append(Row(info, metrics))
    return [Table(title, stand_in, members) for (title, stand_in), members in grouped.items()]


def terminal_table(results_dir: Path, rows: Sequence[RowInfo]) -> str:
    """Plain text: the accuracies of those of `rows` that have run, the paper's figures in brackets."""
    shown = {info.experiment for info in rows}
    parts = []
    for table in collect_tables(results_dir, rows):
        members = [row for row in table.rows if row.metrics and row.info.experiment in shown]
        if members:
            heading = table.title + (" (stand-in data)" if table.stand_in else "")
            parts.append(f"{heading}\n{_aligned(Table(table.title, table.stand_in, members))}")
    return "\n\n".join(parts) or "no results yet: run `dvc repro`"


def _aligned(table: Table) -> str:
    def cell(row: Row, column: str) -> str:
        paper = row.paper(column)
        return row.ours(column) + (f" [{paper:.1f}]" if paper is not None else "")

    lines = [["accuracy, % (95% interval) [paper]", *map(column_title, table.columns)]]
    lines += [[row.info.title, *(cell(row, column) for column in table.columns)] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
                     for line in lines)


def column_order(column: str) -> tuple[bool, list[int], str]:
    """Sorts 5w1s, 5w5s, 20w1s; then those that name their queries, most first; then fine-grained ones; others last."""
    shape = COLUMN.fullmatch(column)
    if shape is None:
        return True, [], column
    ways, shots, queries = (int(number or 0) for number in shape.groups()[1:])
    return False, [shape[1] is not None, queries > 0, -queries, ways, shots], column


def column_title(column: str) -> str:
    """As the paper writes it: "5-way 1-shot"; "fine-5w1s4q" is "5-way 1-shot, 4 queries a way, fine-grained"."""
    shape = COLUMN.fullmatch(column)
    if shape is None:
        return column
    fine, ways, shots, queries = shape.groups()
    a_way = f", {queries} {'query' if queries == '1' else 'queries'} a way" if queries else ""
    return f"{ways}-way {shots}-shot{a_way}{', fine-grained' if fine else ''}"


def signed(points: float) -> str:
    """"+3.9", "−12.8"."""
    return f"{points:+.1f}".replace("-", "−")


def _whole(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 10 or seconds == 0 else f"{seconds:.1f}"
