"""Siamese Neural Networks for One-shot Image Recognition, Koch, Zemel, Salakhutdinov 2015 (ICML workshop)."""

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from matchnet.attention import Attention, AttentionSpec, attend, is_large, require_no_learning
from matchnet.encoders import EncoderSpec, build_encoder
from matchnet.encoders.conv4 import Conv4Spec
from matchnet.methods.base import Batch, Method, accuracy
from matchnet.running_attention import Support, at_least_float32, log_probs_in_chunks


@dataclass(frozen=True)
class SiameseSpec:
    """A siamese net. Its encoder is the one that all methods share, instead of Koch's larger one: we compare methods.

    Args:
        encoder: what makes features of a sample.
        attention: how the features are matched in a test. Null matches by what the net has learnt of same and
            different. Table 1 of Vinyals et al. says cosine: row `siamese-cosine` of results/omniglot.md.
    """

    name: Literal["siamese"] = "siamese"
    encoder: EncoderSpec = field(default_factory=Conv4Spec)
    attention: AttentionSpec | None = None

    def __post_init__(self) -> None:
        if self.attention is not None:
            require_no_learning(self.attention)


class Siamese(Method):
    """P(same | x1, x2) = sigmoid(b - sum_j a_j |h1_j - h2_j|), h the encoder's features.

    Departs from Koch et al. in that a_j > 0 (kept as a logarithm), so that the sum is a metric.
    """

    def __init__(self, spec: SiameseSpec, sample_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder = build_encoder(spec.encoder, sample_shape)
        size = self.encoder.embedding_size
        # Normalised features of unrelated images differ by 0.8 on average: the sum starts at b, where p is 1/2.
        self.log_weight_D = nn.Parameter(torch.full((size,), 8.0 / size).log())
        self.bias = nn.Parameter(torch.tensor(0.8 * 8.0))
        self.attention = None if spec.attention is None else Attention(spec.attention)

    def embed(self, sample_B: Tensor) -> Tensor:
        return self.encoder(sample_B)

    def same_logit(self, query_EQD: Tensor, support_ESD: Tensor) -> Tensor:
        """log P(same) / P(different) of every query with every support item, (E, Q, S)."""
        weight_D = self.log_weight_D.exp()
        return self.bias - torch.cdist(query_EQD * weight_D, support_ESD * weight_D, p=1)

    def classify(self, support_ES: Tensor, way_ES: Tensor, query_EQ: Tensor, num_ways: int) -> Tensor:
        """One support class is the query's: each item's odds of being the same are its vote (or by `attention`)."""
        if self.attention is not None:
            return self.attention(query_EQ, support_ES, way_ES, num_ways)
        query_EQD, support_ESD = query_EQ.float(), support_ES.float()
        if not torch.is_grad_enabled() and is_large(query_EQD, support_ESD):
            return log_probs_in_chunks(lambda query, support, _: self.same_logit(query, support), query_EQD,
                                       Support(support_ESD, way_ES, num_ways), self.bias)
        return attend(self.same_logit(query_EQD, support_ESD), way_ES, num_ways)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The same-or-different task on all pairs of a query and a support item (e.g. EpisodeSpec(60, 1, 1)).

        Koch et al. draw as many same as different pairs; here all pairs of an episode count, and either kind
        has half of the loss.
        """
        support_ES, query_EQ = self.embed_batch(batch)
        logit_EQS = self.same_logit(at_least_float32(query_EQ), at_least_float32(support_ES))
        same_EQS = batch.query_way_EQ.unsqueeze(2) == batch.support_way_ES.unsqueeze(1)
        loss = (F.softplus(-logit_EQS[same_EQS]).mean() + F.softplus(logit_EQS[~same_EQS]).mean()) / 2
        log_probs_EQN = attend(logit_EQS, batch.support_way_ES, batch.num_ways)
        return {"loss": loss, "accuracy": accuracy(log_probs_EQN, batch.query_way_EQ).mean()}
