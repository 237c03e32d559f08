"""Weights for Inception v3 that anybody can make again, and the layout that torchvision gives them."""

from math import prod, sqrt
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

Layout = dict[str, tuple[int, ...]]


def torchvision_layout() -> Layout:
    """Names and shapes of the state dict of torchvision 0.29's inception_v3, 1000 classes, auxiliary head included."""
    lines = Path(__file__).with_name("inception_v3_layout.txt").read_text().splitlines()
    return {name: () if shape == "scalar" else tuple(map(int, shape.split("x")))
            for name, shape in map(str.split, lines)}


def weights_of(layout: Layout) -> dict[str, Tensor]:
    """float64, drawn in the order of the layout from a stream that numpy keeps for good; activations stay moderate."""
    stream = np.random.RandomState(0)
    return {name: torch.from_numpy(np.asarray(_values(name, stream.uniform(-1, 1, shape)))) for name, shape
            in layout.items()}


def _values(name: str, uniform: np.ndarray) -> np.ndarray:
    if name.endswith("num_batches_tracked"):
        return np.array(7)
    if name.endswith(("bn.weight", "running_var")):
        return 1 + 0.2 * uniform
    if uniform.ndim == 1:  # biases, means
        return 0.1 * uniform
    return uniform * sqrt(6 / prod(uniform.shape[1:]))


def photograph(height: int, width: int) -> Tensor:
    """(1, 3, H, W) float64 in [0, 1]: waves of many lengths."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (3 + 2 * c) + y * y / (500 + 90 * c)) * np.cos(y / (4 + c)) for c in range(3)]
    return torch.from_numpy(np.stack(waves)[None] / 2 + 0.5)
