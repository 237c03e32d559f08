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
from matchnet.methods.base import Batch, LabelledBatch, Method


@dataclass(frozen=True)
class ClassifierSpec:
    """attention: how the features are matched; several shots vote by its softmax.

    label_smoothing: share of each target that is spread evenly over all classes  [Szegedy et al. 2016, section 7].
    dropout: of the features, before the softmax and in training alone.
    """

    name: Literal["classifier"] = "classifier"
    encoder: EncoderSpec = field(default_factory=Conv4Spec)
    attention: AttentionSpec = field(default_factory=lambda: AttentionSpec("cosine", "fixed", 30.0))
    label_smoothing: float = 0.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("label_smoothing", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1")


class Classifier(Method):
    """Trains with a linear softmax over all training classes; matches without it.

    A minibatch is labelled images, or an episode without support, e.g. EpisodeSpec(num_ways=128, num_shots=0,
    num_queries=1): 128 classes of all, a sample each. Where the store has rotations as classes, they are classes here.
    """

    def __init__(self, spec: ClassifierSpec, sample_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.encoder = build_encoder(spec.encoder, sample_shape)
        self.softmax = nn.Linear(self.encoder.embedding_size, num_classes)
        self.dropout = nn.Dropout(spec.dropout)
        self.label_smoothing = spec.label_smoothing
        self.attention = Attention(spec.attention)

    def embed(self, sample_B: Tensor) -> Tensor:
        return self.encoder(sample_B)

    def classify(self, support_ES: Tensor, way_ES: Tensor, query_EQ: Tensor, num_ways: int) -> Tensor:
        return self.attention(query_EQ, support_ES, way_ES, num_ways)

    def forward(self, batch: Batch | LabelledBatch) -> dict[str, Tensor]:
        """Cross entropy over the training classes, for support and queries alike."""
        sample_B, class_B = labelled_samples(batch)
        logits_BC = self.softmax(self.dropout(self.embed(sample_B)))
        right_B = logits_BC.argmax(-1) == class_B
        loss = F.cross_entropy(logits_BC, class_B, label_smoothing=self.label_smoothing)
        return {"loss": loss, "accuracy": right_B.float().mean()}


def labelled_samples(batch: Batch | LabelledBatch) -> tuple[Tensor, Tensor]:
    """(B, *sample_shape) and class_B: of episodes, support and queries alike."""
    if isinstance(batch, LabelledBatch):
        return batch.image_BCHW, batch.class_B
    sample_ET = torch.cat([batch.support_ES, batch.query_EQ], dim=1)
    way_ET = torch.cat([batch.support_way_ES, batch.query_way_EQ], dim=1)
    return sample_ET.flatten(0, 1), batch.class_EN.gather(1, way_ET).flatten()
