"""Progress of long work: a bar on a terminal, a plain line every ten seconds elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from tqdm import tqdm

from matchnet.messages import without_credentials

SECONDS_BETWEEN_LINES = 10.0
SHORTEST_RATED = 1.0  # seconds: the rate of shorter work says nothing
MIB = 2**20


def _to_stderr(line: str) -> None:
    tqdm.write(line, file=sys.stderr)  # above a bar, if there is one


_write: Callable[[str], None] = _to_stderr


def say(line: str) -> None:
    """Print a line about long work to where its progress goes, without the credentials of addresses."""
    _write(without_credentials(line))


@contextmanager
def lines_to(write: Callable[[str], None]) -> Iterator[None]:
    """Send this process's lines there while the block lasts: nobody sees a cluster worker's standard error."""
    global _write
    before, _write = _write, write
    try:
        yield
    finally:
        _write = before


class Progress:
    """`with Progress("sharding omniglot", total=32460, unit="samples") as progress: progress.advance(20)`.

    Args:
        what: the work, as its line begins.
        total: how many units there are; 0 if nobody knows yet.
        unit: `step` or `steps`; or "B" for bytes, which are shown in MiB.
        done: units of an earlier try. They count as done, and the rate leaves them out.
    """

    def __init__(self, what: str, total: int, unit: str, done: int = 0) -> None:
        self.what, self.total = without_credentials(what), total
        self.unit = unit if unit == "B" or unit.endswith("s") else f"{unit}s"
        self.done = self.done_before = done
        self.shown: int | None = None  # units done in the last line that was printed
        self.started = self.last_line = time.monotonic()
        self.bar = tqdm(total=total or None, desc=self.what, unit=unit if unit == "B" else f" {self.unit}",
                        unit_scale=True, initial=done) if _write is _to_stderr and sys.stderr.isatty() else None

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more units done; `note` (a loss, say) is shown beside the count.

        A count below 0 begins a new try, which does some units again; a count of 0 before the first unit says that
        the preparation is over. The rate is that of the units since.
        """
        self.done += count
        begins = count < 0 or self.done == self.done_before
        if begins:
            self.done_before, self.started = self.done, time.monotonic()
        if self.bar is not None:
            if begins:
                self._restart(self.bar)
            self.bar.set_postfix_str(without_credentials(note), refresh=False)
            self.bar.update(max(count, 0))
        elif time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self._print_line(note)

    def _restart(self, bar: tqdm) -> None:
        """Count this bar's time and units from here on: earlier units belong to an earlier try."""
        bar.reset(total=bar.total)
        bar.n = bar.last_print_n = bar.initial = self.done

    def _print_line(self, note: str) -> None:
        self.last_line, self.shown = time.monotonic(), self.done
        seconds, since = self.last_line - self.started, self.done - self.done_before
        rate = f", {self._amount(since / seconds)}/s" if since and seconds >= SHORTEST_RATED else ""
        say(f"{self.what}: {self._count()}{rate}{'; ' if note else ''}{note}")

    def _count(self) -> str:
        of_total = f"/{self._number(self.total)}" if self.total else ""
        return f"{self._number(self.done)}{of_total} {self._unit(self.total or self.done)}"

    def _amount(self, value: float) -> str:
        return f"{value / MIB:,.1f} MiB" if self.unit == "B" else f"{value:,.1f} {self.unit}"

    def _number(self, value: int) -> str:
        return f"{value / MIB:,.1f}" if self.unit == "B" else f"{value:,}"

    def _unit(self, count: int) -> str:
        return "MiB" if self.unit == "B" else self.unit.removesuffix("s") if count == 1 else self.unit

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.close()
        elif kind is None and self.shown != self.done:
            self._print_line("")
