"""Baseline Classifier: nearest neighbours on the features of a classifier of the training classes.

Vinyals et al. 2016, section 4.1: trained "to classify an image into one of the original classes present in
the training data set", then "the features from the last layer (before the softmax) for nearest neighbour
matching"; after Donahue et al. 2014, DeCAF (arXiv 1310.1531).
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from matchnet.attention import Attention, AttentionSpec
from matchnet.encoders import EncoderSpec, build_encoder
from matchnet.encoders.conv4 import Conv4Spec
from matchnet.methods.base import Batch, Method


@dataclass(frozen=True)
class ClassifierSpec:
    """attention: how the features are matched; several shots vote by its softmax."""

    name: Literal["classifier"] = "classifier"
    encoder: EncoderSpec = field(default_factory=Conv4Spec)
    attention: AttentionSpec = field(default_factory=lambda: AttentionSpec("cosine", "fixed", 30.0))


class Classifier(Method):
    """Trains with a linear softmax over all training classes; matches without it.

    A minibatch is an episode without support, e.g. EpisodeSpec(num_ways=128, num_shots=0, num_queries=1):
    128 classes of all, a sample each. Where the store has rotations as classes, they are classes here.
    """

    def __init__(self, spec: ClassifierSpec, sample_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.encoder = build_encoder(spec.encoder, sample_shape)
        self.softmax = nn.Linear(self.encoder.embedding_size, num_classes)
        self.attention = Attention(spec.attention)

    def embed(self, sample_B: Tensor) -> Tensor:
        return self.encoder(sample_B)

    def classify(self, support_ES: Tensor, way_ES: Tensor, query_EQ: Tensor, num_ways: int) -> Tensor:
        return self.attention(query_EQ, support_ES, way_ES, num_ways)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Cross entropy over the training classes, for support and queries alike."""
        support_ES, query_EQ = self.embed_batch(batch)
        feature_ETD = torch.cat([support_ES, query_EQ], dim=1)
        way_ET = torch.cat([batch.support_way_ES, batch.query_way_EQ], dim=1)
        class_B = batch.class_EN.gather(1, way_ET).flatten()
        logits_BC = self.softmax(feature_ETD.flatten(0, 1))
        right_B = logits_BC.argmax(-1) == class_B
        return {"loss": F.cross_entropy(logits_BC, class_B), "accuracy": right_B.float().mean()}
