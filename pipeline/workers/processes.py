"""One function over many tasks, in processes that end with their parent, at Ctrl-C, or at the first error."""

import errno
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.synchronize import Event
from typing import Any, Protocol, TypeVar

END_SECONDS = 5  # a process that was asked to end has so long

Task = TypeVar("Task")
Result = TypeVar("Result")


class RunTasks(Protocol):
    """Runs tasks on workers, on this machine (`run_in_processes`) or on a cluster.

    Yields (task, work(started, task)) as they finish, in any order. `started` is the result of `start(*start_args)` in
    that worker. `start` is called once in each worker that gets a task. Its result is closed there if it can be, unless
    the process ends. `start` and `work` must be functions of modules, since they are sent to other processes.
    """

    def __call__(self, start: Callable, start_args: tuple, work: Callable[..., Result],
                 tasks: Sequence[Task]) -> Iterator[tuple[Task, Result]]: ...


_state: dict = {}  # state of this worker process: the result of `start`, and the event that asks to stop


class WorkerKilledError(ChildProcessError):
    """A worker process ended without a word of its own: out of memory, kill -9."""


def worker_killed(setting: str, num_processes: int) -> WorkerKilledError:
    """The error for a worker that was killed; `setting` is the parameter that says how many there are, or ""."""
    remedy = f"set {setting} below {num_processes}, or " if setting and num_processes > 1 else ""
    return WorkerKilledError(errno.ECHILD, "a worker process was killed (out of memory?) or could not start: "
                             f"{remedy}run it where more memory is free")


class WorkerPool:
    """Processes that have each called `start(*start_args)`, to open files, and work on what it returned.

    They are spawned, since forking a process that has threads (Ray, torch) can hang: the main script needs
    its `if __name__ == "__main__":`.

    Args:
        setting: the parameter that says how many processes there are, for messages.
    """

    def __init__(self, start: Callable, start_args: tuple, num_processes: int, setting: str = "") -> None:
        self._killed = partial(worker_killed, setting, num_processes)
        context = multiprocessing.get_context("spawn")
        self._stop = context.Event()
        initializer = partial(_start_worker, start, start_args, self._stop)
        self._pool = ProcessPoolExecutor(num_processes, context, initializer)

    def run(self, work: Callable[..., Result], tasks: Sequence[Task]) -> Iterator[tuple[Task, Result]]:
        """Begin all tasks at once; yields (task, work(started, task)) as they finish, in any order.

        Raises:
            WorkerKilledError: a worker process was killed (out of memory, kill -9).
            Exception: the first that `work` raises.
        """
        try:
            with started_without_interrupts():
                futures = {self._pool.submit(_work, work, task): task for task in tasks}
        except BrokenProcessPool as error:
            raise self._killed() from error
        return self._finished(futures)

    def _finished(self, futures: dict[Future, Task]) -> Iterator[tuple[Task, Any]]:
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise self._killed() from error

    def close(self) -> None:
        """Give up unfinished tasks and end the processes."""
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)


def run_in_processes(start: Callable, start_args: tuple, work: Callable[..., Result], tasks: Sequence[Task],
                     num_processes: int, setting: str = "") -> Iterator[tuple[Task, Result]]:
    """`WorkerPool.run` for one list of tasks; with one process, or one task, everything runs in this one."""
    if num_processes == 1 or len(tasks) <= 1:
        started = start(*start_args)
        try:
            yield from ((task, work(started, task)) for task in tasks)
        finally:
            close_if_possible(started)
        return
    pool = WorkerPool(start, start_args, min(num_processes, len(tasks)), setting)
    try:
        yield from pool.run(work, tasks)
    finally:
        pool.close()


def close_if_possible(started: object) -> None:
    close = getattr(started, "close", None)
    if close is not None:
        close()


def stop_if_asked() -> None:
    """End the task if the parent has given up; `work` calls this often."""
    if "stop" in _state and _state["stop"].is_set():
        raise InterruptedError("the run was given up")


@contextmanager
def started_without_interrupts() -> Iterator[None]:
    """Ctrl-C, which reaches all processes of a terminal, never reaches one that this thread starts in the block.

    So a process that only imports just then does not end with a traceback; its parent ends it.
    """
    resource_tracker.ensure_running()  # the first process would start it, and it then lets Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow_parent() -> None:
    """Make this process end when its parent does, even by kill -9, and leave Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _start_worker(start: Callable, start_args: tuple, stop: Event) -> None:
    follow_parent()
    _state.update(stop=stop, started=start(*start_args))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)  # a process may have an answer to it, which removes what it has made
        time.sleep(END_SECONDS)
        os._exit(1)


def _work(work: Callable[..., Result], task: object) -> Result:
    return work(_state["started"], task)
