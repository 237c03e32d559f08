"""Fine-tuning on the support set S' alone  [Vinyals et al. 2016, section 4.1].

"We also tried further fine tuning the features using only the support set S' sampled from L'. This yields
massive overfitting, but given that our networks are highly regularized, can yield extra gains." It is still
one-shot learning, because the model sees only S'. The paper does not say how it fine-tunes. The steps, the rates
and the number of copies are parameters, to be chosen on validation classes.

Each episode has its own copy of the last blocks' weights. A block is one batched matrix product over all
episodes; a vmap of the convolution would be a grouped convolution, which is slow on CPUs. Batch normalisation
keeps its running statistics.

Shapes: E episodes, N ways, k shots, S = N k support items, Q queries, K distorted copies, T images.
B samples, C H W pixels, D embedding, O channels out, I = 9 * channels in (a 3 x 3 convolution as a matrix).
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from matchnet.augmentation import AffineSpec, distort
from matchnet.encoders.conv4 import RELU, Conv4
from matchnet.methods.base import Batch, Method, episode_loss
from matchnet.methods.classifier import Classifier
from matchnet.methods.matching_network import MatchingNetwork
from matchnet.methods.siamese import Siamese


@dataclass(frozen=True)
class FineTuningSpec:
    """Gradient descent on S' and distorted copies of it.

    Args:
        loss: `episode` classifies the copies by matching them with S'. With k > 1 shots it classifies each shot and its
            copies by matching with the other k - 1. `softmax` trains a fresh linear head on unit features, and
            classifies with it.
        steps: steps of gradient descent.
        learning_rate: of the encoder's weights.
        head_learning_rate: of the head that `softmax` trains.
        num_copies: distorted copies of each shot.
        frozen_blocks: how many of the encoder's first blocks keep their weights. More is cheaper.
        affine: how copies are distorted.
        seed: decides the distortions. Every sample gets the same ones, so that copies are embedded once a sample, and
            the result of an episode does not depend on the others in its batch.
    """

    loss: Literal["episode", "softmax"] = "episode"
    steps: int = 5
    learning_rate: float = 0.1
    head_learning_rate: float = 2.0
    num_copies: int = 4
    frozen_blocks: int = 3
    affine: AffineSpec = field(default_factory=AffineSpec)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("num_copies", 1), ("frozen_blocks", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        for name in ("learning_rate", "head_learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")


class FineTuned(Method):
    """`method` with the last blocks of its encoder tuned to each episode before it classifies; its own weights stay.

    Raises:
        ValueError: a method without one Conv-4 for support and queries, or with no block left to tune.
    """

    def __init__(self, method: Method, spec: FineTuningSpec) -> None:
        super().__init__()
        self.method, self.spec = method, spec
        blocks = list(tied_encoder(method).blocks)
        if spec.frozen_blocks >= len(blocks):
            raise ValueError(f"frozen_blocks is {spec.frozen_blocks} of {len(blocks)} blocks; leave at least "
                             f"one to tune")
        self.frozen = nn.Sequential(*blocks[:spec.frozen_blocks])
        self.tuned = nn.Sequential(*blocks[spec.frozen_blocks:])
        self.eval()

    def train(self, mode: bool = True) -> "FineTuned":
        """Stay out of training mode: a batch of support images must not move the running statistics."""
        return super().train(False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        raise NotImplementedError("FineTuned adapts a trained method at evaluation; train it, then wrap it")

    def embed(self, sample_B: Tensor) -> Tensor:
        """The sample and its distorted copies after the frozen blocks, (B, 1 + K, C, H, W)."""
        copies = [distort_alike(sample_B, self.spec, number) for number in range(self.spec.num_copies)]
        return torch.stack([self.frozen(image_BCHW) for image_BCHW in [sample_B, *copies]], dim=1)

    def classify(self, support_ES: Tensor, way_ES: Tensor, query_EQ: Tensor, num_ways: int) -> Tensor:
        # Evaluation runs in inference mode. Gradients are wanted here, and its tensors can have them only as clones.
        with torch.inference_mode(False), torch.enable_grad():
            support_EkN = shot_by_shot(support_ES.clone(), way_ES.clone(), num_ways)
            weights, support_EkND = self.tune(support_EkN)
            with torch.no_grad():
                query_EQD = self.features(im2col(query_EQ[:, :, 0].clone()), weights)
                if self.spec.loss == "softmax":
                    return softmax_head(query_EQD, *weights[-2:])
                support_ESD = as_drawn(support_EkND[:, :, :, 0], way_ES)
                return self.match(support_ESD, way_ES, query_EQD, num_ways)

    @torch.backends.cudnn.flags(enabled=False)  # its LSTM (of the context) has no gradient outside of training
    def tune(self, support_EkN: Tensor) -> tuple[list[Tensor], Tensor]:
        """Take the steps; return each episode's weights, and its support's features (E, k, N, 1 + K, D) with them.

        The loss is that of the whole method: with full context embeddings the gradient goes through them.
        """
        column_ET = im2col(support_EkN.flatten(1, 3))  # the first tuned block's columns, the same at every step
        weights, rates = self.initial_weights(len(support_EkN), support_EkN.shape[2])
        sizes = support_EkN.shape[1:4]
        for _ in range(self.spec.steps):
            loss = self.loss(self.features(column_ET, weights).unflatten(1, sizes), weights)
            gradients = torch.autograd.grad(loss, weights)
            weights = [(weight - rate * gradient).detach().requires_grad_()
                       for weight, rate, gradient in zip(weights, rates, gradients, strict=True)]
        with torch.no_grad():
            return weights, self.features(column_ET, weights).unflatten(1, sizes)

    def initial_weights(self, E: int, num_ways: int) -> tuple[list[Tensor], list[float]]:
        """For each episode a copy of three tensors a block and of the head's two, and their rates."""
        shared = [weight for block in self.tuned for weight in block_weights(block)]
        rates = [self.spec.learning_rate] * len(shared)
        if self.spec.loss == "softmax":
            shared += [shared[0].new_zeros(tied_encoder(self.method).embedding_size, num_ways),
                       shared[0].new_zeros(1, num_ways)]
            rates += [self.spec.head_learning_rate] * 2
        return [weight.detach().expand(E, *weight.shape).clone().requires_grad_() for weight in shared], rates

    def features(self, column_ET: Tensor, weights: list[Tensor]) -> Tensor:
        """The tuned blocks on the columns (im2col) of their input: (E, T, D), flattened as Conv4 does."""
        output_ETCHW = column_ET.new_empty(0)
        for i, block in enumerate(self.tuned):
            column_ET = column_ET if i == 0 else im2col(output_ETCHW)
            output_ETCHW = apply_block(column_ET, block, *weights[3 * i:3 * i + 3])
        return output_ETCHW.flatten(2)

    def loss(self, feature_EkNcD: Tensor, weights: list[Tensor]) -> Tensor:
        """Sum over episodes, so each has a gradient of its own; c = 0 is the image, the others its copies."""
        E, k, N = feature_EkNcD.shape[:3]
        if self.spec.loss == "softmax":
            log_probs = [softmax_head(shot_ENcD.flatten(1, 2), *weights[-2:])
                         for shot_ENcD in feature_EkNcD.unbind(1)]
        elif k == 1:
            log_probs = [self.match_shots(feature_EkNcD[:, :, :, 0], feature_EkNcD[:, 0, :, 1:].flatten(1, 2))]
        else:
            log_probs = [self.match_shots(feature_EkNcD[:, [other for other in range(k) if other != shot], :, 0],
                                          feature_EkNcD[:, shot].flatten(1, 2)) for shot in range(k)]
        queries_per_way = log_probs[0].shape[1] // N
        way_EQ = torch.arange(N, device=feature_EkNcD.device).repeat_interleave(queries_per_way).expand(E, -1)
        return torch.stack([episode_loss(one, way_EQ)["loss"] for one in log_probs]).mean() * E

    def match_shots(self, support_EkND: Tensor, query_EQD: Tensor) -> Tensor:
        """Classify the queries by a support set that is read shot by shot, each time way by way."""
        E, k, N = support_EkND.shape[:3]
        way_ES = torch.arange(N, device=support_EkND.device).repeat(k).expand(E, -1)
        return self.match(support_EkND.flatten(1, 2), way_ES, query_EQD, N)

    def match(self, support_ESD: Tensor, way_ES: Tensor, query_EQD: Tensor, num_ways: int) -> Tensor:
        """The method's own classification: log_probs_EQN."""
        if isinstance(self.method, MatchingNetwork):  # f' and g' are side by side and tied: one of them is enough
            support_ESD, query_EQD = support_ESD.unsqueeze(2), query_EQD.unsqueeze(2)
        return self.method.classify(support_ESD, way_ES, query_EQD, num_ways)


