"""A running average of the weights, which classifies better than the weights themselves while the rate is high.

Polyak and Juditsky 1992; as Szegedy et al. 2016 (arXiv 1512.00567, section 8) evaluate Inception: "evaluations are
performed using a running average of the parameters computed over time".
"""

import copy
from typing import Any

import torch

from matchnet.methods.base import Method


class Average:
    """`method` is a copy whose weights are the average: mean <- decay * mean + (1 - decay) * weight, at each step.

    The running statistics of batch normalisation are averaged as well, so that they are those of the averaged weights'
    time; whole numbers (its count of batches) are copied. The decay of step t is at most (1 + t) / (10 + t), or a short
    run would end near its first weights.

    Args:
        state: the average's state dict if a run goes on; None begins with the weights as they are.
    """

    def __init__(self, method: Method, decay: float, state: dict[str, Any] | None = None) -> None:
        self.decay = decay
        self.method = copy.deepcopy(method).requires_grad_(False)
        if state is not None:
            self.method.load_state_dict(state)

    @torch.no_grad()
    def update(self, method: Method, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        means, values = (list(holder.state_dict().values()) for holder in (self.method, method))
        averaged = [i for i, mean in enumerate(means) if mean.is_floating_point()]
        # a few kernels of a GPU in place of hundreds
        torch._foreach_lerp_([means[i] for i in averaged], [values[i] for i in averaged], 1 - decay)
        for mean, value in zip(means, values, strict=True):
            if not mean.is_floating_point():
                mean.copy_(value)
