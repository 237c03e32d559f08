"""The training loop. It knows nothing of Ray: the caller gives it a model, a task, and functions that take its results.

The task decides what is learnt: episodes (matchnet.episodic_training) or running text (matchnet.text_training). The
data of step t depend on t alone. Everything random depends on the seed and on the step or the episode; dropout also
depends on the rank and the number of workers. So a run that was killed and resumed from a checkpoint ends with the same
weights, if it has as many workers.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from matchnet.ahead import ahead
from matchnet.averaging import Average
from matchnet.messages import said, shown
from matchnet.methods.base import Method
from matchnet.random_words import random_words

MOMENTUM = 0.9  # SGD's momentum
NOISE_STREAM = 1  # the stream of random_words that seeds torch's own generator (dropout) at each step
SEEDS_AT_ONCE = 256  # steps
Values = dict[str, Any]
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """What every training run has. Lengths are in steps. The task's own spec says what a step is made of.

    Args:
        steps: length of the training.
        optimizer: `sgd` has Nesterov's momentum of 0.9, as is usual for classifiers of ImageNet.
        learning_rate: the largest rate, which the warm-up ends with.
        warmup_steps: the rate rises linearly over these first steps.
        schedule: the rate after the warm-up. `cosine` would reach 0 one step past the last.
        weight_decay: decoupled with AdamW, in the gradient with SGD. Matrices and filters decay, other weights do not.
        gradient_clip: largest norm of the gradient. Null does not clip.
        accumulate: into how many micro-batches a worker divides its share of a step, where the share does not fit into
            memory. It takes one after another and adds up their gradients. Batch normalisation sees one at a time.
        ema_decay: decay of an exponential moving average of the weights, which is then validated and kept; see
            matchnet.averaging. Null keeps the weights themselves.
        seed: decides the first weights, and everything random in the training.
        valid_every: steps between validations.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of the log.
    """

    steps: int
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    warmup_steps: int = 0
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = 0.0
    gradient_clip: float | None = None
    accumulate: int = 1
    ema_decay: float | None = None
    seed: int = 0
    valid_every: int = 1000
    checkpoint_every: int = 1000
    log_every: int = 100

    fused_on_cpu: ClassVar[bool] = False  # AdamW's fused step; on a GPU always

    def __post_init__(self) -> None:
        self.require_positive("steps", "accumulate", "valid_every", "checkpoint_every", "log_every")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be above 0")
        if not 0 <= self.warmup_steps < self.steps:
            raise ValueError(f"warmup_steps is {self.warmup_steps}; it must be at least 0 and below steps "
                             f"({self.steps})")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}; it must be at least 0 and below 1, or null")

    @property
    def most_shares(self) -> int:
        """The most shares, of workers and their micro-batches, that a step can be divided into."""
        raise NotImplementedError

    def is_due(self, done: int, every: int) -> bool:
        """Whether something that is done every so many steps is due after `done` steps; the last step is always."""
        return done % every == 0 or done == self.steps

    def sharing(self, shares: int) -> str:
        """Description of the shares of a step, for messages."""
        return f"{shares} workers" if self.accumulate == 1 else f"{shares} parts (workers times accumulate)"

    def require_positive(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


class Task(ABC):
    """Data for `train`: a batch for every step, and a validation.

    A step is divided into shares, one for each worker. With `spec.accumulate` micro-batches, each micro-batch is a
    share: number p of worker r is `rank` r * accumulate + p of a `world_size` of workers * accumulate.

    Attributes:
        units: what a step is made of, over all workers, by name: {"episodes": 2, "images": 18}. The log has their
            speeds.
        prefetch: how many shares a thread makes ahead while the model computes. Only for a task whose shares do not
            depend on earlier steps, and do not use torch's global generator.
    """

    spec: TrainingSpec
    units: Mapping[str, int]
    prefetch: int = 0

    @abstractmethod
    def check(self, world_size: int) -> None:
        """Raise ValueError if a step cannot be divided into so many shares."""

    @abstractmethod
    def batch(self, step: int, rank: int, world_size: int, device: torch.device | str) -> tuple[Any, float]:
        """One share of a step: the input of the method's `forward`, and the weight of its loss.

        Gradients are averaged over shares. If shares differ in size, the weight makes this the mean over the step.
        """

    def batches(self, steps: range, ranks: range, world_size: int,
                device: torch.device | str) -> Generator[tuple[Any, float]]:
        """Yield `batch` for each of these steps and, within a step, for each of these ranks, made when asked for."""
        for step in steps:
            for rank in ranks:
                yield self.batch(step, rank, world_size, device)

    @abstractmethod
    def validate(self, method: Method, device: torch.device | str) -> Values | None:
        """Figures named valid_*, or None if there is no validation data.

        Every rank runs all of it: it costs seconds, and no rank waits at a barrier for another.
        """

    def begin(self, method: Method, device: torch.device | str) -> None:
        """Get ready for the first batch, with the weights in place, fresh or resumed; by default nothing is needed."""
        return

    def after_step(self, result: Values) -> None:
        """Keep the results of this step's `forward` that the next step needs; by default none."""
        return

    def state_dict(self) -> Values:
        """The task's state between steps: tensors and plain values."""
        return {}

    def load_state_dict(self, state: Values, device: torch.device | str) -> None:
        """Restore the state that `state_dict` gave."""
        return