def tied_encoder(method: Method) -> Conv4:
    """The one Conv-4 that embeds support and queries alike; ValueError for a method that has none."""
    encoder = method.encoder if isinstance(method, Classifier | Siamese) else None
    if isinstance(method, MatchingNetwork) and method.encoder_g is None:
        encoder = method.encoder_f
    if isinstance(encoder, Conv4):
        return encoder
    wrong = f"fine-tuning of {type(method).__name__}" + (f" with {type(encoder).__name__}" if encoder else "")
    raise ValueError(f"{wrong}: it takes a classifier, a siamese net or a matching network with tied: true, and "
                     f"encoder conv4; set adaptation: null")


def distort_alike(image_BCHW: Tensor, spec: FineTuningSpec, number: int) -> Tensor:
    """Apply distortion `number` of the spec's seed, the same to all B images: they go in as channels of one image."""
    image_11CHW = image_BCHW.flatten(0, 1)[None, None]
    return distort(image_11CHW, spec.affine, spec.seed, [number]).view_as(image_BCHW)


def shot_by_shot(support_ES: Tensor, way_ES: Tensor, num_ways: int) -> Tensor:
    """Support (E, S, ...) in the order of its shots, then of its ways: (E, k, N, ...).

    Raises:
        ValueError: ways with different numbers of shots; names the episode.
    """
    shots_EN = F.one_hot(way_ES, num_ways).sum(1)
    uneven_E = (shots_EN != shots_EN[0, 0]).any(1)
    if uneven_E.any():
        episode = int(uneven_E.nonzero()[0])
        raise ValueError(f"episode {episode} has {shots_EN[episode].tolist()} shots a way; fine-tuning takes "
                         f"as many of each")
    order_ES = way_ES.argsort(dim=1, stable=True)
    sorted_ES = support_ES[torch.arange(len(support_ES), device=support_ES.device).unsqueeze(1), order_ES]
    return sorted_ES.unflatten(1, (num_ways, -1)).transpose(1, 2)


