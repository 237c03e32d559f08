"""A thread that works beside a block."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def thread_beside(work: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """While the block lasts, work(*arguments, stop) runs; `stop` is the event by which it is told to end."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(*arguments, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
