"""Images from bytes: decoded with Pillow, checked, cropped to their ink and resized."""

import io

import numpy as np
from PIL import Image

FORMATS = {"png": ("PNG",), "jpg": ("JPEG",)}  # by the extension that samples have in the shards


def open_image(content: bytes, extension: str) -> Image.Image:
    """The decoded image.

    Raises:
        ValueError: empty, cut short, or not an image of the format that the extension names.
    """
    if not content:
        raise ValueError("an image of 0 bytes")
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS[extension])
        image.load()
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a whole {extension} image ({len(content)} bytes: {error})") from error
    return image


def to_pixels(image: Image.Image, size: int, invert: bool, margin: float | None) -> np.ndarray:
    """One channel of size x size, uint8, ink = 255; antialiased.

    Args:
        invert: the file has dark ink on light ground.
        margin: None scales the image as it is; else see `DatasetParams.margin`.
    """
    grey = image.convert("L")
    if margin is not None:
        grey = grey.point(_INVERTED) if invert else grey
        return _place_ink(grey, size, margin)
    pixels = np.asarray(grey.resize((size, size), Image.Resampling.BILINEAR))
    return 255 - pixels if invert else pixels


_INVERTED = [255 - value for value in range(256)]


def _place_ink(grey: Image.Image, size: int, margin: float) -> np.ndarray:
    """The ink's bounding box, its longer side scaled to size * (1 - 2 * margin), in the square's middle."""
    box = grey.getbbox() or (0, 0, grey.width, grey.height)
    width, height = box[2] - box[0], box[3] - box[1]
    scale = size * (1 - 2 * margin) / max(width, height)
    inner = max(round(width * scale), 1), max(round(height * scale), 1)
    placed = Image.new("L", (size, size))
    corner = (size - inner[0]) // 2, (size - inner[1]) // 2
    placed.paste(grey.resize(inner, Image.Resampling.BILINEAR, box=box), corner)
    return np.asarray(placed)
