"""An interrupted stage says so in a whole line below its progress bar."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import ROOT

STAGE = """
import time
from pipeline.system.progress import Progress
from stages.command import plain_errors
with plain_errors(), Progress("training small", 10, "steps") as progress:
    progress.advance(3)
    progress.bar.refresh()
    time.sleep(60)
"""
LINES, COLUMNS = 24, 80


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """(the end that a person sees, the end that a program writes to) of a terminal."""
    person, program = pty.openpty()
    fcntl.ioctl(program, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    yield person, program
    os.close(person)


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "ended by SIGTERM")])
def test_the_reason_stands_in_a_line_of_its_own(terminal: tuple[int, int], tmp_path: Path, number: signal.Signals,
                                                reason: str) -> None:
    person, program = terminal
    with subprocess.Popen([sys.executable, "-c", STAGE], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
                          stdin=program, stdout=program, stderr=program) as stage:
        os.close(program)  # so that reading fails when the stage has ended
        seen = seen_until(person, "3.00/10.0")
        stage.send_signal(number)
        seen += seen_until(person, "goes on from here\r\n")
    assert stage.returncode == 130
    before, last, nothing = seen.rsplit("\r\n", 2)
    assert (last, nothing) == (f"{reason}; the same command goes on from here", "")
    assert "3.00/10.0" in before.rsplit("\r", 1)[-1]


def seen_until(terminal: int, words: str) -> str:
    seen = b""
    while words.encode() not in seen:
        seen += os.read(terminal, 4096)
    return seen.decode()
