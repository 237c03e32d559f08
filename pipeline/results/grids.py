"""The figures of a table as they are shown, formatted once: the terminal, Markdown and HTML take them from here."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.results.columns import column_order, column_title
from pipeline.results.metrics import format_accuracy
from pipeline.results.tables import Row, Table, by_reason

DASH = "–"
STALE = "*"  # beside figures that were made with other parameters, data or code
STALE_SAYS = "These figures were made with other parameters, data or code than the files have now"


@dataclass(frozen=True)
class Cell:
    """One figure: ours "99.3 ± 0.1*", the paper's "98.1", the difference "+1.2"; a dash or empty where there is none.

    is_off: whether the two differ so much that a note must say why.
    """

    ours: str = DASH
    paper: str = ""
    difference: str = ""
    is_off: bool = False


@dataclass(frozen=True)
class Column:
    """has_paper: whether any row of the grid has the paper's figure here."""

    name: str
    title: str
    has_paper: bool


@dataclass(frozen=True)
class Line:
    """A row that has run. notes: the numbers of its footnotes, from 1."""

    row: Row
    cells: Sequence[Cell]
    notes: Sequence[int]

    @property
    def title(self) -> str:
        return self.row.info.title


@dataclass(frozen=True)
class Grid:
    """Rows that share columns. in_paper: whether the paper has these rows."""

    title: str
    columns: Sequence[Column]
    lines: Sequence[Line]
    in_paper: bool


@dataclass(frozen=True)
class Grids:
    """All rows of a table that have run, each in one grid, and their footnotes.

    not_run: the titles of the other rows; how_to_run: the command of the first of them.
    """

    grids: Sequence[Grid]
    notes: Sequence[str]
    not_run: Sequence[str]
    how_to_run: str

    @property
    def num_lines(self) -> int:
        return sum(len(grid.lines) for grid in self.grids)

    @property
    def opening(self) -> str:
        """Sentence that says how many rows of the table have figures."""
        return f"{self.num_lines} of {self.num_lines + len(self.not_run)} rows have figures."


def collect_grids(table: Table) -> Grids:
    """The rows that have run: first those that the paper has, then the others; rows that share no column apart."""
    ran, absent = [row for row in table.rows if row.details], [row for row in table.rows if not row.details]
    groups = [(members, in_paper) for in_paper in (True, False) for group in _sharing_columns(ran)
              if (members := [row for row in group if bool(row.info.paper) == in_paper])]
    notes = list(dict.fromkeys(note for members, _ in groups for row in members for note in row.notes()))
    has_paper = any(in_paper for _, in_paper in groups)
    return Grids([_grid(members, in_paper, has_paper, notes) for members, in_paper in groups], notes,
                 [row.info.title for row in absent], absent[0].info.command if absent else "")


def stale_lines(table: Table) -> dict[str, list[str]]:
    """Reason -> the titles of the rows whose figures are stale for it."""
    return by_reason((row.info.title, row.stale) for row in table.rows if row.details)


def signed(points: float) -> str:
    """"+3.9", "−12.8"."""
    return f"{points:+.1f}".replace("-", "−")


def _sharing_columns(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows in groups: rows with a column in common are in one group, directly or by way of other rows."""
    groups: list[set[str]] = []
    for row in rows:
        touching = [group for group in groups if group & row.columns]
        groups = [group for group in groups if not group & row.columns] + [row.columns.union(*touching)]
    found = [[row for row in rows if row.columns & group] for group in groups]
    return sorted(found, key=lambda members: rows.index(members[0]))


def _grid(rows: Sequence[Row], in_paper: bool, has_paper: bool, notes: Sequence[str]) -> Grid:
    names = sorted(set().union(*(row.columns for row in rows)), key=column_order)
    columns = [Column(name, column_title(name), any(name in row.info.paper for row in rows)) for name in names]
    lines = [Line(row, [_cell(row, name) for name in names], [notes.index(note) + 1 for note in row.notes()])
             for row in rows]
    datasets = dict.fromkeys(row.details.dataset.name for row in rows if row.details)
    tested = f"ested on {', '.join(datasets)}"
    return Grid(f"Not in the paper, t{tested}" if has_paper and not in_paper else f"T{tested}", columns, lines,
                in_paper)


def _cell(row: Row, column: str) -> Cell:
    result, paper, points = row.details and row.details.columns.get(column), row.info.paper.get(column), \
        row.difference(column)
    return Cell(format_accuracy(result.accuracy, result.ci95) + STALE * bool(row.stale) if result else DASH,
                "" if paper is None else f"{paper:.1f}", "" if points is None else signed(points), row.is_off(column))
