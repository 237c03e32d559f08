"""Training on episodes  [Vinyals et al. 2016, section 2.2]: step t has episodes t*B .. t*B + B-1, whoever runs them."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import tee

import torch
from torch import Tensor

from matchnet.augmentation import AffineSpec, distort
from matchnet.chunks import ChunkSpec
from matchnet.devices import to_device, to_input
from matchnet.episodes import ClassRows, Episodes, EpisodeSpec, sample_episodes
from matchnet.evaluation import evaluate
from matchnet.methods.base import Batch, Method
from matchnet.statistics import mean_and_interval
from matchnet.store import Store
from matchnet.training import Task, TrainingSpec, Values

VALID_SEED_OFFSET = 1_000_003  # validation episodes come from another stream than training's


@dataclass(frozen=True, kw_only=True)
class ValidatedSpec(TrainingSpec):
    """Training that is validated by one-shot learning, on classes that it is not trained on.

    Args:
        valid_episode: the task of the validation.
        valid_episodes: how many episodes a validation has.
    """

    valid_episode: EpisodeSpec = field(default_factory=lambda: EpisodeSpec(5, 1, 5))
    valid_episodes: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.valid_episode.num_shots < 1:
            raise ValueError("valid_episode.num_shots is 0; without support there is nothing to choose from: at "
                             "least 1")
        if self.valid_episodes < 2:
            raise ValueError(f"valid_episodes is {self.valid_episodes}; an interval takes at least 2: write 2 or more")


@dataclass(frozen=True, kw_only=True)
class EpisodicSpec(ValidatedSpec):
    """Training on episodes.

    Args:
        episode: the task that is trained on.
        episodes_per_step: episodes of a step, over all workers together.
        affine: how training images are distorted. Null leaves them as they are.
        chunk: for support sets of thousands. A step embeds and attends one chunk at a time, in memory that hardly grows
            with the support set. Null takes all at once, which is faster. For matching networks and siamese nets.
    """

    episode: EpisodeSpec
    episodes_per_step: int = 1
    affine: AffineSpec | None = None
    chunk: ChunkSpec | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("episodes_per_step")
        if self.accumulate > self.most_shares:
            raise ValueError(f"accumulate is {self.accumulate}, and episodes_per_step {self.episodes_per_step}: some "
                             "parts would have no episode; lower the one or raise the other")

    @property
    def most_shares(self) -> int:
        return self.episodes_per_step


@dataclass(frozen=True)
class EpisodicData:
    """Training and validation classes may be of one store or of two (rotated classes train, upright ones validate)."""

    store: Store
    classes: ClassRows
    valid_store: Store | None = None
    valid_classes: ClassRows | None = None


class EpisodicTask(Task):
    """Raises ValueError where classes cannot serve the episodes."""

    def __init__(self, data: EpisodicData, spec: EpisodicSpec) -> None:
        self.data = data
        self.spec: EpisodicSpec = spec
        samples = spec.episodes_per_step * spec.episode.num_ways * spec.episode.samples_per_way
        of_images = len(data.store.sample_shape) == 3  # (C, H, W); a sentence is (L,)
        self.units = {"episodes": spec.episodes_per_step, "images" if of_images else "sentences": samples}

    def check(self, world_size: int) -> None:
        if world_size > self.spec.most_shares:
            raise ValueError(f"{self.spec.sharing(world_size)} share episodes_per_step = "
                             f"{self.spec.episodes_per_step}: some would have nothing to do; at least one episode for "
                             "each, or fewer of them")

    def batch(self, step: int, rank: int, world_size: int, device: torch.device | str) -> tuple[Batch, float]:
        """This share's episodes: every world_size-th of the step's."""
        return next(self.batches(range(step, step + 1), range(rank, rank + 1), world_size, device))

    def batches(self, steps: range, ranks: range, world_size: int,
                device: torch.device | str) -> Generator[tuple[Batch, float]]:
        per_step = self.spec.episodes_per_step
        numbers_each = (range(step * per_step + rank, (step + 1) * per_step, world_size)
                        for step in steps for rank in ranks)
        for batch in make_batches(self.data.store, self.data.classes, self.spec, numbers_each, device):
            yield batch, len(batch.class_EN) * world_size / per_step

    def validate(self, method: Method, device: torch.device | str) -> Values | None:
        """Accuracy on episodes of the validation classes."""
        data = self.data
        if data.valid_classes is None:
            return None
        store = data.store if data.valid_store is None else data.valid_store
        return validate_on_episodes(method, store, data.valid_classes, self.spec, device)


def validate_on_episodes(method: Method, store: Store, classes: ClassRows, spec: ValidatedSpec,
                         device: torch.device | str) -> Values:
    """The mean accuracy with its interval, on the same episodes at each call."""
    accuracy_E = evaluate(method, store, classes, spec.valid_episode, spec.valid_episodes,
                          seed=spec.seed + VALID_SEED_OFFSET, device=device)
    mean, ci95 = mean_and_interval(accuracy_E)
    return {"valid_accuracy": mean, "valid_ci95": ci95, "valid_episodes": spec.valid_episodes}


def make_batches(store: Store, classes: ClassRows, spec: EpisodicSpec, numbers_each: Iterable[Sequence[int]],
                 device: torch.device | str) -> Iterator[Batch]:
    """For each list of numbers, yield those episodes of the training stream, distorted if the spec says so."""
    drawn, wanted = tee((numbers, sample_episodes(spec.seed, numbers, spec.episode, classes))
                        for numbers in numbers_each)
    sample_ET_each = store.gather_each(episodes.row_ET for _, episodes in wanted)
    for (numbers, episodes), sample_ET in zip(drawn, sample_ET_each, strict=True):
        yield _make_batch(episodes, sample_ET, spec, numbers, device)


def _make_batch(episodes: Episodes, sample_ET: Tensor, spec: EpisodicSpec, numbers: Sequence[int],
                device: torch.device | str) -> Batch:
    num_support = episodes.support_ES.shape[1]
    as_bytes = spec.chunk is not None and spec.affine is None  # a chunk's bytes become floats when it is embedded
    sample_ET = to_device(sample_ET, device) if as_bytes else to_input(sample_ET, device)
    if spec.affine is not None:
        sample_ET = distort(sample_ET, spec.affine, spec.seed, numbers)
    support_way_ES, query_way_EQ, class_EN = (
        to_device(ways, device) for ways in (episodes.support_way_ES, episodes.query_way_EQ, episodes.class_EN))
    return Batch(sample_ET[:, :num_support], support_way_ES, sample_ET[:, num_support:], query_way_EQ, class_EN,
                 spec.chunk)
