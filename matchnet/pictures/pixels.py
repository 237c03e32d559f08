"""From a decoded picture to the pixels that a model takes. Imports no torch: processes that decode start quickly."""

import math
from dataclasses import replace
from typing import Literal

import numpy as np
from PIL import Image

from matchnet.preparation import Preparation

Ink = Literal["auto", "dark", "light"]  # polarity of a drawing in its file; auto looks at its edge
EDGE = 32  # the edge that shows what the ground is: a picture's side divided by this
ENLARGED = 4  # times the side that the model sees: what a drawing is enlarged to before it is sheared
COLOURED = 24  # least difference of a pixel's channels that shows as a colour, of 255
_INVERTED = [255 - value for value in range(256)]


def to_pixels(image: Image.Image, preparation: Preparation) -> np.ndarray:
    """(channels, size, size) uint8, antialiased: one channel, or red, green and blue. Drawings have ink = 255."""
    size, channels = preparation.size, preparation.channels
    image = image.convert("L" if channels == 1 else "RGB")
    if preparation.margin is not None:
        ink = image.point(_INVERTED) if preparation.invert else image
        return _place_ink(_upright(ink, size) if preparation.upright else ink, size, preparation.margin)[None]
    box = None if preparation.central_crop is None else _central_square(image, preparation.central_crop)
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))
    pixels_CHW = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
    return 255 - pixels_CHW if preparation.invert else pixels_CHW


def _central_square(image: Image.Image, share: float) -> tuple[float, float, float, float]:
    side = min(image.size) * share
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return left, top, left + side, top + side


def _upright(grey: Image.Image, size: int) -> Image.Image:
    """Shear a drawing along its rows, until the height of ink says nothing about its place from left to right.

    The slope is the covariance of row and column, weighted by ink, divided by the variance of the row: "deslanting"
    [LeCun et al. 1998, sec. III.A]. A small drawing is enlarged first, so that the shear does not blur it.
    """
    factor = max(1, math.ceil(ENLARGED * size / max(grey.size)))
    around = [side // 4 + 1 for side in grey.size]  # room for what the shear moves out of the picture
    wide = Image.new("L", (grey.width + 2 * around[0], grey.height + 2 * around[1]))
    wide.paste(grey, (around[0], around[1]))
    wide = wide.resize((wide.width * factor, wide.height * factor), Image.Resampling.BICUBIC)
    ink_HW = np.asarray(wide, np.float64)
    if not ink_HW.any():
        return grey
    row_H, column_W = np.arange(wide.height), np.arange(wide.width)
    row_H = row_H - np.average(row_H, weights=ink_HW.sum(1))
    column_W = column_W - np.average(column_W, weights=ink_HW.sum(0))
    variance = (row_H ** 2 * ink_HW.sum(1)).sum()
    slope = float(row_H @ ink_HW @ column_W / variance) if variance else 0.0
    middle = 0.5 - row_H[0]  # the mean row of the ink, which stays where it is
    return wide.transform(wide.size, Image.Transform.AFFINE, (1, slope, -slope * middle, 0, 1, 0),
                          Image.Resampling.BILINEAR)


def _place_ink(grey: Image.Image, size: int, margin: float) -> np.ndarray:
    """Put the ink's bounding box in the square's middle, its longer side scaled to size * (1 - 2 * margin)."""
    box = grey.getbbox() or (0, 0, grey.width, grey.height)
    width, height = box[2] - box[0], box[3] - box[1]
    scale = size * (1 - 2 * margin) / max(width, height)
    inner = max(round(width * scale), 1), max(round(height * scale), 1)
    placed = Image.new("L", (size, size))
    corner = (size - inner[0]) // 2, (size - inner[1]) // 2
    placed.paste(grey.resize(inner, Image.Resampling.BILINEAR, box=box), corner)
    return np.asarray(placed)


def prepared_for(image: Image.Image, preparation: Preparation, ink: Ink) -> Preparation:
    """The preparation with the polarity of this picture, where the model is of drawings."""
    if preparation.kind != "drawings":
        return preparation
    return replace(preparation, invert=_has_light_ground(image) if ink == "auto" else ink == "dark")


def _has_light_ground(image: Image.Image) -> bool:
    """Whether the median of the edge is lighter than midway between the darkest and the lightest pixel."""
    grey_HW = np.asarray(image.convert("L"))
    edge = max(1, min(grey_HW.shape) // EDGE)
    ring = [grey_HW[:edge], grey_HW[-edge:], grey_HW[edge:-edge, :edge], grey_HW[edge:-edge, -edge:]]
    ground = np.median(np.concatenate([part.ravel() for part in ring]))
    low, high = int(grey_HW.min()), int(grey_HW.max())
    return bool(ground > ((low + high) / 2 if low < high else 127.5))


def coloured(image: Image.Image) -> bool:
    if image.mode == "L":
        return False
    small_HWC = np.asarray(image.resize((16, 16), Image.Resampling.BOX)).astype(int)
    return bool((np.ptp(small_HWC, axis=2) > COLOURED).any())