def ignore(*_: Any) -> None:
    """The callback of a caller who does not need the result."""


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """Functions that take the results of `train`. Every worker calls its own. By default they do nothing.

    Args:
        report: called at each validation with step and the task's figures.
        save: called at each checkpoint with {"step", "model", "optimizer", "task"}: tensors and plain values. With an
            average of the weights, "model" is the average, and "trained" has the weights themselves. Training goes on
            with these tensors: write or copy them before returning.
        log: called each `log_every` steps: the worker's mean loss and accuracy since the last call, and speeds.
        step_done: called after each update of the weights. Speeds leave out the time of this call (a profiler's).
    """

    report: Callable[[Values], None] = ignore
    save: Callable[[Values], None] = ignore
    log: Callable[[Values], None] = ignore
    step_done: Callable[[], None] = ignore


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One of the `world_size` processes that train together, and how it computes."""

    rank: int = 0
    world_size: int = 1
    device: torch.device | str = "cpu"
    precision: Precision = "fp32"


NO_CALLBACKS, ONE_WORKER = Callbacks(), Worker()


def train(model: Method | DistributedDataParallel, task: Task, callbacks: Callbacks = NO_CALLBACKS, *,
          worker: Worker = ONE_WORKER, state: Values | None = None) -> None:
    """Train `model` in place from step 0, or from the step of `state`.

    Args:
        model: on the worker's device already; wrapped in DistributedDataParallel if world_size > 1. Its forward returns
            a dict with the `loss`, and with other scalars whose means are logged. Other entries are for the task.
        state: the last state that `callbacks.save` was given.
    Raises:
        ValueError: workers that cannot share a step; data that cannot serve it.
        FloatingPointError: the loss is not finite; names the step. It is raised when logging and before saving, so no
            checkpoint holds weights that such a loss has changed.
    """
    spec, device = task.spec, worker.device
    parts, shares = spec.accumulate, worker.world_size * spec.accumulate
    ranks = range(worker.rank * parts, (worker.rank + 1) * parts)
    task.check(shares)
    method: Method = model.module if isinstance(model, DistributedDataParallel) else model
    optimizer = build_optimizer(method, spec, device)
    first_step = _take_up(method, optimizer, task, state, device)
    task.begin(method, device)
    average = None if spec.ema_decay is None else Average(method, spec.ema_decay, state and state["model"])
    kept = average.method if average else method
    model.train()
    meter, seeds = Meter(task.units, parts), noise_seeds(spec.seed, range(first_step, spec.steps), ranks, shares)
    with closing(ahead(task.batches(range(first_step, spec.steps), ranks, shares, device), task.prefetch)) as batches:
        for step in range(first_step, spec.steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(spec, step)
            optimizer.zero_grad()
            for share in ranks:
                with meter.waiting():
                    batch, weight = next(batches)
                seed_noise(next(seeds), device)
                with gradients_of_this_worker(model) if share != ranks[-1] else nullcontext():
                    with autocast(device, worker.precision):
                        result = model(batch)
                    (result["loss"] * (weight / parts)).backward()
                task.after_step(result)
                meter.count(result, weight / shares)
            if spec.gradient_clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), spec.gradient_clip)
            optimizer.step()
            if average:
                average.update(method, step)

            done = step + 1
            with meter.paused():
                callbacks.step_done()
            if spec.is_due(done, spec.log_every):
                callbacks.log({"step": done, "learning_rate": learning_rate(spec, step), **meter.read(done)})
            if spec.is_due(done, spec.valid_every):
                with meter.paused():
                    if (figures := task.validate(kept, device)) is not None:
                        callbacks.report({"step": done, **figures})
                    model.train()
            if spec.is_due(done, spec.checkpoint_every):
                meter.check(done)
                with meter.paused():
                    callbacks.save(_state(done, kept, method, optimizer, task))


def _state(done: int, kept: Method, method: Method, optimizer: torch.optim.Optimizer, task: Task) -> Values:
    """The state after `done` steps, from which `_take_up` goes on."""
    state = {"step": done, "model": kept.state_dict(), "optimizer": optimizer.state_dict(), "task": task.state_dict()}
    return state if kept is method else state | {"trained": method.state_dict()}


def _take_up(method: Method, optimizer: torch.optim.Optimizer, task: Task, state: Values | None,
             device: torch.device | str) -> int:
    """Put what `save` was given back in its place; return the first step.

    Raises:
        ValueError: `save` was given another state; names what is wrong with it.
    """
    if state is None:
        return 0
    try:
        method.load_state_dict(state["trained" if "trained" in state else "model"])
        optimizer.load_state_dict(state["optimizer"])
        task.load_state_dict(state["task"], device)
        return int(state["step"])
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"the checkpoint of step {shown(state.get('step'))} is no state of this training "
                         f"({type(error).__name__}: {said(error)}); delete it and run the same command again: it goes "
                         "on from the checkpoint before it") from error


def build_optimizer(method: Method, spec: TrainingSpec, device: torch.device | str) -> torch.optim.Optimizer:
    """Weights with but one axis longer than 1 (scales, biases, normalisation) are not decayed: they should not be 0."""
    weights = [weight for weight in method.parameters() if weight.requires_grad]
    groups = [{"params": [weight for weight in weights if weight.squeeze().ndim > 1],
               "weight_decay": spec.weight_decay},
              {"params": [weight for weight in weights if weight.squeeze().ndim <= 1], "weight_decay": 0.0}]
    fused = spec.fused_on_cpu or torch.device(device).type == "cuda"
    if spec.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=spec.learning_rate, momentum=MOMENTUM, nesterov=True, fused=fused)
    return torch.optim.AdamW(groups, lr=spec.learning_rate, fused=fused)


def learning_rate(spec: TrainingSpec, step: int) -> float:
    """The rate of step `step` (from 0): a function of the step alone, so resuming needs no scheduler's state."""
    if step < spec.warmup_steps:
        return spec.learning_rate * (step + 1) / spec.warmup_steps
    if spec.schedule == "constant":
        return spec.learning_rate
    progress = (step - spec.warmup_steps) / (spec.steps - spec.warmup_steps)
    return spec.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def noise_seeds(seed: int, steps: range, ranks: range, shares: int) -> Iterator[int]:
    """Yield the seed of torch's own generator for each share of each step, whose number is step * shares + rank.

    So dropout is a function of seed, step, rank and micro-batch, and of the number of ranks and micro-batches.
    """
    for first in range(steps.start, steps.stop, SEEDS_AT_ONCE):  # between two steps, a call of numpy is slow
        block = steps[first - steps.start:][:SEEDS_AT_ONCE]
        numbers = [step * shares + rank for step in block for rank in ranks]
        yield from map(int, random_words(seed, NOISE_STREAM, numbers, 1)[:, 0])


