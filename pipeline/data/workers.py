"""One function over many jobs, in processes that end with their parent, at Ctrl-C, or at the first error."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.synchronize import Event
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

_state: dict = {}  # of this worker process: what `start` returned, and the event that asks to stop


def run_jobs(start: Callable, start_args: tuple, work: Callable[..., Result], jobs: Sequence[Job],
             num_processes: int) -> Iterator[tuple[Job, Result]]:
    """Yield (job, work(start(*start_args), job)) as they finish, in any order.

    `start` runs once in each process (open files there). With one process everything runs in this one.

    Raises:
        RuntimeError: a worker process was killed (out of memory, kill -9).
        Exception: the first that `work` raises; other jobs are given up.
    """
    if num_processes == 1 or len(jobs) <= 1:
        state = start(*start_args)
        yield from ((job, work(state, job)) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")  # forking a process that has threads (Ray, torch) can hang
    stop = context.Event()
    num_processes = min(num_processes, len(jobs))
    initializer = partial(_start_worker, start, start_args, stop)
    pool = ProcessPoolExecutor(num_processes, context, initializer)
    try:
        futures = {pool.submit(_work, work, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise RuntimeError("a worker process was killed (out of memory?); what is finished is kept: "
                           "run it again, with fewer processes if memory is short") from error
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def stop_if_asked() -> None:
    """To be called often by `work`: ends the job if the parent has given up."""
    if "stop" in _state and _state["stop"].is_set():
        raise InterruptedError("the run was given up")


def _start_worker(start: Callable, start_args: tuple, stop: Event) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _state.update(stop=stop, state=start(*start_args))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(work: Callable[..., Result], job: object) -> Result:
    return work(_state["state"], job)
