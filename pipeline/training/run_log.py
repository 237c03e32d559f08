"""The log of a training run: one JSON object a line in its folder, and following it from another process.

Lines are keyed by (step, attempt): after a worker was lost, the steps since the last checkpoint run a second time.
"""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.progress import Progress

LOG_FILE = "log.jsonl"
SECONDS_BETWEEN_LOOKS = 0.5


class RunLog:
    """Written by rank 0. Each attempt begins with a line that has its first step and its process."""

    def __init__(self, folder: Path, first_step: int) -> None:
        self.path = folder / LOG_FILE
        self.attempt = 1 + max((line["attempt"] for line in read_log(folder)), default=0)
        self.started = time.monotonic()
        self.write({"step": first_step, "process": os.getpid()})

    def write(self, values: dict[str, Any]) -> None:
        """Append one line; `seconds` counts from the start of this attempt."""
        seconds = round(time.monotonic() - self.started, 3)
        line = json.dumps({**values, "attempt": self.attempt, "seconds": seconds})
        with open(self.path, "a+b") as file:
            torn = file.tell() > 0 and not _ends_with_newline(file)
            file.write((b"\n" if torn else b"") + line.encode() + b"\n")


def read_log(folder: Path) -> list[dict[str, Any]]:
    """All whole lines, in the order of writing; a line that a kill cut short is left out."""
    path = folder / LOG_FILE
    return [] if not path.exists() else list(_whole_lines(path.read_text(encoding="utf-8").splitlines()))


def seconds_spent(lines: list[dict[str, Any]]) -> float:
    """Over all attempts."""
    last = {line["attempt"]: line["seconds"] for line in lines}
    return round(sum(last.values()), 1)


@contextmanager
def progress_of(folder: Path, what: str, steps: int) -> Iterator[None]:
    """Show the progress of the run in `folder` while the block lasts: steps, steps/s, loss, accuracy."""
    stop = threading.Event()
    thread = threading.Thread(target=_follow, args=(folder, what, steps, len(read_log(folder)), stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _follow(folder: Path, what: str, steps: int, seen: int, stop: threading.Event) -> None:
    with Progress(what, total=steps, unit="step") as progress:
        while True:
            last_look = stop.wait(SECONDS_BETWEEN_LOOKS)
            lines = read_log(folder)
            for line in lines[seen:]:
                progress.advance(line["step"] - progress.done, _note(line))
            seen = len(lines)
            if last_look:
                return


def _note(line: dict[str, Any]) -> str:
    if "valid_accuracy" in line:
        return f"validation {line['valid_accuracy']:.2%} ± {line['valid_ci95']:.2%}"
    if "valid_perplexity" in line:
        return f"validation perplexity {line['valid_perplexity']:.1f}"
    if "error" in line:
        return f"stopped: {line['error']}"
    if "loss" in line:
        accuracy = f", accuracy {line['accuracy']:.2%}" if "accuracy" in line else ""
        return f"loss {line['loss']:.4f}{accuracy}, {line['steps_per_second']:.1f} steps/s"
    return f"attempt {line['attempt']} begins at step {line['step']}"


def _whole_lines(lines: list[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def _ends_with_newline(file: Any) -> bool:
    file.seek(-1, 2)
    return file.read(1) == b"\n"
