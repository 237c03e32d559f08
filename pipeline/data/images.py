"""Images from bytes: decoded, checked, cropped and resized.

JPEGs by simplejpeg, which gives Pillow's pixels 1.3 times as fast; all else by matchnet.pictures, resizing by Pillow.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

from matchnet.pictures import MAX_PIXELS, PictureError, check_size, format_of, read_picture
from pipeline.data.spec import OF_PICTURE_FILES

FORMATS = {"png": "PNG", "jpg": "JPEG"}  # by the extension that samples have in the shards


@dataclass(frozen=True)
class View:
    """How an image is brought to the square that a model sees; facts of the dataset, from its manifest.

    invert: the file has dark ink on light ground.
    margin: None scales the image as it is; else see `DatasetParams.margin`. For drawings, of one channel.
    central_crop: None takes all of the image, whatever its shape; else the square in its middle whose side is this
        share of the shorter one. For photographs.
    """

    invert: bool = False
    margin: float | None = None
    central_crop: float | None = None

    @staticmethod
    def from_parameters(parameters: Mapping[str, Any]) -> "View":
        """From `Manifest.parameters`."""
        sections = [parameters[name] for name in ("imagenet", *OF_PICTURE_FILES) if name in parameters]
        photographs: Mapping[str, Any] = sections[0] if sections else {}
        return View(parameters["invert"], parameters["margin"], photographs.get("central_crop"))


def open_image(content: bytes, extension: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The decoded image.

    Raises:
        ValueError: empty, cut short, larger than `max_pixels`, or not an image of the format that the extension names.
    """
    if not content:
        raise ValueError("an image of 0 bytes")
    try:
        if extension == "jpg":
            height, width = simplejpeg.decode_jpeg_header(content)[:2]
            check_size(width, height, max_pixels)
            return Image.fromarray(simplejpeg.decode_jpeg(content, "RGB"))
        if (found := format_of(content)) != FORMATS[extension]:
            raise ValueError(f"it is {f'a {found}' if found else 'of no known format'}")
        return read_picture(content, max_pixels=max_pixels)
    except ValueError as error:
        reason = error.reason if isinstance(error, PictureError) else error
        raise ValueError(f"not a whole {extension} image ({len(content):,} bytes: {reason})") from error


def to_pixels(image: Image.Image, channels: int, size: int, view: View) -> np.ndarray:
    """(channels, size, size) uint8, antialiased: one channel with ink = 255, or red, green and blue."""
    image = image.convert("L" if channels == 1 else "RGB")
    if view.margin is not None:
        return _place_ink(image.point(_INVERTED) if view.invert else image, size, view.margin)[None]
    box = None if view.central_crop is None else _central_square(image, view.central_crop)
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))
    pixels_CHW = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
    return 255 - pixels_CHW if view.invert else pixels_CHW


def _central_square(image: Image.Image, share: float) -> tuple[float, float, float, float]:
    side = min(image.size) * share
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return left, top, left + side, top + side


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
