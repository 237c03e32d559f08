"""The rows of a table with our results beside the paper's, for HTML, Markdown and the terminal."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import paths
from pipeline.data.spec import TEXT_SOURCES
from pipeline.params import Params
from pipeline.resolve import title_of
from pipeline.results.metrics import Details, format_accuracy, read_details
from pipeline.results.staleness import stale_rows

POINTS_OFF = 2.0  # a difference from the paper above this asks for an explanation
DASH = "–"
STALE = "*"  # beside figures that were made with other parameters, data or code
STALE_SAYS = "made with other parameters, data or code than the files now say; the row's command makes them again"
COLUMN = re.compile(r"(?:all-|(fine-)?(\d+)w)(\d+)s(?:(\d+)q)?")  # see pipeline.params.sections.task_of


@dataclass(frozen=True)
class RowInfo:
    """What the parameters say of a row. `paper` is in percent, by column.

    name: the full name, such as `omniglot/short-fce`.
    of_sentences: classes are then words.
    command: what makes the row again.
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

    def ours(self, column: str) -> str:
        """"99.3 ± 0.1", or a dash; with a mark if it is stale."""
        result = self.details.columns.get(column) if self.details else None
        return format_accuracy(result.accuracy, result.ci95) + STALE * bool(self.stale) if result else DASH

    def paper(self, column: str) -> float | None:
        """The paper's figure."""
        return self.info.paper.get(column)

    def points_off(self, column: str) -> float | None:
        """Ours minus the paper's where they differ by more than POINTS_OFF, else None."""
        result, paper = self.details.columns.get(column) if self.details else None, self.paper(column)
        if result is None or paper is None:
            return None
        difference = result.accuracy - paper
        return difference if abs(difference) > POINTS_OFF + 1e-9 else None

    def remark(self) -> str:
        """The row's note; before it which columns are off and by how much, after it of how many classes they are."""
        return " ".join(filter(None, [self._off(), self._classes(), self._perplexity()]))

    def _classes(self) -> str:
        """Of how many classes each column is, where columns differ in it: those with too few samples are left out."""
        results = self.details.columns if self.details else {}
        counts = {column: results[column].num_classes for column in sorted(results, key=column_order)}
        if len(set(counts.values())) < 2:
            return ""
        what = "Words that have enough sentences" if self.info.of_sentences else "Classes that episodes are drawn from"
        return f"{what}: {', '.join(f'{count} in {name}' for name, count in counts.items())}."

    def _perplexity(self) -> str:
        perplexity = self.details.perplexity if self.details else None
        return f"Perplexity {perplexity:.1f}." if perplexity else ""

    def _off(self) -> str:
        off = {column: self.points_off(column) for column in sorted(self.columns, key=column_order)}
        listed = ", ".join(f"{column_title(name)} {signed(points)}" for name, points in off.items() if points)
        if not listed:
            return self.info.note
        return f"Off by more than {POINTS_OFF:g} points ({listed}): {self.info.note or 'no explanation yet.'}"

    def episodes(self) -> str:
        """The number of test episodes a column, or the range of it."""
        results = self.details.columns.values() if self.details else ()
        counts = sorted({result.episodes for result in results})
        return DASH.join(f"{count:,}" for count in (counts[:1] + counts[1:][-1:])) or DASH

    def seconds(self) -> tuple[str, str]:
        """Training and evaluation, in seconds."""
        spent = self.details.seconds if self.details else None
        return (_whole(spent.train), _whole(spent.evaluate)) if spent else (DASH, DASH)


@dataclass(frozen=True)
class Table:
    """Rows under one heading; `stand_in` where their data only stands in for the paper's."""

    name: str
    title: str
    about: str
    stand_in: bool
    rows: Sequence[Row]

    @property
    def has_results(self) -> bool:
        return any(row.details for row in self.rows)

    @property
    def columns(self) -> list[str]:
        """Every column of any row: fewer ways first, then fewer shots."""
        return sorted(set().union(*(row.columns for row in self.rows)), key=column_order)


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
    return Table(params.table, params.report.title, params.report.about, any(row.info.stand_in for row in rows), rows)


def stale_by_reason(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Reason -> the titles of the rows whose figures are stale for it."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.stale:
            found.setdefault(row.stale, []).append(row.info.title)
    return found


def terminal_table(table: Table) -> str:
    """Plain text: the accuracies of the rows that have run, the paper's figures in brackets."""
    members = [row for row in table.rows if row.details]
    if not members:
        return f"{table.title}: no results yet"
    lines = [table.title + (" (stand-in data)" if table.stand_in else ""), _aligned(members)]
    lines += [f"{STALE} {', '.join(rows)}: {reason}" for reason, rows in stale_by_reason(members).items()]
    return "\n".join(lines)


def _aligned(rows: Sequence[Row]) -> str:
    def cell(row: Row, column: str) -> str:
        paper = row.paper(column)
        return row.ours(column) + (f" [{paper:.1f}]" if paper is not None else "")

    columns = sorted(set().union(*(row.columns for row in rows)), key=column_order)
    lines = [["% (95% interval) [paper]", *map(column_title, columns)]]
    lines += [[row.info.title, *(cell(row, column) for column in columns)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
                     for line in lines)


def column_order(column: str) -> tuple[bool, list[int], str]:
    """Sorts 5w1s, 5w5s, 20w1s, all-1s; then those with their own queries, most first; fine-grained ones; others."""
    shape = COLUMN.fullmatch(column)
    if shape is None:
        return True, [], column
    ways, shots, queries = (int(number or 0) for number in shape.groups()[1:])
    return False, [shape[1] is not None, queries > 0, -queries, ways == 0, ways, shots], column


def column_title(column: str) -> str:
    """As the paper writes it: "5-way 1-shot"; "fine-5w1s4q" is "5-way 1-shot, 4 queries a way, fine-grained"."""
    shape = COLUMN.fullmatch(column)
    if shape is None:
        return column
    fine, ways, shots, queries = shape.groups()
    a_way = f", {queries} {'query' if queries == '1' else 'queries'} a way" if queries else ""
    return f"{ways or 'all'}-way {shots}-shot{a_way}{', fine-grained' if fine else ''}"


def signed(points: float) -> str:
    """"+3.9", "−12.8"."""
    return f"{points:+.1f}".replace("-", "−")


def _whole(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 10 or seconds == 0 else f"{seconds:.1f}"
