"""Small random affine distortions of training images.

A departure from the paper, which rotates by multiples of 90 degrees only (matchnet.store.with_rotations); Koch et al.
2015 distort like this for their siamese nets. Row `short-no-affine` of results/omniglot.md shows its worth.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from matchnet.devices import to_device
from matchnet.random_words import random_words, to_uniform

Fill = Literal["background", "reflection"]
STREAM, MIRROR_STREAM = 0xAFF1, 0xF11B  # keep these words apart from those of the episodes


@dataclass(frozen=True)
class AffineSpec:
    """Each image gets its own distortion, drawn uniformly within these bounds.

    Args:
        max_rotation: degrees, either way.
        max_shear: tangent of the angle, along either axis.
        max_scale: either axis is scaled by 1 - this to 1 + this.
        max_translation: pixels, along either axis.
        mirror: true mirrors every second image, left to right. Not for characters.
        fill: what stands where the distortion reaches beyond the image. `background`, for drawings, is the median of
            the image's outermost pixels in each channel. `reflection`, for photographs, mirrors the image there.
    """

    max_rotation: float = 10.0
    max_shear: float = 0.15
    max_scale: float = 0.15
    max_translation: float = 2.0
    mirror: bool = False
    fill: Fill = "background"

    def __post_init__(self) -> None:
        for field in ("max_rotation", "max_shear", "max_scale", "max_translation"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field} is {getattr(self, field)}; a bound is at least 0 (0 switches it off)")
        if self.max_scale >= 1:
            raise ValueError(f"max_scale is {self.max_scale}; it must be below 1, or images vanish")
        if self.fill not in get_args(Fill):
            raise ValueError(f"fill is {self.fill!r}; write background for drawings or reflection for photographs")


def distort(image_ETCHW: Tensor, spec: AffineSpec, seed: int, numbers: Sequence[int]) -> Tensor:
    """Distort the T images of each of E episodes; a pure function of (image, spec, seed, episode number).

    Args:
        image_ETCHW: float images; `spec.fill` says what is outside of them.
        numbers: the E episode numbers.
    """
    E, T, _, height, width = image_ETCHW.shape
    uniform = to_uniform(random_words(seed, STREAM, numbers, T * 7)).reshape(E * T, 7) * 2 - 1
    theta_B23 = torch.from_numpy(_affine_matrices(uniform, spec, height, width)).to(image_ETCHW.dtype)
    if spec.mirror:  # before the copy, because indexing by a mask waits for a GPU
        turned_B = torch.from_numpy(to_uniform(random_words(seed, MIRROR_STREAM, numbers, T)).reshape(E * T) < 0.5)
        theta_B23[turned_B, 0] *= -1
    theta_B23 = to_device(theta_B23, image_ETCHW.device)
    image_BCHW = image_ETCHW.flatten(0, 1)
    grid_BHW2 = F.affine_grid(theta_B23, list(image_BCHW.shape), align_corners=False)
    if spec.fill == "reflection":
        distorted_BCHW = F.grid_sample(image_BCHW, grid_BHW2, padding_mode="reflection", align_corners=False)
    else:
        ground_BC11 = background(image_BCHW)
        distorted_BCHW = F.grid_sample(image_BCHW - ground_BC11, grid_BHW2, align_corners=False).add_(ground_BC11)
    return distorted_BCHW.view_as(image_ETCHW)


def background(image_BCHW: Tensor) -> Tensor:
    """The median of the outermost pixels of each channel of each image, (B, C, 1, 1)."""
    edges = image_BCHW[..., 0, :], image_BCHW[..., -1, :], image_BCHW[..., 0], image_BCHW[..., -1]
    return torch.cat(edges, dim=-1).median(dim=-1).values[..., None, None]


def _affine_matrices(uniform_B7: np.ndarray, spec: AffineSpec, height: int, width: int) -> np.ndarray:
    """(B, 2, 3): from output to input coordinates (x, y), both in [-1, 1], as affine_grid wants them."""
    size = np.array([[width], [height]])
    angle = uniform_B7[:, 0] * math.radians(spec.max_rotation)
    shear_x, shear_y = uniform_B7[:, 1:3].T * spec.max_shear
    scale_x, scale_y = 1 + uniform_B7[:, 3:5].T * spec.max_scale
    cos, sin, one = np.cos(angle), np.sin(angle), np.ones_like(angle)
    rotation = np.array([[cos, -sin], [sin, cos]]).transpose(2, 0, 1)
    shear = np.array([[one, shear_x], [shear_y, one]]).transpose(2, 0, 1)
    scale = np.stack([scale_x, scale_y], axis=-1)[:, None, :]
    linear = rotation @ shear * scale * size.T / size  # in pixels: a rotation of an oblong image stays a rotation
    shift = uniform_B7[:, 5:7, None] * spec.max_translation * 2 / size
    return np.concatenate([linear, shift], axis=2)
