"""The report as Markdown, to be read in the repository."""

import re
from collections.abc import Sequence

from pipeline.results.grids import STALE, STALE_SAYS, Cell, Column, Grid, Line
from pipeline.results.report_content import (
    COMPARED,
    DASH,
    INTRODUCTION,
    NOTHING,
    STAND_IN,
    ModelSection,
    Report,
)


def markdown_report(report: Report) -> str:
    """The whole text. Pictures and curves are in the HTML alone."""
    table, found = report.table, report.found
    parts = [f"# {text(table.title)}", *([text(table.about)] if table.about else []), found.opening, INTRODUCTION]
    parts += [STAND_IN] if table.stand_in else []
    parts += [report.lead, *map(_grid, found.grids)] if found.grids else [NOTHING]
    parts += ["\n".join(f"{number}. {text(note)}" for number, note in enumerate(found.notes, 1))] if found.notes else []
    parts += _stale(report)
    if found.not_run:
        parts.append(f"Not run: {text(', '.join(found.not_run))}. To run the first: {code(found.how_to_run)}.")
    parts += ["## Row against row", COMPARED] if report.comparisons else []
    parts += [f"### {text(one.heading)}\n\n{text(one.facts)}" for one in report.comparisons]
    parts += ["## Models", *(_model(model) for model in report.models)] if report.models else []
    parts += ["## How the figures were made", *_made(report)] if found.grids else []
    return "\n\n".join(parts) + "\n"


def text(words: str) -> str:
    """The user's words on one line, escaped so that Markdown does not read them as markup."""
    escaped = re.sub(r"([\\`*_\[\]|#~])", r"\\\1", " ".join(words.split()))
    escaped = re.sub(r"^(\d*)([-+=.)])(?=\s|$)", r"\1\\\2", escaped)  # where a paragraph begins, it would be a list
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code(words: str) -> str:
    """Words on one line that Markdown shows as code, whatever is in them, also in a table's cell."""
    plain = " ".join(words.split()).replace("|", "¦")
    fence = "`" * (1 + max(map(len, re.findall("`+", plain)), default=0))
    padding = " " if "`" in (plain[:1], plain[-1:]) else ""
    return f"{fence}{padding}{plain}{padding}{fence}" if plain else DASH


def _grid(grid: Grid) -> str:
    head = ["row"]
    for column in grid.columns:
        head += [text(column.title), *(["paper", "difference"] if column.has_paper else [])]
    return f"## {text(grid.title)}\n\n" + _cells(head, [_line(line, grid.columns) for line in grid.lines])


def _line(line: Line, columns: Sequence[Column]) -> list[str]:
    notes = "".join(f"<sup>{number}</sup>" for number in line.notes)
    cells = [text(line.title) + (f" {notes}" if notes else "")]
    for cell, column in zip(line.cells, columns, strict=True):
        cells += [text(cell.ours), *([cell.paper, _difference(cell)] if column.has_paper else [])]
    return cells


def _difference(cell: Cell) -> str:
    return f"**{cell.difference}**" if cell.is_off else cell.difference


def _stale(report: Report) -> list[str]:
    stale = [f"- **{text(', '.join(rows))}**: {text(reason)}" for reason, rows in report.stale().items()]
    return [f"{text(STALE)} {STALE_SAYS}:", "\n".join(stale)] if stale else []


def _made(report: Report) -> list[str]:
    rows = [[text(one.title), text(one.method), one.episodes, one.train_seconds, one.evaluate_seconds,
             code(one.command)] for one in report.made()]
    datasets = [[text(name), text(part), classes, code(digest[:12])]
                for name, part, classes, digest in report.datasets()]
    machines = [[text(it.cpu), str(it.cores), text(it.gpu or DASH), text(it.torch), str(count)]
                for it, count in report.machines().items()]
    return [_cells(["row", "method", "episodes", "training, s", "test, s", "command"], rows),
            _cells(["dataset", "tested on", "classes", "manifest SHA-256"], datasets),
            _cells(["processor", "cores", "GPU", "torch", "rows"], machines)]


def _cells(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _model(model: ModelSection) -> str:
    parts = [f"### {text(model.name)}", text(model.facts)]
    if model.speed.workers:
        parts.append(f"Training: {text(model.speed.facts)}")
    if len(model.speed.workers) > 1:
        head, rows = model.speed.table()
        parts.append(_cells([*map(text, head)], [[*map(text, row)] for row in rows]))
    if model.parameters:
        parameters = ", ".join(code(f"{name}: {value}") for name, value in model.parameters.items())
        parts.append(f"<details><summary>Parameters</summary>\n\n{parameters}\n\n</details>")
    return "\n\n".join(parts)
