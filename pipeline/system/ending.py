"""Early end of a stage: by Ctrl-C, by SIGTERM, or because the `dvc repro` that started it has ended.

All three become KeyboardInterrupt, so that every stage has one way to end: children are stopped, locks are given up. A
shell lets its background jobs ignore Ctrl-C; the other two end them all the same.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import psutil

from pipeline.system.threads import thread_beside

STAGE_OF_DVC = "DVC_STAGE"  # DVC puts it into the environment of each command
SECONDS_BETWEEN_LOOKS = 0.5


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Make SIGTERM and the end of DVC act like Ctrl-C within the block; the KeyboardInterrupt says which it was.

    Enter it in the main thread.
    """
    reasons: list[str] = []

    def on_sigterm(number: int, frame: FrameType | None) -> None:
        reasons.append("ended by SIGTERM")
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.raise_signal(signal.SIGINT)  # Ray has its own handler of SIGINT, which ends a training

    before = signal.signal(signal.SIGTERM, on_sigterm)
    try:
        with thread_beside(_interrupt_with, dvc_process(), reasons):
            yield
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(*reasons[:1]) from stop
    finally:
        signal.signal(signal.SIGTERM, before)


def dvc_process() -> psutil.Process | None:
    """The process of DVC that runs this one as a stage, perhaps through a shell; None where this is no stage of DVC."""
    if STAGE_OF_DVC not in os.environ:
        return None
    try:
        return next((process for process in psutil.Process().parents() if STAGE_OF_DVC not in process.environ()), None)
    except psutil.Error:  # the process has ended already, or runs as another user
        return None


def _interrupt_with(process: psutil.Process | None, reasons: list[str], stop: threading.Event) -> None:
    while process is not None and not stop.wait(SECONDS_BETWEEN_LOOKS):
        if not _runs(process):
            reasons.append("`dvc repro` has ended")
            ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGTERM if ignored else signal.SIGINT)
            return


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
