"""Photographs of ImageNet as they are found, and as they are stored: upright, RGB or grey, whole.

We store JPEGs that simplejpeg decodes, since simplejpeg reads them later. ILSVRC2012 is known to have a PNG named JPEG
(n02105855_2933), 22 JPEGs in CMYK, and some with an EXIF rotation.
"""

import io
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

from matchnet.messages import said
from matchnet.pictures import (
    MAX_PIXELS,
    PictureError,
    check_size,
    format_of,
    orientation_of,
    read_picture,
    turned_upright,
)
from matchnet.pictures.reading import REPLACE
from pipeline.data.raw.readers.imagenet_tars import ArchiveReader
from pipeline.data.raw.source import MendingReader, RawSample

COLOURS = {"YCbCr": "RGB", "RGB": "RGB", "Gray": "GRAY"}  # in simplejpeg's words
KEEP = "write keep_damaged: true, which keeps it as it decodes: the archive was verified, so another copy is no better"
NOTHING_TO_KEEP = ("nothing of it can be decoded: if the archive is a sample, leave the image out of it; else the disk "
                   "gives other bytes than were verified: touch the archive and run the download stage, which reads it "
                   "again")


class Photograph(NamedTuple):
    """Pixels, (H, W, 3) or grey (H, W), uint8; and whether it was odd: then its bytes cannot be kept as they are."""

    pixels: np.ndarray
    odd: bool


def open_photograph(content: bytes, oddities: Counter[str], keep_damaged: bool,
                    max_pixels: int = MAX_PIXELS) -> Photograph:
    """Decode to RGB or grey, upright; what had to be mended is counted in `oddities`.

    simplejpeg decodes JPEGs: 1.3 times as fast as Pillow, to the same pixels, and it reports damage that Pillow passes
    over. Files that it cannot decode (CMYK, rare samplings, other formats) are read as any picture is.

    Raises:
        PictureError: empty, cut short, damaged (unless `keep_damaged`, where anything of it can be decoded), or larger
            than `max_pixels`.
    """
    found: Counter[str] = Counter()
    try:
        header = _header_of(content)
        if header is None:
            image = read_picture(content, max_pixels=max_pixels, keep_damaged=keep_damaged, oddities=found)
            kind = format_of(content)
            found["JPEG of rare sampling" if kind == "JPEG" else f"{kind} named JPEG"] += not found["CMYK JPEG"]
            pixels = np.asarray(image)
        else:
            check_size(header.width, header.height, max_pixels)
            pixels = _decode_jpeg(content, header.colours, keep_damaged, found)
            if b"Exif" in content and (orientation := orientation_of(content)) != 1:
                found["EXIF rotation"] += 1
                pixels = np.asarray(turned_upright(Image.fromarray(pixels), orientation))
    except PictureError as error:
        raise PictureError(f"not a whole JPEG ({len(content):,} bytes: {error.reason})", error.remedy, error.keepable
                           ) from error
    oddities.update(+found)
    return Photograph(pixels, bool(+found))


def to_jpeg(content: bytes, shorter_side: int | None, quality: int, oddities: Counter[str],
            keep_damaged: bool = False, max_pixels: int = MAX_PIXELS) -> bytes:
    """The photograph as a whole JPEG whose shorter side is at most `shorter_side`; the same bytes where it is one."""
    pixels, odd = open_photograph(content, oddities, keep_damaged, max_pixels)
    if shorter_side is not None and min(pixels.shape[:2]) > shorter_side:
        return encode_jpeg(shrink(Image.fromarray(pixels), shorter_side), quality)
    return encode_jpeg(Image.fromarray(pixels), quality) if odd else content


def shrink(image: Image.Image, shorter_side: int) -> Image.Image:
    """Scale a photograph, antialiased, so that its shorter side is `shorter_side`."""
    scale = shorter_side / min(image.size)
    width, height = (max(round(side * scale), 1) for side in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=None)


def encode_jpeg(image: Image.Image, quality: int) -> bytes:
    """JPEG without EXIF, comment or profile (4:2:0, as most of ImageNet). Raises ValueError where it cannot be one."""
    buffer = io.BytesIO()
    try:
        image.save(buffer, "JPEG", quality=quality, comment=b"")
    except (OSError, ValueError) as error:  # a side of more than 65,500 pixels
        raise ValueError(f"a picture of {image.width:,} x {image.height:,} pixels cannot be a JPEG ({said(error)}); "
                         "write a shorter_side, or leave it out") from error
    return buffer.getvalue()


def encode_png(image: Image.Image) -> bytes:
    """PNG by Huffman codes alone: zlib's versions differ in all else, and the same input is to give the same bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=9, compress_type=zlib.Z_HUFFMAN_ONLY)
    return buffer.getvalue()


class PhotographReader(MendingReader):
    """Reads the photographs of one archive and stores each as `store(content, oddities, keep_damaged)` makes it.

    remedy: the remedy for a damaged photograph that `keep_damaged` would keep.
    """

    def __init__(self, archive: Path, store: Callable[[bytes, Counter[str], bool], bytes], keep_damaged: bool,
                 remedy: str = KEEP) -> None:
        self._archive = ArchiveReader(archive)
        self._store = store
        self._keep_damaged = keep_damaged
        self._remedy = remedy
        self.oddities = Counter()

    def __call__(self, sample: RawSample) -> bytes:
        content = self._archive.read(sample)
        place = self._archive.described(sample)
        try:
            return self._store(content, self.oddities, self._keep_damaged)
        except PictureError as error:
            remedy = self._remedy if error.keepable else error.remedy if error.remedy != REPLACE else NOTHING_TO_KEEP
            raise ValueError(f"{place}: {error.reason}; {remedy}") from error
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error


class _Header(NamedTuple):
    """The header of a JPEG that simplejpeg decodes; colours: the colour space to decode to."""

    width: int
    height: int
    colours: str


def _header_of(content: bytes) -> _Header | None:
    """The header of a JPEG; None if simplejpeg cannot decode it."""
    try:
        height, width, colours = simplejpeg.decode_jpeg_header(content)[:3]
    except (ValueError, KeyError):  # a sampling that has no name there
        return None
    return _Header(width, height, COLOURS[colours]) if colours in COLOURS else None


def _decode_jpeg(content: bytes, colours: str, keep_damaged: bool, found: Counter[str]) -> np.ndarray:
    """(H, W, 3) or grey (H, W). Raises PictureError."""
    try:
        pixels_HWC = simplejpeg.decode_jpeg(content, colours)
    except (ValueError, MemoryError) as error:
        try:
            pixels_HWC = simplejpeg.decode_jpeg(content, colours, strict=False)
        except (ValueError, MemoryError):
            raise PictureError(said(error), REPLACE) from error
        if not keep_damaged:
            raise PictureError(said(error), KEEP, keepable=True) from error
        found["damaged JPEG"] += 1
    return pixels_HWC[:, :, 0] if colours == "GRAY" else pixels_HWC
