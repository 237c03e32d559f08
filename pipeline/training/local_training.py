"""Training by one worker on this machine, in a process of its own that is started again if it is killed.

Ray does the same for any number of workers. It needs 10 seconds more to start and to end (benchmarks/overhead.py), and
nothing that it offers beside that is of use to one worker.
"""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from unittest.mock import patch

import torch

from matchnet.messages import without_credentials
from matchnet.training import Worker
from pipeline.cluster.placement import Node, choose_placement, say_gpus_used
from pipeline.params import ComputeParams
from pipeline.system.machine import cores
from pipeline.system.memory import KEEP_FREED_MEMORY
from pipeline.system.progress import say
from pipeline.system.storage import Location
from pipeline.training.errors import TrainingError, WorkersLostError
from pipeline.training.worker import TrainingWorkers, WorkerSettings, train_on_worker
from pipeline.workers.processes import WorkerKilledError, follow_parent

SECONDS_BETWEEN_LOOKS = 0.2
END_SECONDS = 10  # a worker that has sent its last word has so long to end


class LocalWorker(TrainingWorkers):
    """One worker on this machine.

    Raises:
        ResourcesError: the machine is too small for `compute`.
    """

    def __init__(self, compute: ComputeParams) -> None:
        nodes = [Node(cores(), torch.cuda.device_count())]
        placement = choose_placement(compute, nodes)
        say_gpus_used(compute, placement, nodes)
        self.threads = placement.threads
        self.device = torch.device("cuda", 0) if placement.use_gpu else torch.device("cpu")

    def fit(self, settings: WorkerSettings, run: Location, max_failures: int) -> None:
        for tries_left in range(max_failures, -1, -1):
            try:
                return _try(settings, self.device)
            except WorkersLostError as lost:
                if not tries_left:
                    raise
                say(f"training: {str(lost).splitlines()[-1]}; it goes on from the last checkpoint")


def _try(settings: WorkerSettings, device: torch.device) -> None:
    """Train in a process of its own; raises as `TrainingWorkers.fit`."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, settings, device))
    with patch.dict(os.environ, KEEP_FREED_MEMORY), _no_interrupts():
        process.start()
    try:
        sender.close()
        reason, lost = _outcome(receiver, process)
        process.join(END_SECONDS)
    finally:
        process.kill()
        process.join()
        receiver.close()
    if lost:
        raise WorkersLostError(lost)
    if reason:
        raise TrainingError(reason)


def _outcome(receiver: Connection, process: BaseProcess) -> tuple[str | None, str | None]:
    """What `_work` sends. A process of the worker's own may outlive it, and then keeps the connection open."""
    while process.is_alive() and not receiver.poll(SECONDS_BETWEEN_LOOKS):
        pass
    try:
        if receiver.poll():
            return receiver.recv()
    except (EOFError, OSError):  # it was killed before, or while, it sent
        process.join()
    return None, _ended(process)


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back for the length of the block. A process that is started there never gets it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(sender: Connection, settings: WorkerSettings, device: torch.device) -> None:
    """Send (what the worker returned, how it was lost); one of both is None."""
    follow_parent()
    reason = lost = None
    try:
        reason = train_on_worker(settings, Worker(device=device))
    except WorkerKilledError as error:  # a process that decodes: the text says what to do
        lost = str(error.strerror)
    except Exception:
        lost = traceback.format_exc()
    sender.send((reason, lost and without_credentials(lost)))


def _ended(process: BaseProcess) -> str:
    code = process.exitcode
    how = f"was killed by {signal.Signals(-code).name} (out of memory?)" if code and code < 0 else \
        f"ended with status {code}"
    return f"the process that trains {how}"