def as_drawn(support_EkN: Tensor, way_ES: Tensor) -> Tensor:
    """Undo shot_by_shot: the support set in its own order again, (E, S, ...), which FCE reads as a sequence."""
    sorted_ES = support_EkN.transpose(1, 2).flatten(1, 2)
    place_ES = way_ES.argsort(dim=1, stable=True).argsort(dim=1)
    return sorted_ES[torch.arange(len(sorted_ES), device=sorted_ES.device).unsqueeze(1), place_ES]


def im2col(image_ETCHW: Tensor) -> Tensor:
    """The 3 x 3 neighbourhoods that a block's convolution sees, (E, T, H // 2, W // 2, 4, I).

    The 4 are what 2 x 2 pooling takes together; an odd last row or column is left out, as pooling drops it.
    """
    E, T, _, H, W = image_ETCHW.shape
    column_BIHW = F.unfold(image_ETCHW.flatten(0, 1), 3, padding=1).unflatten(2, (H, W))
    even_BIHW = column_BIHW[..., :H // 2 * 2, :W // 2 * 2]
    pooled_BIH2W2 = even_BIHW.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
    return pooled_BIH2W2.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).unflatten(0, (E, T))


def block_weights(block: nn.Module) -> list[Tensor]:
    """[convolution as a matrix (I, O), gamma (1, O), beta (1, O)] of matchnet.encoders.conv4.conv_block."""
    assert isinstance(block, nn.Sequential)
    convolution, normalisation = block[0], block[1]
    assert isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d)
    gamma_1O, beta_1O = normalisation.weight.unsqueeze(0), normalisation.bias.unsqueeze(0)
    return [convolution.weight.flatten(1).T, gamma_1O, beta_1O]


def apply_block(column_ET: Tensor, block: nn.Module, conv_EIO: Tensor, gamma_E1O: Tensor,
                beta_E1O: Tensor) -> Tensor:
    """conv_block in evaluation mode with each episode's own weights: columns -> (E, T, O, H, W)."""
    T_H_W_4 = column_ET.shape[1:-1]
    assert isinstance(block, nn.Sequential) and isinstance(block[1], nn.BatchNorm2d)
    normalisation = block[1]
    mean_O, variance_O = normalisation.running_mean, normalisation.running_var
    assert mean_O is not None and variance_O is not None
    scale_E1O = gamma_E1O * (variance_O + normalisation.eps).rsqrt()
    shift_E1O = beta_E1O - mean_O * scale_E1O
    output_EBO = column_ET.flatten(1, -2) @ conv_EIO * scale_E1O + shift_E1O
    return block[RELU](output_EBO).unflatten(1, T_H_W_4).amax(4).permute(0, 1, 4, 2, 3)


def softmax_head(feature_ETD: Tensor, weight_EDN: Tensor, bias_E1N: Tensor) -> Tensor:
    return (F.normalize(feature_ETD, dim=-1) @ weight_EDN + bias_E1N).log_softmax(-1)
