"""An evaluation's two costly parts, embedding and episodes, shared among workers.

The batches are those of one process, wherever each is computed, and they are put together in their order. So the result
is the same, bit for bit, for any number of workers. It is also that of one process with as many threads as each worker
has. (With another number of threads, sums have another order.)

Shapes: R rows of a store, U rows that occur, E episodes.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from matchnet.evaluation import (
    Advance,
    EpisodeResults,
    EpisodeStream,
    embed_batch_size,
    embed_rows,
    episode_batch_size,
    episode_results,
    no_progress,
)
from matchnet.methods import Method
from matchnet.store import SomeRows, Store
from pipeline.data.load.samples import Room, load_samples
from pipeline.data.nodes.cache import CacheParams, local_shards
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.spec import Part
from pipeline.workers.processes import RunTasks, close_if_possible

BATCHES_PER_TASK = 16  # batches to embed: a second or so on a CPU, against milliseconds for sending a task


@dataclass(frozen=True)
class SampleAddress:
    """Address of the samples that a worker embeds.

    shards: path or address of the dataset's folder.
    groups: groups of the shards that are read.
    """

    shards: str
    cache: CacheParams | None
    groups: tuple[str, ...]
    split: str
    part: Part
    sample_shape: tuple[int, ...]


@dataclass(frozen=True)
class RowEpisodes:
    """The test episodes of a row, by column.

    row_U: rows of the store, all that occur in them.
    count: episodes of each column.
    """

    streams: Mapping[str, EpisodeStream]
    row_U: np.ndarray
    count: int


@dataclass(frozen=True)
class Workers:
    """The workers that share an evaluation.

    shards, cache: where the workers find the dataset; see `SampleAddress`.
    device: the device of each worker.
    threads: threads of each worker, on a CPU.
    """

    run: RunTasks
    shards: str
    cache: CacheParams | None
    device: str
    threads: int


class Span(NamedTuple):
    """A task: episodes first .. end - 1 of `column`, or, if `column` is "", those rows to embed."""

    column: str
    first: int
    end: int


def embed_on(workers: Workers, method: Method, source: SampleAddress, store: Store, row_U: np.ndarray,
             advance: Advance = no_progress) -> SomeRows:
    """`embed_rows` on workers; `store` is this process's view of the same rows, from which nothing is read."""
    spans = _spans("", len(row_U), BATCHES_PER_TASK * embed_batch_size(store, workers.device))
    features: dict[Span, Tensor] = {}
    for span, feature_U in workers.run(_Embedding, (method, source, row_U, workers.device, workers.threads),
                                       _Embedding.embed, spans):
        features[span] = feature_U
        advance(span.end - span.first)
    return SomeRows(torch.cat([features[span] for span in spans]), torch.from_numpy(row_U), len(store))


def episodes_on(workers: Workers, method: Method, features: SomeRows, wanted: RowEpisodes,
                advance: Advance = no_progress) -> dict[str, EpisodeResults]:
    """`episode_results` of every column on workers. `features` are of the rows `wanted.row_U`."""
    spans = [span for column, stream in wanted.streams.items()
             for span in _spans(column, wanted.count, episode_batch_size(features, stream.spec))]
    results: dict[Span, EpisodeResults] = {}
    start_args = (method, features.samples, len(features), wanted, workers.device, workers.threads)
    for span, result in workers.run(_Testing, start_args, _Testing.test, spans):
        results[span] = result
        advance(span.end - span.first)
    return {column: _joined([results[span] for span in spans if span.column == column])
            for column in wanted.streams}


def _spans(column: str, count: int, size: int) -> list[Span]:
    return [Span(column, first, min(first + size, count)) for first in range(0, count, size)]


def _joined(results: list[EpisodeResults]) -> EpisodeResults:
    return EpisodeResults(np.concatenate([result.accuracy_E for result in results]),
                          np.concatenate([result.most_one_way_E for result in results]))


class _Embedding:
    """A worker that embeds. It holds the model, and keeps its shards in use until it is closed or its process ends."""

    def __init__(self, method: Method, source: SampleAddress, row_U: np.ndarray, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.method, self.row_U, self.device = method.to(device), row_U.copy(), device
        self._in_use = ExitStack()
        shards = ShardFolder(self._in_use.enter_context(local_shards(source.shards, source.cache, source.groups)))
        # each sample is needed once, by one worker, so a worker decodes only its own samples
        room = Room(memory_bytes=0, num_processes=threads)
        self.store = load_samples(shards, source.split, (source.part,), source.sample_shape, room).store
        self._in_use.callback(close_if_possible, self.store)

    def embed(self, span: Span) -> Tensor:
        return embed_rows(self.method, self.store, self.row_U[span.first:span.end], self.device).samples.cpu()

    def close(self) -> None:
        self._in_use.close()


class _Testing:
    """A worker that runs episodes: it holds the model and the features of all rows that occur."""

    def __init__(self, method: Method, feature_U: Tensor, num_rows: int, wanted: RowEpisodes, device: str,
                 threads: int) -> None:
        torch.set_num_threads(threads)
        self.method, self.wanted = method.to(device), wanted
        self.features = SomeRows(feature_U.to(device), torch.from_numpy(wanted.row_U.copy()), num_rows)

    def test(self, span: Span) -> EpisodeResults:
        stream = self.wanted.streams[span.column]
        return episode_results(self.method, self.features, stream, range(span.first, span.end))
