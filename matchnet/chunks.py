"""Embedding in chunks: a training step whose memory does not grow with the activations of a large support set.

Each chunk is embedded without keeping its activations, and is embedded again in the backward pass  [Gao et al. 2021,
"Scaling deep contrastive learning batch size under memory limited setup", arXiv 2101.06983]. So a step keeps the
samples, their embeddings, and the activations of one chunk.

Batch normalisation joins the samples of a batch. Its statistics must be over all of them, with the gradient through
these. So each normalisation takes its own pass over the chunks: its statistics depend on those of the layers before.

Shapes: B samples of all chunks, C channels.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from matchnet.running_attention import at_least_float32


@dataclass(frozen=True)
class ChunkSpec:
    """How a step with a large support set is divided.

    Args:
        size: samples that are embedded at once; also how many support items, and queries, the attention scores at once.
        statistics: what batch normalisation takes its mean and variance of. `set` takes all samples, as without chunks.
            Losses and gradients are then those of the plain step, to rounding; it costs a pass over the chunks for each
            normalisation. `chunk` takes the samples of each chunk by itself: one pass, but another function of the
            weights.
    """

    size: int
    statistics: Literal["set", "chunk"] = "set"

    def __post_init__(self) -> None:
        if self.size < 2:
            raise ValueError(f"size is {self.size}; a chunk has at least 2 samples (512 is usual)")


Embed = Callable[[Tensor], Tensor]


class Moments(NamedTuple):
    """The numbers that a normalisation is given: their count in a channel, their mean and their (biased) variance."""

    norm: _BatchNorm
    mean_C: Tensor
    variance_C: Tensor
    numbers: int


def embed_in_chunks(embed: Embed, module: nn.Module, samples: Sequence[Tensor], spec: ChunkSpec) -> list[Tensor]:
    """Apply `embed` to each tensor of `samples`, chunk by chunk; the statistics are over all samples together.

    Args:
        embed: sees one sample by itself, apart from batch normalisations.
        module: contains the batch normalisations. With statistics of the `set`, each of them may be used only once.
        samples: tensors (B, ...).
    """
    # chunks of equal size, because a chunk of one sample has no variance
    chunks = [chunk for sample_B in samples for chunk in sample_B.tensor_split(-(-len(sample_B) // spec.size))]
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm) and norm.training]
    if spec.statistics == "chunk":
        return _regrouped([_recomputed(embed, norms, chunk) for chunk in chunks], samples)
    known: dict[_BatchNorm, Moments] = {}
    while True:
        up_to_unknown = partial(_up_to_unknown, embed, norms, dict(known))
        found = [_recomputed(up_to_unknown, [], chunk) for chunk in chunks]
        if isinstance(found[0], Tensor):
            return _regrouped(found, samples)
        moments = _joined(found)
        _update_running(moments)
        known[moments.norm] = moments


def _regrouped(features: list[Tensor], samples: Sequence[Tensor]) -> list[Tensor]:
    return list(torch.cat(features).split([len(sample_B) for sample_B in samples]))


def _recomputed(call: Callable, norms: list[_BatchNorm], chunk: Tensor) -> Any:
    """`call(chunk)`, whose activations the backward pass computes again, without moving running statistics again."""
    return checkpoint(call, chunk, use_reentrant=False, context_fn=lambda: (nullcontext(), _not_running(norms)))


@contextmanager
def _not_running(norms: list[_BatchNorm]) -> Iterator[None]:
    """Keep running statistics as they are while the block lasts."""
    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, count in kept:
            norm.momentum, norm.num_batches_tracked = momentum, count


class _Reached(Exception):
    """A normalisation whose statistics are not known yet."""

    def __init__(self, moments: Moments) -> None:
        super().__init__()
        self.moments = moments


def _up_to_unknown(embed: Embed, norms: list[_BatchNorm], known: dict[_BatchNorm, Moments],
                   chunk: Tensor) -> Tensor | Moments:
    """Embeddings of the chunk; or, if a normalisation's statistics are still unknown, this chunk's part of them."""

    def normalise(norm: _BatchNorm, value: Tensor) -> Tensor:
        if norm not in known:
            raise _Reached(_moments(norm, value))
        return _normalised(value, known[norm])

    try:
        for norm in norms:
            norm.forward = partial(normalise, norm)  # type: ignore[method-assign]
        return embed(chunk)
    except _Reached as reached:
        return reached.moments
    finally:
        for norm in norms:
            del norm.forward


def _moments(norm: _BatchNorm, value: Tensor) -> Moments:
    others = [axis for axis in range(value.ndim) if axis != 1]
    variance_C, mean_C = torch.var_mean(at_least_float32(value), others, correction=0)
    return Moments(norm, mean_C, variance_C, value.numel() // value.shape[1])


def _joined(parts: list[Moments]) -> Moments:
    """Mean and variance of all, without the difference of two large sums  [Chan, Golub and LeVeque 1983]."""
    numbers = sum(part.numbers for part in parts)
    share_P1 = parts[0].mean_C.new_tensor([part.numbers / numbers for part in parts]).unsqueeze(1)
    mean_PC, variance_PC = (torch.stack([getattr(part, name) for part in parts]) for name in ("mean_C", "variance_C"))
    mean_C = (share_P1 * mean_PC).sum(0)
    variance_C = (share_P1 * (variance_PC + (mean_PC - mean_C).square())).sum(0)
    return Moments(parts[0].norm, mean_C, variance_C, numbers)


def _normalised(value: Tensor, moments: Moments) -> Tensor:
    norm = moments.norm
    scale_C = (moments.variance_C + norm.eps).rsqrt()
    if norm.weight is not None:
        scale_C = scale_C * norm.weight
    shift_C = -moments.mean_C * scale_C
    if norm.bias is not None:
        shift_C = shift_C + norm.bias
    channels = (-1, *[1] * (value.ndim - 2))
    return torch.addcmul(shift_C.view(channels), value, scale_C.view(channels)).to(value.dtype)


@torch.no_grad()
def _update_running(moments: Moments) -> None:
    norm = moments.norm
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    weight = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(moments.mean_C.to(norm.running_mean), weight)
    unbiased_C = moments.variance_C * (moments.numbers / (moments.numbers - 1))
    norm.running_var.lerp_(unbiased_C.to(norm.running_var), weight)
