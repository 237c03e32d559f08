"""Photographs of ImageNet as they are found, and as they are stored: upright, RGB or grey, whole.

Known of ILSVRC2012: a PNG named JPEG (n02105855_2933), 22 JPEGs in CMYK, some with an EXIF rotation.
"""

import io
import struct
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

from pipeline.data.datasets.synset_archive import AGAIN, ArchiveReader
from pipeline.data.raw import MendingReader, RawSample

UPRIGHT = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
           5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
           8: Image.Transpose.ROTATE_90}
_ORIENTATION = 0x0112  # EXIF's tag


class Photograph(NamedTuple):
    """Pixels, (H, W, 3) or grey (H, W), uint8; and whether it was odd: then its bytes cannot be kept as they are."""

    pixels: np.ndarray
    odd: bool


def open_photograph(content: bytes, oddities: Counter[str], keep_damaged: bool) -> Photograph:
    """Decode to RGB or grey, upright; what had to be mended is counted in `oddities`.

    simplejpeg decodes JPEGs: 1.4 times as fast as Pillow, to the same pixels, and it reports damage that Pillow passes
    over. Pillow decodes what it cannot (CMYK, rare samplings, PNG).

    Raises:
        ValueError: empty, cut short, damaged (unless `keep_damaged`, where Pillow can make an image of it), or of
            another format.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of EXIF that is cut short
            image = Image.open(io.BytesIO(content), formats=("JPEG", "PNG"))
            orientation = _orientation(image)
        decoded, damaged = _decode(content, image, keep_damaged)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a whole JPEG ({len(content):,} bytes: {error})") from error
    found = {"PNG named JPEG": image.format == "PNG", "CMYK JPEG": image.mode == "CMYK",
             "EXIF rotation": orientation in UPRIGHT, "damaged JPEG": damaged}
    oddities.update(name for name, is_so in found.items() if is_so)
    return Photograph(_turn(decoded, orientation), any(found.values()))


def to_jpeg(content: bytes, shorter_side: int | None, quality: int, oddities: Counter[str],
            keep_damaged: bool = False) -> bytes:
    """The photograph as a whole JPEG whose shorter side is at most `shorter_side`; the same bytes where it is one."""
    pixels, odd = open_photograph(content, oddities, keep_damaged)
    if shorter_side is not None and min(pixels.shape[:2]) > shorter_side:
        return encode_jpeg(shrink(Image.fromarray(pixels), shorter_side), quality)
    return encode_jpeg(Image.fromarray(pixels), quality) if odd else content


def shrink(image: Image.Image, shorter_side: int) -> Image.Image:
    """Scaled so that its shorter side is `shorter_side`, antialiased."""
    scale = shorter_side / min(image.size)
    width, height = (max(round(side * scale), 1) for side in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=None)


def encode_jpeg(image: Image.Image, quality: int) -> bytes:
    """JPEG without EXIF, comment or profile (4:2:0, as most of ImageNet)."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, comment=b"")
    return buffer.getvalue()


class PhotographReader(MendingReader):
    """Reads the photographs of one archive and stores each as `store(content, oddities)` makes it."""

    def __init__(self, archive: Path, store: Callable[[bytes, Counter[str]], bytes]) -> None:
        self._archive = ArchiveReader(archive)
        self._store = store
        self.oddities = Counter()

    def __call__(self, sample: RawSample) -> bytes:
        try:
            return self._store(self._archive.read(sample), self.oddities)
        except ValueError as error:
            raise ValueError(f"{self._archive.archive}: {sample.member} (synset/name@offset+bytes): {error}; {AGAIN}; "
                             "or write keep_damaged: true to keep what can be decoded of such images") from error


def _orientation(image: Image.Image) -> int:
    """EXIF's, 1 to 8; 1 (upright) where there is none or EXIF cannot be read."""
    if "exif" not in image.info:
        return 1
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return 1


def _turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    if orientation not in UPRIGHT:
        return pixels
    return np.asarray(Image.fromarray(pixels).transpose(UPRIGHT[orientation]))


def _decode(content: bytes, image: Image.Image, keep_damaged: bool) -> tuple[np.ndarray, bool]:
    """The pixels as the file has them, RGB or grey, and whether it is damaged."""
    if image.format == "JPEG" and image.mode in ("RGB", "L") and _is_for_simplejpeg(content):
        grey = image.mode == "L"
        try:
            pixels_HWC = simplejpeg.decode_jpeg(content, "GRAY" if grey else "RGB")
            return pixels_HWC[:, :, 0] if grey else pixels_HWC, False
        except ValueError:
            if not keep_damaged:
                raise
            return np.asarray(image), True
    return np.asarray(image if image.mode == "L" else image.convert("RGB")), False


def _is_for_simplejpeg(content: bytes) -> bool:
    try:
        simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return False
    return True
