"""Training on episodes  [Vinyals et al. 2016, section 2.2]: step t has episodes t*B .. t*B + B-1, whoever runs them."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, tee

import numpy as np
import torch

from matchnet.augmentation import AffineSpec, distort
from matchnet.chunks import ChunkSpec
from matchnet.devices import to_device, to_input
from matchnet.episodes import ALL_WAYS, ClassRows, Episodes, EpisodeSpec, sample_episodes
from matchnet.evaluation import EpisodeStream, embed_rows, episode_results, evaluate, rows_drawn
from matchnet.methods.base import Batch, Method
from matchnet.statistics import mean_and_interval
from matchnet.store import SomeRows, Store
from matchnet.training import Task, TrainingSpec, Values

ROWS_DRAWN_AT_ONCE = 4096
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
        frozen: true leaves the encoder as it is, and trains what follows it. Each sample is embedded once, before the
            first step, so that a step takes milliseconds. Only for matching networks and siamese nets, with one worker.
    """

    episode: EpisodeSpec
    episodes_per_step: int = 1
    affine: AffineSpec | None = None
    chunk: ChunkSpec | None = None
    frozen: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("episodes_per_step")
        if self.episode.num_ways == ALL_WAYS:
            raise ValueError("episode.num_ways is 0, which stands for all classes of a test; write how many classes an "
                             "episode of the training has")
        if self.accumulate > self.episodes_per_step:
            raise ValueError(f"accumulate is {self.accumulate}, and episodes_per_step {self.episodes_per_step}: some "
                             "parts would have no episode; lower the one or raise the other")
        if self.frozen and self.accumulate > 1:
            raise ValueError(f"accumulate is {self.accumulate}, and frozen true: features of a step take little "
                             "memory; write accumulate: 1")
        if self.frozen and (self.affine is not None or self.chunk is not None):
            raise ValueError("frozen is true: each sample is embedded once, without distortions and not in chunks; "
                             "write affine: null and chunk: null, or frozen: false")

    @property
    def most_shares(self) -> int:
        return 1 if self.frozen else self.episodes_per_step


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
        self.features: SomeRows | None = None  # of the training classes' samples, where the encoder is frozen
        self.valid_features: SomeRows | None = None

    def check(self, world_size: int) -> None:
        if world_size > 1 and self.spec.frozen:
            raise ValueError(f"{self.spec.sharing(world_size)} share a training with frozen: true, which one worker "
                             "does: write compute.num_workers: 1")
        if world_size > self.spec.most_shares:
            raise ValueError(f"{self.spec.sharing(world_size)} share episodes_per_step = "
                             f"{self.spec.episodes_per_step}: some would have nothing to do; at least one episode for "
                             "each, or fewer of them")

    def begin(self, method: Method, device: torch.device | str) -> None:
        """Embed all samples, if the encoder is frozen."""
        if not self.spec.frozen:
            return
        data = self.data
        self.features = embed_rows(method, data.store, np.unique(data.classes.rows), device)
        if data.valid_classes is not None:
            drawn = rows_drawn(valid_stream(data.valid_classes, self.spec), self.spec.valid_episodes)
            self.valid_features = embed_rows(method, valid_store(data), drawn, device)

    def batch(self, step: int, rank: int, world_size: int, device: torch.device | str) -> tuple[Batch, float]:
        """This share's episodes: every world_size-th of the step's."""
        return next(self.batches(range(step, step + 1), range(rank, rank + 1), world_size, device))

    def batches(self, steps: range, ranks: range, world_size: int,
                device: torch.device | str) -> Generator[tuple[Batch, float]]:
        per_step = self.spec.episodes_per_step
        numbers_each = (range(step * per_step + rank, (step + 1) * per_step, world_size)
                        for step in steps for rank in ranks)
        assert self.features is not None or not self.spec.frozen, "begin comes before the first batch"
        store = self.data.store if self.features is None else self.features
        for batch in make_batches(store, self.data.classes, self.spec, numbers_each, device):
            yield batch, len(batch.class_EN) * world_size / per_step

    def validate(self, method: Method, device: torch.device | str) -> Values | None:
        """Accuracy on episodes of the validation classes."""
        data = self.data
        if data.valid_classes is None:
            return None
        if self.valid_features is None:
            return validate_on_episodes(method, valid_store(data), data.valid_classes, self.spec, device)
        results = episode_results(method, self.valid_features, valid_stream(data.valid_classes, self.spec),
                                  range(self.spec.valid_episodes))
        return valid_figures(results.accuracy_E)


def validate_on_episodes(method: Method, store: Store, classes: ClassRows, spec: ValidatedSpec,
                         device: torch.device | str) -> Values:
    """The mean accuracy with its interval, on the same episodes at each call."""
    return valid_figures(evaluate(method, store, valid_stream(classes, spec), spec.valid_episodes, device=device))


def valid_figures(accuracy_E: np.ndarray) -> Values:
    mean, ci95 = mean_and_interval(accuracy_E)
    return {"valid_accuracy": mean, "valid_ci95": ci95, "valid_episodes": len(accuracy_E)}


def valid_stream(classes: ClassRows, spec: ValidatedSpec) -> EpisodeStream:
    return EpisodeStream(classes, spec.valid_episode, spec.seed + VALID_SEED_OFFSET)


def valid_store(data: EpisodicData) -> Store:
    return data.store if data.valid_store is None else data.valid_store


def _draw_each(classes: ClassRows, spec: EpisodicSpec,
               numbers_each: Iterable[Sequence[int]]) -> Iterator[tuple[Sequence[int], Episodes]]:
    """For each list of numbers, yield it and its episodes. Many lists are drawn in one call.

    Between two steps of a model, the caches have nothing of this code: a call is three times as slow as in a loop.
    """
    left = iter(numbers_each)
    for numbers in left:
        rows = len(numbers) * spec.episode.num_ways * spec.episode.samples_per_way
        lists = [numbers, *islice(left, ROWS_DRAWN_AT_ONCE // rows)]
        episodes = sample_episodes(spec.seed, [number for each in lists for number in each], spec.episode, classes)
        begin = 0
        for each in lists:
            yield each, episodes[begin:begin + len(each)]
            begin += len(each)


def make_batches(store: Store, classes: ClassRows, spec: EpisodicSpec, numbers_each: Iterable[Sequence[int]],
                 device: torch.device | str) -> Iterator[Batch]:
    """For each list of numbers, yield those episodes of the training stream, distorted if the spec says so."""
    drawn, wanted = tee(_draw_each(classes, spec, numbers_each))
    sample_ET_each = store.gather_each(episodes.row_ET for _, episodes in wanted)
    # a chunk's bytes become floats when it is embedded; features are floats
    as_they_are = spec.frozen or (spec.chunk is not None and spec.affine is None)
    for (numbers, episodes), sample_ET in zip(drawn, sample_ET_each, strict=True):
        sample_ET = to_device(sample_ET, device) if as_they_are else to_input(sample_ET, device)
        if spec.affine is not None:
            sample_ET = distort(sample_ET, spec.affine, spec.seed, numbers)
        num_support = episodes.support_ES.shape[1]
        support_way_ES, query_way_EQ, class_EN = (
            to_device(ways, device) for ways in (episodes.support_way_ES, episodes.query_way_EQ, episodes.class_EN))
        yield Batch(sample_ET[:, :num_support], support_way_ES, sample_ET[:, num_support:], query_way_EQ, class_EN,
                    spec.chunk, spec.frozen)
