"""The work of each worker: load the data, build the model, take up the last checkpoint, train."""

import socket
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed

from matchnet.files import FULL_DISK
from matchnet.messages import without_credentials
from matchnet.methods import build_method
from matchnet.training import Callbacks, Worker, train
from matchnet.weights import load_weights
from pipeline.data.load.samples import Room
from pipeline.data.load.stream import killed_loaders_named
from pipeline.data.nodes.cache import CacheParams, local_shards
from pipeline.data.nodes.upload import upload_file
from pipeline.data.shards.folder import ShardFolder
from pipeline.params.sections import ModelParams
from pipeline.system.machine import available_memory, memory_to_share
from pipeline.system.progress import lines_to
from pipeline.system.storage import Location, location_of
from pipeline.system.usage import peak_memory
from pipeline.training.checkpoint import checkpoint_folder, newest_state, save_state
from pipeline.training.computing import choose_precision, compiler_named, ready_to_train
from pipeline.training.data import load_task, training_classes
from pipeline.training.errors import full_disk
from pipeline.training.initial import take_weights
from pipeline.training.log_copies import bring_logs, log_folder
from pipeline.training.profiling import profiler
from pipeline.training.run_log import RunLog, next_attempt


@dataclass(frozen=True)
class WorkerSettings:
    """Settings sent to every worker. Paths are addresses or absolute: a worker of Ray has a working directory of Ray's.

    init: file of the model that gives the first weights.
    groups: groups of the shards that are read.
    run: folder of the run's checkpoints.
    """

    model: ModelParams
    init: str | None
    shards: str
    cache: CacheParams | None
    groups: tuple[str, ...]
    run: str
    threads: int
    precision: Literal["auto", "fp32", "bf16"]
    compile: bool
    memory_gib: float | None = None  # as in ClusterParams
    num_loaders: int | None = None
    trace: str | None = None  # path or address where rank 0 writes a profile of some steps


class TrainingWorkers(ABC):
    """Workers that are ready to train, with `threads` each."""

    threads: int

    @abstractmethod
    def fit(self, settings: WorkerSettings, max_failures: int) -> None:
        """Let the workers train until the last checkpoint is written; start lost ones again, `max_failures` times.

        Raises:
            TrainingError: another try is of no use; the text is what `train_on_worker` returned.
            WorkersLostError: workers were lost too often.
        """


def train_on_worker(settings: WorkerSettings, worker: Worker, node: str = "", workers_of_node: int = 1) -> str | None:
    """Train until the last checkpoint is written.

    Returns None. If the only worker of a run had to end early and another try cannot help, returns the reason.

    Args:
        node: a name of the node, for the log.
    """
    torch.set_num_threads(settings.threads)
    worker = replace(worker, precision=choose_precision(settings.precision, torch.device(worker.device)))
    alone = worker.world_size == 1
    run = location_of(settings.run)
    with _own_log_folder(run) as log_place:
        with lines_to(lambda line: None):  # the driver has said which checkpoint is damaged
            state = newest_state(run)
        attempt = next_attempt(log_place)
        first_step = state["step"] if state else 0
        if not alone:
            _agree_on(first_step, worker)  # so no worker writes a checkpoint or a log before all have looked
        log = RunLog(log_place, first_step, attempt, worker.rank, workers=worker.world_size, host=socket.gethostname(),
                     node=node)

        def show(line: str) -> None:
            log.write({"step": first_step, "doing": line})
            if log_folder(run) is None or worker.rank > 0:  # nobody follows this log
                print(line, file=sys.stderr, flush=True)

        try:
            with (lines_to(show),
                  local_shards(settings.shards, settings.cache, settings.groups) as folder):
                _train(settings, ShardFolder(folder), state, worker, room_of(settings, workers_of_node), log)
        except (ValueError, FloatingPointError) as error:
            if not alone:  # returning would leave the other workers waiting for this one
                raise
            log.write({"step": first_step, "error": str(error)})
            return without_credentials(str(error))
        except OSError as error:
            if not alone or error.errno not in FULL_DISK:
                raise
            with suppress(OSError):  # the log is on the same disk
                log.write({"step": first_step, "error": str(error)})
            return full_disk(error)
    return None


def _agree_on(first_step: int, worker: Worker) -> None:
    """Check that all workers go on from the same step: storage may show its nodes different files for a while.

    Raises:
        RuntimeError: workers would go on from different steps; Ray then starts all of them again.
    """
    if torch.device(worker.device).type == "cuda":
        torch.cuda.set_device(worker.device)  # nccl gathers there
    first_steps: list[Any] = [None] * worker.world_size
    torch.distributed.all_gather_object(first_steps, first_step)
    if len(set(first_steps)) > 1:
        raise RuntimeError(f"the workers found checkpoints of different steps: {first_steps}")


@contextmanager
def _own_log_folder(run: Location) -> Iterator[Path]:
    """The run's folder; for a run at an address, a folder on this node's disk with the copied logs."""
    folder = log_folder(run)
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory() as own_folder:
        bring_logs(run, Path(own_folder))
        yield Path(own_folder)


def _train(settings: WorkerSettings, shards: ShardFolder, state: dict[str, Any] | None, worker: Worker, room: Room,
           log: RunLog) -> None:
    spec, device, run = settings.model.training, torch.device(worker.device), location_of(settings.run)
    assert spec is not None
    training = load_task(settings.model, shards, room, device)
    classes = training_classes(settings.model, shards)
    torch.manual_seed(spec.seed)
    method = build_method(settings.model.method, classes.sample_shape, len(classes.names)).to(device)
    if state is None:
        with init_file(settings.init) as init:
            take_weights(method, settings.model, init, shards)
    else:
        load_weights(method, state["model"], str(run))
    steps_left = spec.steps - (state["step"] if state else 0)
    with (profiler(settings.trace if worker.rank == 0 else None, steps_left, device) as step_done, compiler_named(),
          killed_loaders_named(settings.num_loaders or settings.threads)):
        train(ready_to_train(method, settings.compile, device, worker.world_size), training,
              _callbacks(log, worker.rank, device, run, step_done), state=state, worker=worker)


@contextmanager
def init_file(address: str | None) -> Iterator[Path | None]:
    """The file as a path; a copy of it if it lies at an address."""
    if address is None or "://" not in address:
        yield Path(address) if address else None
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "init.pt")
        copy.write_bytes(location_of(address).read())
        yield copy


def room_of(settings: WorkerSettings, workers_of_node: int) -> Room:
    """Room that this worker may use for samples: its share of this machine, unless the parameters set it."""
    memory = available_memory() / 4 / workers_of_node if settings.memory_gib is None else settings.memory_gib * 2**30
    return Room(int(memory), settings.num_loaders or settings.threads, memory_to_share() // 2 // workers_of_node)


def _callbacks(log: RunLog, rank: int, device: torch.device, run: Location,
               step_done: Callable[[], None]) -> Callbacks:
    """The functions that `train` calls; rank 0 logs and saves what is the same in all ranks."""

    def write(values: dict[str, Any]) -> None:
        log.write({**values, **peak_memory(device)})

    def report(values: dict[str, Any]) -> None:
        if rank == 0:
            log.write(values)

    def save(state: dict[str, Any]) -> None:
        log.sync()
        if log_folder(run) is None:
            upload_file(log.path, run / checkpoint_folder(state["step"]) / log.path.name)
        if rank == 0:
            save_state(run, state)

    return Callbacks(report=report, save=save, log=write, step_done=step_done)
