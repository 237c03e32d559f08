"""Baseline Classifier: nearest neighbours on the features of a classifier of the training classes.

Vinyals et al. 2016, section 4.1, after Donahue et al. 2014, DeCAF (arXiv 1310.1531). It is trained "to classify an
image into one of the original classes present in the training data set". Then "the features from the last layer
(before the softmax)" are taken "for nearest neighbour matching".
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from matchnet.attention import Attention, AttentionSpec, require_no_learning, similarity
from matchnet.encoders import EncoderSpec, build_encoder
from matchnet.encoders.conv4 import Conv4Spec
from matchnet.encoders.inception import AuxiliaryHead, InceptionV3, initialise
from matchnet.methods.base import Batch, LabelledBatch, Method
from matchnet.running_attention import at_least_float32


@dataclass(frozen=True)
class ClassifierSpec:
    """The Baseline Classifier: trained on all classes at once, then matched by its features.

    Args:
        encoder: what makes features of a sample.
        head: the softmax over the training classes is of a linear map of the features, or of their cosines with a
            learned vector for each class, times a learned scale. Then the training uses the similarity that the test
            uses  [Gidaris and Komodakis 2018, section 3.2; Chen et al. 2019, Baseline++]. Inception's auxiliary head
            stays linear.
        attention: how the features are matched in a test. Several shots vote by its softmax.
        label_smoothing: share of each target that is spread evenly over all classes  [Szegedy et al. 2016, section 7].
        dropout: share of the features that is dropped before the softmax in training.
        auxiliary_weight: weight of the loss of Inception's auxiliary head; other encoders have no such head. 0 leaves
            it out. 0.4 is the value of the authors' released training.
    """

    name: Literal["classifier"] = "classifier"
    encoder: EncoderSpec = field(default_factory=Conv4Spec)
    head: Literal["linear", "cosine"] = "linear"
    attention: AttentionSpec = field(default_factory=lambda: AttentionSpec("cosine", "fixed", 30.0))
    label_smoothing: float = 0.0
    dropout: float = 0.0
    auxiliary_weight: float = 0.4

    def __post_init__(self) -> None:
        if not 0 <= self.auxiliary_weight < math.inf:
            raise ValueError(f"auxiliary_weight is {self.auxiliary_weight}; it must be at least 0")
        require_no_learning(self.attention)
        for name in ("label_smoothing", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1")


class Classifier(Method):
    """Trains with a softmax over all training classes; matches without it.

    A minibatch is labelled images, or an episode without support, e.g. EpisodeSpec(num_ways=128, num_shots=0,
    num_queries=1): 128 classes of all, a sample each. Where the store has rotations as classes, they are classes here.
    """

    def __init__(self, spec: ClassifierSpec, sample_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.encoder = build_encoder(spec.encoder, sample_shape)
        head = nn.Linear if spec.head == "linear" else CosineHead
        self.softmax = head(self.encoder.embedding_size, num_classes)
        self.auxiliary: AuxiliaryHead | None = None
        if isinstance(self.encoder, InceptionV3):
            initialise(self.softmax)
            self.auxiliary = AuxiliaryHead(self.encoder, num_classes) if spec.auxiliary_weight > 0 else None
        self.auxiliary_weight = spec.auxiliary_weight
        self.dropout = nn.Dropout(spec.dropout)
        self.label_smoothing = spec.label_smoothing
        self.attention = Attention(spec.attention)

    def embed(self, sample_B: Tensor) -> Tensor:
        return self.encoder(sample_B)

    def classify(self, support_ES: Tensor, way_ES: Tensor, query_EQ: Tensor, num_ways: int) -> Tensor:
        return self.attention(query_EQ, support_ES, way_ES, num_ways)

    def forward(self, batch: Batch | LabelledBatch) -> dict[str, Tensor]:
        """Cross entropy over the training classes, for support and queries alike; accuracy is the softmax's alone."""
        sample_B, class_B = labelled_samples(batch)
        feature_BD, auxiliary_BC = self.features_and_auxiliary(sample_B)
        logits_BC = self.softmax(self.dropout(feature_BD))
        right_B = logits_BC.argmax(-1) == class_B
        loss = self.cross_entropy(logits_BC, class_B)
        if auxiliary_BC is not None:
            loss = loss + self.auxiliary_weight * self.cross_entropy(auxiliary_BC, class_B)
        return {"loss": loss, "accuracy": right_B.float().mean()}

    def features_and_auxiliary(self, sample_B: Tensor) -> tuple[Tensor, Tensor | None]:
        """The features, and in training the logits of the auxiliary head, if there is one."""
        if self.auxiliary is None or not self.training:
            return self.embed(sample_B), None
        assert isinstance(self.encoder, InceptionV3)
        grid_BCHW = self.encoder.up_to_17(sample_B)
        return self.encoder.from_17_on(grid_BCHW), self.auxiliary(grid_BCHW)

    def cross_entropy(self, logits_BC: Tensor, class_B: Tensor) -> Tensor:
        return F.cross_entropy(logits_BC, class_B, label_smoothing=self.label_smoothing)


class CosineHead(nn.Module):
    """feature_BD -> logits_BC: cosines with a learned vector for each class, times a learned scale."""

    FIRST_SCALE = 10.0

    def __init__(self, embedding_size: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_size) / embedding_size**0.5)
        self.log_scale = nn.Parameter(torch.tensor(self.FIRST_SCALE).log())

    def forward(self, feature_BD: Tensor) -> Tensor:
        with torch.autocast(feature_BD.device.type, enabled=False):  # as in attention, bf16 is too coarse for exp
            cosine_BC = similarity("cosine", at_least_float32(feature_BD)[None], self.weight[None])[0]
            return cosine_BC * self.log_scale.exp()


def labelled_samples(batch: Batch | LabelledBatch) -> tuple[Tensor, Tensor]:
    """(B, *sample_shape) and class_B; a batch of episodes gives its support and its queries alike."""
    if isinstance(batch, LabelledBatch):
        return batch.image_BCHW, batch.class_B
    sample_ET = torch.cat([batch.support_ES, batch.query_EQ], dim=1)
    way_ET = torch.cat([batch.support_way_ES, batch.query_way_EQ], dim=1)
    return sample_ET.flatten(0, 1), batch.class_EN.gather(1, way_ET).flatten()
