"""A random part of an image, resized to the square that a model sees  [Szegedy et al. 2015, section 6].

"sampling of various sized patches of the image whose size is distributed evenly between 8% and 100% of the image area
with aspect ratio constrained to the interval [3/4, 4/3]" (arXiv 1409.4842). Where none of 10 such patches fits into the
image, the largest in its middle is taken that has an allowed ratio. The logarithm of the ratio is uniform.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

TRIES = 10
WORDS = 4 * TRIES + 1  # uniform numbers that a crop takes
LARGEST_ASPECT = 4 / 3


@dataclass(frozen=True)
class CropSpec:
    """smallest: share of the image's area. flip: whether every second image is mirrored, left to right."""

    smallest: float = 0.08
    flip: bool = True


def crop(image: Image.Image, channels: int, size: int, spec: CropSpec, uniform_W: np.ndarray) -> np.ndarray:
    """(size, size, channels) uint8, antialiased; WORDS numbers in [0, 1) decide which part of the image it is."""
    mode = "L" if channels == 1 else "RGB"
    image = image if image.mode == mode else image.convert(mode)  # convert copies
    box = random_box(image.width, image.height, spec.smallest, uniform_W[1:])
    part = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    pixels_HWC = np.asarray(part).reshape(size, size, channels)
    return pixels_HWC[:, ::-1] if spec.flip and uniform_W[0] < 0.5 else pixels_HWC


def random_box(width: int, height: int, smallest: float, uniform_W: np.ndarray) -> tuple[float, float, float, float]:
    """Left, top, right and bottom, in fractions of pixels."""
    for area, aspect, left, top in uniform_W.reshape(TRIES, 4).tolist():
        side = math.sqrt((smallest + (1 - smallest) * area) * width * height)
        stretch = LARGEST_ASPECT ** (aspect - 0.5)  # the root of the ratio
        w, h = side * stretch, side / stretch
        if w <= width and h <= height:
            return _box(width, height, w, h, left, top)
    return _box(width, height, min(width, height * LARGEST_ASPECT), min(height, width * LARGEST_ASPECT), 0.5, 0.5)


def _box(width: int, height: int, w: float, h: float, left: float, top: float) -> tuple[float, float, float, float]:
    x, y = left * (width - w), top * (height - h)
    return x, y, min(x + w, width), min(y + h, height)
