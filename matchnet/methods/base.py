"""The interface of a method of one-shot learning to the training loop and to the evaluation.

Shapes: E episodes, S support items, Q queries, N ways, B samples, C H W pixels.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from matchnet.chunks import ChunkSpec, embed_in_chunks
from matchnet.devices import to_input
from matchnet.episodes import Episodes
from matchnet.store import MemoryStore


@dataclass(frozen=True)
class Batch:
    """Episodes with their samples, ready for `Method.forward`."""

    support_ES: Tensor  # samples (E, S, *sample_shape), float for images (with `chunk` perhaps bytes)
    support_way_ES: Tensor
    query_EQ: Tensor  # samples (E, Q, *sample_shape)
    query_way_EQ: Tensor
    class_EN: Tensor  # position of each way's class in the training classes
    chunk: ChunkSpec | None = None  # embed, and attend, a chunk at a time
    is_embedded: bool = False  # true: support_ES and query_EQ hold features, as `Method.embed` gives them

    @property
    def num_ways(self) -> int:
        return self.class_EN.shape[1]


@dataclass(frozen=True)
class LabelledBatch:
    """Images with their classes and without episodes: a classifier's batch when images come in a stream."""

    image_BCHW: Tensor  # float in [0, 1]
    class_B: Tensor  # int64, position of each image's class in the training classes


class Method(nn.Module, ABC):
    """Maps (support, labels, query) to log-probabilities, in two parts so that evaluation embeds every sample once."""

    @abstractmethod
    def embed(self, sample_B: Tensor) -> Tensor:
        """The part that depends on one sample alone: (B, *sample_shape) -> features (B, ...)."""

    @abstractmethod
    def classify(self, support_ES: Tensor, way_ES: Tensor, query_EQ: Tensor, num_ways: int) -> Tensor:
        """The part that sees the episode: features of support (E, S, ...) and queries (E, Q, ...) -> log_probs_EQN."""

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The training objective: {"loss": scalar to minimise, "accuracy": scalar in [0, 1]}."""

    def classify_rows(self, features: MemoryStore, episodes: Episodes) -> Tensor:
        """log_probs_EQN of episodes whose samples are rows of `features`; for a method that needs the rows."""
        way_ES = episodes.support_way_ES.to(features.samples.device)
        return self.classify(features.gather(episodes.support_ES), way_ES, features.gather(episodes.query_EQ),
                             episodes.num_ways)

    def embed_batch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features of support (E, S, ...) and queries (E, Q, ...), in one pass through the encoder or in chunks.

        A batch that is embedded has them already.
        """
        if batch.is_embedded:
            return batch.support_ES, batch.query_EQ
        E, S = batch.support_ES.shape[:2]
        if batch.chunk is not None:
            samples = [samples_E.flatten(0, 1) for samples_E in (batch.support_ES, batch.query_EQ)]
            of_support_B, of_query_B = embed_in_chunks(lambda sample_B: self.embed(to_input(sample_B, sample_B.device)),
                                                       self, samples, batch.chunk)
            return of_support_B.unflatten(0, (E, -1)), of_query_B.unflatten(0, (E, -1))
        samples_ET = torch.cat([batch.support_ES, batch.query_EQ], dim=1)
        feature_ET = self.embed(samples_ET.flatten(0, 1)).unflatten(0, (E, -1))
        return feature_ET[:, :S], feature_ET[:, S:]


def episode_loss(log_probs_EQN: Tensor, query_way_EQ: Tensor) -> dict[str, Tensor]:
    """- mean over episodes and queries of log P(y|x, S)      [Vinyals et al. 2016, eq. 2, as a mean]"""
    loss = torch.nn.functional.nll_loss(log_probs_EQN.flatten(0, 1), query_way_EQ.flatten())
    return {"loss": loss, "accuracy": accuracy(log_probs_EQN, query_way_EQ).mean()}


def accuracy(log_probs_EQN: Tensor, query_way_EQ: Tensor) -> Tensor:
    """Share of queries whose most probable way is theirs, by episode: (E,) float64 in [0, 1]."""
    return (log_probs_EQN.argmax(-1) == query_way_EQ).double().mean(-1)
