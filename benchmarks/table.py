"""Timing and printing for benchmarks."""

import time
from collections.abc import Callable, Sequence


def calls_per_second(call: Callable[[], object], seconds: float = 2.0, rounds: int = 3) -> float:
    """The best of `rounds` rounds of calling for `seconds`, after a warm-up call: the least disturbed one."""
    call()
    return max(_one_round(call, seconds) for _ in range(rounds))


def _one_round(call: Callable[[], object], seconds: float) -> float:
    started, calls = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        call()
        calls += 1
    return calls / (time.perf_counter() - started)


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print columns as wide as they need to be, numbers with separators."""
    cells = [[f"{cell:,.2f}" if isinstance(cell, float) else str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        print("  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                        for column, (cell, width) in enumerate(zip(row, widths, strict=True))))
