"""The logs of a training run: one JSON object a line in its folder, and following them from another process.

Lines are keyed by (step, attempt): after a worker was lost, the steps since the last checkpoint run a second time. Rank
0 writes log.jsonl, rank 1 log-rank001.jsonl, and so on: no file has two writers, and no worker waits for another.
"""

import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from matchnet.files import FULL_DISK, sync
from matchnet.messages import without_credentials
from pipeline.system.progress import Progress, say
from pipeline.system.threads import thread_beside

LOG_FILE = "log.jsonl"
SECONDS_BETWEEN_LOOKS = 0.5
TEXTS = ("host", "node", "doing", "error")  # fields of a line that are texts; all others are numbers


class RunLog:
    """The log of one worker.

    Each attempt begins with a line that has its first step, its process and the time (Unix's, in seconds); `about` adds
    fields about the worker.

    Raises, as its methods do:
        OSError: the folder cannot be written to; names the file, and says what to do on a full disk.
    """

    def __init__(self, folder: Path, first_step: int, attempt: int | None = None, rank: int = 0,
                 **about: str | int) -> None:
        self.path = folder / log_file(rank)
        self.attempt = next_attempt(folder) if attempt is None else attempt
        self.started = time.monotonic()
        self.write({"step": first_step, "process": os.getpid(), "time": round(time.time(), 3), **about})

    def write(self, values: dict[str, Any]) -> None:
        """Append one line, without credentials in its texts; `seconds` counts from the start of this attempt."""
        seconds = round(time.monotonic() - self.started, 3)
        shown = {name: without_credentials(value) if isinstance(value, str) else value
                 for name, value in values.items()}
        line = json.dumps({**shown, "attempt": self.attempt, "seconds": seconds})
        with _full_disk_named(self.path), open(self.path, "a+b") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a kill has torn the last line
                    line = f"\n{line}"
            file.write(line.encode() + b"\n")

    def sync(self) -> None:
        """Make all lines so far survive a power cut. Call it before writing a checkpoint of these steps."""
        with _full_disk_named(self.path):
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())
            sync(self.path.parent)


@contextmanager
def _full_disk_named(path: Path) -> Iterator[None]:
    """Raises the error of a full disk with the log's file and what to do: a log mostly meets the full disk first."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        raise OSError(error.errno, f"{path}: {os.strerror(error.errno)} while it was written; free some space on the "
                      f"disk of {path.parent}, and the same command goes on from the last checkpoint") from error


def log_file(rank: int) -> str:
    return f"log-rank{rank:03d}.jsonl" if rank else LOG_FILE


def next_attempt(folder: Path) -> int:
    """The number of an attempt that begins now. All ranks of it must ask before rank 0 begins its log."""
    return 1 + max((line["attempt"] for line in read_log(folder)), default=0)


def read_log(folder: Path, rank: int = 0) -> list[dict[str, Any]]:
    """All whole lines of a worker, in the order of writing; one cut short by a kill, or damaged, is left out."""
    path = folder / log_file(rank)
    return [] if not path.exists() else list(_whole_lines(path.read_bytes()))


def read_worker_logs(folder: Path) -> dict[int, list[dict[str, Any]]]:
    """Rank -> its lines, for each rank that has written any."""
    found = (re.fullmatch(r"log-rank([0-9]+)\.jsonl", path.name) for path in folder.glob("log-rank*.jsonl"))
    ranks = sorted({int(name[1]) for name in found if name})  # a copy that somebody made has another name
    return {rank: lines for rank in (0, *ranks) if (lines := read_log(folder, rank))}


def seconds_spent(lines: list[dict[str, Any]]) -> float:
    """Seconds spent over all attempts."""
    last = {line["attempt"]: line["seconds"] for line in lines}
    return round(sum(last.values()), 1)


def progress_of(folder: Path, what: str, steps: int, first_step: int = 0) -> AbstractContextManager[None]:
    """Show the progress of the run in `folder` while the block lasts: steps, steps/s, loss, accuracy.

    first_step: the step that an earlier try has reached; the rate is that of the steps since.
    """
    return thread_beside(_follow, NewLines(folder / LOG_FILE), what, steps, first_step)


class NewLines:
    """The lines that a log has gained since the last look: a long log is not read from its beginning each time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = path.stat().st_size if path.exists() else 0

    def read(self) -> list[dict[str, Any]]:
        """New whole lines. A log that has become shorter is another copy, and is read from the beginning."""
        if not self.path.exists():
            return []
        with open(self.path, "rb") as file:
            if file.seek(0, os.SEEK_END) < self.offset:
                self.offset = 0
            file.seek(self.offset)
            gained = file.read()
        gained = gained[:gained.rfind(b"\n") + 1]
        self.offset += len(gained)
        return list(_whole_lines(gained))


def _follow(log: NewLines, what: str, steps: int, first_step: int, stop: threading.Event) -> None:
    with Progress(what, total=steps, unit="steps", done=first_step) as progress:
        while True:
            last_look = stop.wait(SECONDS_BETWEEN_LOOKS)
            for line in log.read():
                if "doing" in line:
                    say(f"{what}: {without_credentials(line['doing'])}")
                else:
                    progress.advance(line["step"] - progress.done, _note(line))
            if last_look:
                return


def _note(line: dict[str, Any]) -> str:
    if "valid_accuracy" in line:
        return f"validation {line['valid_accuracy']:.2%} ± {line['valid_ci95']:.2%}"
    if "valid_perplexity" in line:
        return f"validation perplexity {line['valid_perplexity']:.1f}"
    if "error" in line:
        return f"stopped: {without_credentials(line['error'])}"
    if "loss" in line:
        accuracy = f", accuracy {line['accuracy']:.2%}" if "accuracy" in line else ""
        return f"loss {line['loss']:.4f}{accuracy}"
    return f"goes on from step {line['step']:,}" if line["step"] else ""


def _whole_lines(content: bytes) -> Iterator[dict[str, Any]]:
    for line in content.splitlines():
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if _is_line(values):
            yield values


def _is_line(values: object) -> bool:
    """Whether RunLog may have written the values: texts in the fields TEXTS, finite numbers or None in the others."""
    if not isinstance(values, dict) or not all(type(values.get(name)) is int and 0 <= values[name] < 2**53
                                               for name in ("step", "attempt")):
        return False
    return "seconds" in values and all(
        isinstance(value, str) if name in TEXTS else value is None or (
            type(value) in (int, float) and abs(value) <= sys.float_info.max) for name, value in values.items())