def seed_noise(seed: int, device: torch.device | str) -> None:
    """torch.manual_seed for the CPU and this device alone: asking all kinds of devices takes 0.3 ms of a step."""
    torch.default_generator.manual_seed(seed)
    if torch.device(device).type == "cuda":
        torch.cuda.manual_seed(seed)


def gradients_of_this_worker(model: Method | DistributedDataParallel) -> Any:
    """Add up gradients while the block lasts, without averaging them over workers yet."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


def autocast(device: torch.device | str, precision: str) -> Any:
    return torch.autocast(torch.device(device).type, torch.bfloat16) if precision == "bf16" else nullcontext()


class Meter:
    """Means and speeds between two lines of a worker's log; its share of a step has `parts` micro-batches.

    `images_per_second` is of all workers together, `worker_images_per_second` of this one. `data_wait_share` is the
    share of the time in which the worker only waited for a batch, or made it (with a `prefetch` of 0). On a GPU the
    host waits; the device may still compute meanwhile, and is then not delayed.
    """

    NAMES = frozenset({"loss", "accuracy"})  # scalars of a method's result that are logged

    def __init__(self, units: Mapping[str, int], parts: int) -> None:
        self.units, self.parts = units, parts
        self.restart()

    def restart(self) -> None:
        self.started, self.waited, self.counted, self.steps_worth = time.perf_counter(), 0.0, 0, 0.0
        self.sums: dict[str, Any] = {"loss": 0.0}

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time spent on the next batch; its share is logged."""
        began = time.perf_counter()
        yield
        self.waited += time.perf_counter() - began

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent on something else than training; no speed counts it."""
        began = time.perf_counter()
        yield
        self.started += time.perf_counter() - began

    def count(self, result: Values, share: float) -> None:
        """Count a finished micro-batch, which was this share of the whole step."""
        self.counted += 1
        self.steps_worth += share
        for name in self.NAMES & result.keys():
            self.sums[name] = self.sums.get(name, 0.0) + result[name].detach()  # on the device: no wait for a GPU

    def check(self, step: int) -> None:
        """Raise FloatingPointError if a loss since the last line was not finite."""
        loss = float(self.sums["loss"])
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at or shortly before step {step}; lower learning_rate, or "
                                     "set gradient_clip")

    def read(self, step: int) -> Values:
        """The log line about the time since the last one; raises FloatingPointError as check does."""
        self.check(step)
        seconds = time.perf_counter() - self.started
        speed = self.counted / self.parts / seconds
        line = {"steps_per_second": speed, "data_wait_share": self.waited / seconds}
        line |= {name: float(total) / self.counted for name, total in self.sums.items()}
        for unit, count in self.units.items():
            line[f"{unit}_per_second"] = speed * count
            line[f"worker_{unit}_per_second"] = self.steps_worth / seconds * count
        self.restart()
        return line
