"""Training by one worker on this machine, in a process of its own that is started again if it is killed.

Ray does the same for any number of workers. It needs 10 seconds more to start and to end (benchmarks/overhead.py), and
nothing that it offers beside that is of use to one worker.
"""

import multiprocessing
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType

import torch

from matchnet.garbage import usual_collections
from matchnet.messages import without_credentials
from matchnet.training import Worker
from pipeline.cluster.placement import Node, choose_placement, say_gpus_used
from pipeline.params import ComputeParams
from pipeline.system.environment import variables
from pipeline.system.machine import cores
from pipeline.system.memory import KEEP_FREED_MEMORY
from pipeline.system.progress import say
from pipeline.training.errors import TrainingError, WorkersLostError
from pipeline.training.worker import TrainingWorkers, WorkerSettings, train_on_worker
from pipeline.workers.processes import END_SECONDS, WorkerKilledError, follow_parent, started_without_interrupts

SECONDS_BETWEEN_LOOKS = 0.2


class LocalWorker(TrainingWorkers):
    """One worker on this machine.

    The main script needs its `if __name__ == "__main__":`, since the worker's process imports it.

    Raises:
        ResourcesError: the machine is too small for `compute`.
    """

    def __init__(self, compute: ComputeParams) -> None:
        nodes = [Node(cores(), torch.cuda.device_count())]
        placement = choose_placement(compute, nodes)
        say_gpus_used(compute, placement, nodes)
        self.threads = placement.threads
        self.device = torch.device("cuda", 0) if placement.use_gpu else torch.device("cpu")

    def fit(self, settings: WorkerSettings, max_failures: int) -> None:
        for tries_left in range(max_failures, -1, -1):
            try:
                return _train_in_a_process(settings, self.device)
            except WorkersLostError as lost:
                if not tries_left:
                    raise
                say(f"training: {str(lost).splitlines()[-1]}; it is started again")


def _train_in_a_process(settings: WorkerSettings, device: torch.device) -> None:
    """One try; raises as `TrainingWorkers.fit`. However it ends, the process ends before."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, settings, device))
    try:
        with variables(KEEP_FREED_MEMORY), started_without_interrupts():
            process.start()
        sender.close()
        reason, lost = _outcome(receiver, process)
    finally:
        if process.pid is not None:
            process.terminate()  # of no effect on one that has ended
            process.join(END_SECONDS)
            process.kill()
            process.join()
        receiver.close()
    if lost is not None:
        raise WorkersLostError(lost)
    if reason is not None:
        raise TrainingError(reason)


def _outcome(receiver: Connection, process: BaseProcess) -> tuple[str | None, str | None]:
    """What `_work` sends, once the process has ended by itself."""
    # the end of the process is looked for, too: one that it has started may live on with its end of the connection
    while process.is_alive() and not receiver.poll(SECONDS_BETWEEN_LOOKS):
        pass
    try:
        if receiver.poll():
            outcome = receiver.recv()
            process.join(END_SECONDS)
            return outcome
    except (EOFError, OSError):  # it was killed before, or while, it sent
        process.join()
    return None, _how_it_ended(process)


def _how_it_ended(process: BaseProcess) -> str:
    code = process.exitcode or 0
    if code == -signal.SIGKILL:
        return "the process that trains was killed (out of memory?): run it where more memory is free"
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"the process that trains was killed by {name}"
    return f"the process that trains ended with status {code}"


def _work(sender: Connection, settings: WorkerSettings, device: torch.device) -> None:
    """Train; send (why it ended early, how it was lost), both None at the last step."""
    usual_collections()
    signal.signal(signal.SIGTERM, _end_in_order)
    follow_parent()
    reason = lost = None
    try:
        reason = train_on_worker(settings, Worker(device=device))
    except WorkerKilledError as error:  # a process that decodes: the text says what to do
        lost = str(error.strerror)
    except Exception:
        lost = traceback.format_exc()
    sender.send((reason, lost if lost is None else without_credentials(lost)))


def _end_in_order(number: int, frame: FrameType | None) -> None:
    """Temporary files and processes that decode are removed on the way out."""
    sys.exit(128 + number)
