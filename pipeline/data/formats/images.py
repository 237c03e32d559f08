"""Images from bytes, decoded and checked, and the preparation of a dataset's images for a model.

JPEGs by simplejpeg, which gives Pillow's pixels 1.3 times as fast; all else by matchnet.pictures.
"""

from collections.abc import Mapping
from typing import Any, Literal

import simplejpeg
from PIL import Image

from matchnet.pictures import MAX_PIXELS, PictureError, check_size, format_of, read_picture
from matchnet.preparation import Kind, Preparation
from pipeline.data.spec import OF_PICTURE_FILES

FORMATS = {"png": "PNG", "jpg": "JPEG"}  # extension of samples in the shards -> Pillow's name of the format
DRAWINGS = ("omniglot", "mnist", "glyphs")  # sources
PHOTOGRAPHS = ("imagenet", "mini_imagenet")


def preparation_of(parameters: Mapping[str, Any], sample_shape: tuple[int, ...]) -> Preparation:
    """Preparation of a dataset's images by its `Manifest.parameters`, for a model that takes (C, size, size)."""
    channels: Literal[1, 3] = 1 if sample_shape[0] == 1 else 3
    sections = [parameters[name] for name in ("imagenet", *OF_PICTURE_FILES) if name in parameters]
    central_crop = sections[0].get("central_crop") if sections else None
    source, invert, margin = parameters.get("source"), parameters["invert"], parameters["margin"]
    kind: Kind | None = "photographs" if source in PHOTOGRAPHS else None
    if source in DRAWINGS or invert or margin is not None:
        kind = "drawings"
    return Preparation(channels=channels, size=sample_shape[-1], kind=kind, invert=invert, margin=margin,
                       upright=parameters.get("upright", False), central_crop=central_crop)


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
