"""Columns of a table: their order, and their titles as the paper writes them."""

import re

COLUMN = re.compile(r"(?:all-|(fine-)?(\d+)w)(\d+)s(?:(\d+)q)?")  # see pipeline.params.sections.task_of


def column_order(column: str) -> tuple[bool, list[int], str]:
    """Sorts 5w1s, 5w5s, 20w1s, all-1s; then those with their own queries, most first; fine-grained ones; others."""
    shape = COLUMN.fullmatch(column)
    if shape is None:
        return True, [], column
    ways, shots, queries = (int(number or 0) for number in shape.groups()[1:])
    return False, [shape[1] is not None, queries > 0, -queries, ways == 0, ways, shots], column


def column_title(column: str) -> str:
    """Title as in the paper: "5-way 1-shot"; "fine-5w1s4q" is "5-way 1-shot, 4 queries a way, fine-grained"."""
    shape = COLUMN.fullmatch(column)
    if shape is None:
        return column
    fine, ways, shots, queries = shape.groups()
    a_way = f", {queries} {'query' if queries == '1' else 'queries'} a way" if queries else ""
    return f"{ways or 'all'}-way {shots}-shot{a_way}{', fine-grained' if fine else ''}"
