"""A table for the terminal: the accuracies of the rows that have run, the paper's figures in brackets."""

import unicodedata

from pipeline.results.grids import STALE, Cell, Grid, collect_grids, stale_lines
from pipeline.results.tables import Table


def terminal_table(table: Table) -> str:
    """Plain text, without control codes: terminals obey them, and a title may hold some."""
    text = "\n".join(_lines(table))
    return "".join(letter if letter == "\n" or unicodedata.category(letter)[0] != "C" else "�" for letter in text)


def _lines(table: Table) -> list[str]:
    found = collect_grids(table)
    if not found.grids:
        return [f"{table.title}: no results yet"]
    lines = [table.title + (" (on other data than the paper's)" if table.stand_in else "")]
    for grid in found.grids:
        lines += [f"\n{grid.title}"] * (len(found.grids) > 1) + [_aligned(grid)]
    lines += [f"{STALE} {', '.join(rows)}: {reason}" for reason, rows in stale_lines(table).items()]
    lines += [f"not run: {', '.join(found.not_run)}"] if found.not_run else []
    return lines


def _aligned(grid: Grid) -> str:
    paper = " [paper]" if any(column.has_paper for column in grid.columns) else ""
    lines = [[f"% (95% interval){paper}", *(column.title for column in grid.columns)]]
    lines += [[line.title, *map(_cell, line.cells)] for line in grid.lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
                     for line in lines)


def _cell(cell: Cell) -> str:
    return cell.ours + (f" [{cell.paper}]" if cell.paper else "")
