"""The training loop. It knows nothing of Ray: it is given a model, data, a spec, and what to call with its results.

Step t trains on episodes t*B .. t*B + B-1, whatever the number of workers; everything random in it is a function of the
seed and the episode number. So a run that was killed and resumed from a checkpoint ends with the same weights.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from matchnet.augmentation import AffineSpec, distort
from matchnet.episodes import ClassRows, EpisodeSpec, sample_episodes
from matchnet.evaluation import evaluate, to_input
from matchnet.methods.base import Batch, Method
from matchnet.statistics import mean_and_interval
from matchnet.store import Store

VALID_SEED_OFFSET = 1_000_003  # validation episodes come from another stream than training's
Values = dict[str, Any]


@dataclass(frozen=True)
class TrainingSpec:
    """One training run. Lengths are in steps; a step is `episodes_per_step` episodes over all workers together."""

    episode: EpisodeSpec
    steps: int
    episodes_per_step: int = 1
    learning_rate: float = 1e-3
    warmup_steps: int = 0  # the rate rises linearly, and is learning_rate at the last of them
    schedule: Literal["cosine", "constant"] = "cosine"  # after the warm-up; cosine would be 0 one step past the last
    weight_decay: float = 0.0  # decoupled, as AdamW has it; of matrices and filters alone
    gradient_clip: float | None = None  # largest norm of the gradient
    affine: AffineSpec | None = None
    seed: int = 0
    valid_episode: EpisodeSpec = field(default_factory=lambda: EpisodeSpec(5, 1, 5))
    valid_episodes: int = 1000
    valid_every: int = 1000
    checkpoint_every: int = 1000
    log_every: int = 50

    def __post_init__(self) -> None:
        for name in ("steps", "episodes_per_step", "valid_every", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be above 0")
        if not 0 <= self.warmup_steps < self.steps:
            raise ValueError(f"warmup_steps is {self.warmup_steps}; it must be at least 0 and below steps "
                             f"({self.steps})")
        if self.valid_episodes < 2:
            raise ValueError(f"valid_episodes is {self.valid_episodes}; an interval takes at least 2")


@dataclass(frozen=True)
class TrainingData:
    """Training and validation classes may be of one store or of two (rotated classes train, upright ones validate)."""

    store: Store
    classes: ClassRows
    valid_store: Store | None = None
    valid_classes: ClassRows | None = None


def train(model: Method | DistributedDataParallel, data: TrainingData, spec: TrainingSpec, *,
          device: torch.device | str = "cpu", precision: Literal["fp32", "bf16"] = "fp32",
          rank: int = 0, world_size: int = 1, state: Values | None = None,
          report: Callable[[Values], None], save: Callable[[Values], None], log: Callable[[Values], None]) -> None:
    """Train `model` in place from step 0, or from the step of `state`.

    Args:
        model: on `device` already; wrapped in DistributedDataParallel if world_size > 1.
        state: what `save` was last given.
        report: called by every rank at each validation with step, valid_accuracy, valid_ci95, valid_episodes.
        save: called by every rank at each checkpoint with {"step", "model", "optimizer"}: tensors and plain values.
            The tensors are those that training goes on with: write or copy them before returning.
        log: called by rank 0 every `log_every` steps with loss, accuracy (means since the last), speeds and shares.
    Raises:
        ValueError: more workers than episodes a step; classes that cannot serve the episode.
        FloatingPointError: the loss is not finite; names the step. Seen when logging and before saving: no
            checkpoint holds weights that such a loss has changed.
    """
    if world_size > spec.episodes_per_step:
        raise ValueError(f"{world_size} workers share episodes_per_step = {spec.episodes_per_step}: some would have "
                         f"nothing to do; at least one episode a worker, or fewer workers")
    method: Method = model.module if isinstance(model, DistributedDataParallel) else model
    optimizer = build_optimizer(method, spec, device)
    first_step = 0
    if state is not None:
        method.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first_step = state["step"]

    meter = Meter(spec)
    for step in range(first_step, spec.steps):
        model.train()
        numbers = range(step * spec.episodes_per_step + rank, (step + 1) * spec.episodes_per_step, world_size)
        with meter.waiting():
            batch = make_batch(data.store, data.classes, spec, numbers, device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(spec, step)
        with autocast(device, precision):
            result = model(batch)
        # DDP averages gradients over workers; this weight makes that the mean over episodes when shares differ by one.
        weight = len(numbers) * world_size / spec.episodes_per_step
        optimizer.zero_grad()
        (result["loss"] * weight).backward()
        if spec.gradient_clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), spec.gradient_clip)
        optimizer.step()
        meter.count(result)

        done = step + 1
        if rank == 0 and (done % spec.log_every == 0 or done == spec.steps):
            log({"step": done, "learning_rate": learning_rate(spec, step), **meter.read(done)})
        if data.valid_classes is not None and (done % spec.valid_every == 0 or done == spec.steps):
            with meter.paused():
                report({"step": done, **validate(method, data, spec, device)})
        if done % spec.checkpoint_every == 0 or done == spec.steps:
            meter.check(done)
            with meter.paused():
                save({"step": done, "model": method.state_dict(), "optimizer": optimizer.state_dict()})


def build_optimizer(method: Method, spec: TrainingSpec, device: torch.device | str) -> torch.optim.Optimizer:
    """AdamW. Scales, biases and normalisation are not decayed: zero is not where they should be."""
    weights = [weight for weight in method.parameters() if weight.requires_grad]
    groups = [{"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": spec.weight_decay},
              {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=spec.learning_rate, fused=torch.device(device).type == "cuda")


def learning_rate(spec: TrainingSpec, step: int) -> float:
    """The rate of step `step` (from 0): a function of the step alone, so resuming needs no scheduler's state."""
    if step < spec.warmup_steps:
        return spec.learning_rate * (step + 1) / spec.warmup_steps
    if spec.schedule == "constant":
        return spec.learning_rate
    progress = (step - spec.warmup_steps) / (spec.steps - spec.warmup_steps)
    return spec.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def make_batch(store: Store, classes: ClassRows, spec: TrainingSpec, numbers: Sequence[int],
               device: torch.device | str) -> Batch:
    """Episodes `numbers` of the training stream with their samples, distorted if the spec says so."""
    episodes = sample_episodes(spec.seed, numbers, spec.episode, classes)
    num_support = episodes.support_ES.shape[1]
    sample_ET = to_input(store.gather(torch.cat([episodes.support_ES, episodes.query_EQ], dim=1)).to(device))
    if spec.affine is not None:
        sample_ET = distort(sample_ET, spec.affine, spec.seed, numbers)
    return Batch(sample_ET[:, :num_support], episodes.support_way_ES.to(device), sample_ET[:, num_support:],
                 episodes.query_way_EQ.to(device), episodes.class_EN.to(device))


