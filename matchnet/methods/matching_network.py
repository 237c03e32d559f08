"""Matching Networks for One Shot Learning, Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra 2016.

arXiv 1606.04080, section 2.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from matchnet.attention import Attention, AttentionSpec
from matchnet.context import FullContext, FullContextSpec
from matchnet.encoders import EncoderSpec, build_encoder
from matchnet.encoders.conv4 import Conv4Spec
from matchnet.methods.base import Batch, Method, episode_loss
from matchnet.running_attention import at_least_float32


@dataclass(frozen=True)
class MatchingNetworkSpec:
    """The paper's model: encoders, context and attention.

    Departs from the paper where `embedding_size` is not null. FCE may need it. With Inception's 2,048 numbers, the dot
    products of equation 6 spread by 196 over five support items (15 photographs), so that a query reads one item alone.
    The LSTMs would have 117 million weights.

    Args:
        encoder: f' and g', what makes numbers of a sample.
        tied: true is f' = g' (the paper: "potentially with f = g"). False gives all samples to both encoders, and batch
            normalisation takes the statistics of all.
        embedding_size: one learned linear map brings f'(x^) and g'(x_i) to this many numbers. Null leaves it out.
        fce: full context embeddings. Null leaves them out.
        attention: how a query is matched with the support set.
    """

    name: Literal["matching_network"] = "matching_network"
    encoder: EncoderSpec = field(default_factory=Conv4Spec)
    tied: bool = True
    embedding_size: int | None = None
    fce: FullContextSpec | None = None
    attention: AttentionSpec = field(default_factory=AttentionSpec)

    def __post_init__(self) -> None:
        if self.embedding_size is not None and self.embedding_size < 1:
            raise ValueError(f"embedding_size is {self.embedding_size}; it must be at least 1, or null for no linear "
                             "map")


class MatchingNetwork(Method):
    """P(y|x^, S) = sum_i a(f(x^, S), g(x_i, S)) y_i."""

    def __init__(self, spec: MatchingNetworkSpec, sample_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder_f = build_encoder(spec.encoder, sample_shape)
        self.encoder_g = None if spec.tied else build_encoder(spec.encoder, sample_shape)
        size = spec.embedding_size or self.encoder_f.embedding_size
        self.linear = nn.Linear(self.encoder_f.embedding_size, size) if spec.embedding_size else None
        self.context = FullContext(spec.fce, size) if spec.fce else None
        self.attention = Attention(spec.attention)

    def embed(self, sample_B: Tensor) -> Tensor:
        """f'(x) and g'(x) side by side, (B, 2, D); one of them, (B, 1, D), if they are tied."""
        if self.encoder_g is None:
            return self.encoder_f(sample_B).unsqueeze(1)
        return torch.stack([self.encoder_f(sample_B), self.encoder_g(sample_B)], dim=1)

    def classify(self, support_ES: Tensor, way_ES: Tensor, query_EQ: Tensor, num_ways: int) -> Tensor:
        query_EQD, support_ESD = self.in_context(support_ES, query_EQ)
        return self.attention(query_EQD, support_ESD, way_ES, num_ways)

    def in_context(self, support_ES: Tensor, query_EQ: Tensor, in_chunks: bool = False) -> tuple[Tensor, Tensor]:
        """f(x^, S) and g(x_i, S) of what `embed` gives: (E, Q, D), (E, S, D)."""
        support_ESD, query_EQD = support_ES[..., -1, :], query_EQ[..., 0, :]
        if self.linear is not None:
            with torch.autocast(query_EQD.device.type, enabled=False):
                support_ESD, query_EQD = (self.linear(at_least_float32(item_D)) for item_D in (support_ESD, query_EQD))
        if self.context is not None:
            return self.context(query_EQD, support_ESD, in_chunks)
        return query_EQD, support_ESD

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        support_ES, query_EQ = self.embed_batch(batch)
        if batch.chunk is not None:
            query_EQD, support_ESD = self.in_context(support_ES, query_EQ, in_chunks=True)
            loss_EQ, right_EQ = self.attention.own_way(query_EQD, support_ESD, batch.support_way_ES,
                                                       batch.query_way_EQ, batch.num_ways, batch.chunk.size)
            return {"loss": loss_EQ.mean(), "accuracy": right_EQ.double().mean()}
        log_probs_EQN = self.classify(support_ES, batch.support_way_ES, query_EQ, batch.num_ways)
        return episode_loss(log_probs_EQN, batch.query_way_EQ)
