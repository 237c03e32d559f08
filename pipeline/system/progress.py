"""Progress of long work: a bar on a terminal, a plain line every ten seconds elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10.0


def _to_stderr(line: str) -> None:
    tqdm.write(line, file=sys.stderr)  # above a bar, if there is one


_write: Callable[[str], None] = _to_stderr


def say(line: str) -> None:
    """A line about long work, where those of its progress go."""
    _write(line)


@contextmanager
def lines_to(write: Callable[[str], None]) -> Iterator[None]:
    """Within the block, lines of this process go there: nobody sees the standard error of a worker on a cluster."""
    global _write
    before, _write = _write, write
    try:
        yield
    finally:
        _write = before


class Progress:
    """`with Progress("sharding omniglot", total=32460, unit="img") as progress: progress.advance(20)`."""

    def __init__(self, what: str, total: int, unit: str, done: int = 0) -> None:
        """Args: done: units of an earlier try, which no time of this one was spent on."""
        self.what, self.total, self.unit = what, total, unit
        self.done = self.done_before = done
        self.started = self.last_line = time.monotonic()
        self.bar = tqdm(total=total, desc=what, unit=unit, unit_scale=True, initial=done) if sys.stderr.isatty() \
            else None

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more units done; `note` (a loss, say) is shown beside the count."""
        self.done += count
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(count)
        elif time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self._print_line(note)

    def _print_line(self, note: str) -> None:
        self.last_line = time.monotonic()
        rate = (self.done - self.done_before) / max(self.last_line - self.started, 1e-9)
        _write(f"{self.what}: {self.done:,}/{self.total:,} {self.unit}, {rate:,.1f} {self.unit}/s {note}".rstrip())

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.close()
        elif kind is None:
            self._print_line("")