def validate(method: Method, data: TrainingData, spec: TrainingSpec, device: torch.device | str) -> Values:
    """Every rank runs all of it: it costs seconds, and no rank waits at a barrier for another."""
    assert data.valid_classes is not None
    accuracy_E = evaluate(method, data.valid_store or data.store, data.valid_classes, spec.valid_episode,
                      spec.valid_episodes, seed=spec.seed + VALID_SEED_OFFSET, device=device)
    mean, ci95 = mean_and_interval(accuracy_E)
    return {"valid_accuracy": mean, "valid_ci95": ci95, "valid_episodes": spec.valid_episodes}


def autocast(device: torch.device | str, precision: str) -> Any:
    return torch.autocast(torch.device(device).type, torch.bfloat16) if precision == "bf16" else nullcontext()


class Meter:
    """Means and speeds between two lines of the log."""

    def __init__(self, spec: TrainingSpec) -> None:
        self.episodes_per_step = spec.episodes_per_step
        self.images_per_step = spec.episodes_per_step * spec.episode.num_ways * spec.episode.samples_per_way
        self.restart()

    def restart(self) -> None:
        self.started, self.waited, self.steps = time.perf_counter(), 0.0, 0
        self.loss: Any = 0.0
        self.accuracy: Any = 0.0

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

    def count(self, result: Values) -> None:
        self.steps += 1
        self.loss = self.loss + result["loss"].detach()  # stays on the device: no wait for the GPU at each step
        self.accuracy = self.accuracy + result["accuracy"].detach()

    def check(self, step: int) -> None:
        """Raise FloatingPointError if a loss since the last line was not finite."""
        if not math.isfinite(float(self.loss)):
            raise FloatingPointError(f"the loss is {float(self.loss)} at or shortly before step {step}; lower "
                                     f"learning_rate, or set gradient_clip")

    def read(self, step: int) -> Values:
        """The line since the last one; raises FloatingPointError as check does."""
        self.check(step)
        seconds = time.perf_counter() - self.started
        speed = self.steps / seconds
        line = {"loss": float(self.loss) / self.steps, "accuracy": float(self.accuracy) / self.steps,
                "steps_per_second": speed, "episodes_per_second": speed * self.episodes_per_step,
                "images_per_second": speed * self.images_per_step, "data_wait_share": self.waited / seconds}
        self.restart()
        return line
