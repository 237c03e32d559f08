"""Matching on raw pixels: the paper's first baseline  [Vinyals et al. 2016, section 4.1]."""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from matchnet.attention import Attention, AttentionSpec, require_no_learning
from matchnet.methods.base import Batch, Method, episode_loss


@dataclass(frozen=True)
class PixelsSpec:
    """Matching on raw pixels. Nothing is learned.

    Args:
        invert: true matches 1 - x. Stores hold ink as 1, so this is dark ink on white paper, as Omniglot's files have
            it. The paper is then most of every vector, and the cosines lie closer together.
        attention: how several shots vote.
    """

    name: Literal["pixels"] = "pixels"
    invert: bool = False
    attention: AttentionSpec = field(default_factory=lambda: AttentionSpec("cosine", "fixed", 100.0))

    def __post_init__(self) -> None:
        require_no_learning(self.attention)


class Pixels(Method):
    """A matching network whose embedding is the identity."""

    def __init__(self, spec: PixelsSpec) -> None:
        super().__init__()
        self.invert = spec.invert
        self.attention = Attention(spec.attention)

    def embed(self, sample_B: Tensor) -> Tensor:
        return (1 - sample_B if self.invert else sample_B).flatten(1)

    def classify(self, support_ES: Tensor, way_ES: Tensor, query_EQ: Tensor, num_ways: int) -> Tensor:
        return self.attention(query_EQ, support_ES, way_ES, num_ways)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        support_ES, query_EQ = self.embed_batch(batch)
        log_probs_EQN = self.classify(support_ES, batch.support_way_ES, query_EQ, batch.num_ways)
        return episode_loss(log_probs_EQN, batch.query_way_EQ)
