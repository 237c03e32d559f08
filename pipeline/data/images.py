"""Images from bytes, decoded and checked; and how those of a dataset are brought to the square that a model sees.

JPEGs by simplejpeg, which gives Pillow's pixels 1.3 times as fast; all else by Pillow.
"""

import io
from collections.abc import Mapping
from typing import Any, Literal

import simplejpeg
from PIL import Image

from matchnet.preparation import Kind, Preparation

FORMATS = {"png": ("PNG",), "jpg": ("JPEG",)}  # by the extension that samples have in the shards
DRAWINGS = ("omniglot", "mnist", "glyphs")  # sources
PHOTOGRAPHS = ("imagenet", "mini_imagenet")


def preparation_of(parameters: Mapping[str, Any], sample_shape: tuple[int, ...]) -> Preparation:
    """What a dataset's `Manifest.parameters` say of its images, for a model that takes (C, size, size)."""
    channels: Literal[1, 3] = 1 if sample_shape[0] == 1 else 3
    of_imagenet = parameters.get("imagenet") or {}
    return Preparation(channels=channels, size=sample_shape[-1], kind=_kind_of(parameters),
                       invert=parameters["invert"], margin=parameters["margin"],
                       central_crop=of_imagenet.get("central_crop"))


def _kind_of(parameters: Mapping[str, Any]) -> Kind | None:
    source = parameters.get("source")
    if source in DRAWINGS or parameters["invert"] or parameters["margin"] is not None:
        return "drawings"
    return "photographs" if source in PHOTOGRAPHS else None


def open_image(content: bytes, extension: str) -> Image.Image:
    """The decoded image.

    Raises:
        ValueError: empty, cut short, or not an image of the format that the extension names.
    """
    if not content:
        raise ValueError("an image of 0 bytes")
    try:
        if extension == "jpg":
            return Image.fromarray(simplejpeg.decode_jpeg(content, "RGB"))
        image = Image.open(io.BytesIO(content), formats=FORMATS[extension])
        image.load()
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a whole {extension} image ({len(content)} bytes: {error})") from error
    return image
