"""Photographs of ImageNet as they are found, and as they are stored: upright, RGB or grey, whole.

Stored are JPEGs that simplejpeg decodes, since it is what reads them later. Known of ILSVRC2012: a PNG named JPEG
(n02105855_2933), 22 JPEGs in CMYK, some with an EXIF rotation.
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

from pipeline.data.datasets.synset_archive import ArchiveReader
from pipeline.data.raw import MendingReader, RawSample

UPRIGHT = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
           5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
           8: Image.Transpose.ROTATE_90}
COLOURS = {"YCbCr": "RGB", "RGB": "RGB", "Gray": "GRAY"}  # in simplejpeg's words
KEEP = ("the archive was verified, so another copy is no better: write keep_damaged: true, which keeps what can be "
        "decoded at all")
NOT_EVEN_KEPT = ("keep_damaged cannot keep it: if the archive is a sample, leave the image out of it; else the disk "
                 "gives other bytes than were verified: touch the archive and run the download stage, which reads it "
                 "again")
_ORIENTATION = 0x0112  # EXIF's tag


class DamagedPhotograph(ValueError):
    """Bytes that are no whole image; `keep_damaged` may help."""


class Photograph(NamedTuple):
    """Pixels, (H, W, 3) or grey (H, W), uint8; and whether it was odd: then its bytes cannot be kept as they are."""

    pixels: np.ndarray
    odd: bool


def open_photograph(content: bytes, oddities: Counter[str], keep_damaged: bool) -> Photograph:
    """Decode to RGB or grey, upright; what had to be mended is counted in `oddities`.

    simplejpeg decodes JPEGs: 1.3 times as fast as Pillow, to the same pixels, and it reports damage that Pillow passes
    over. Pillow decodes what it cannot (CMYK, rare samplings, PNG).

    Raises:
        DamagedPhotograph: empty, cut short, damaged (unless `keep_damaged`, where Pillow can make an image of it), or
            of another format.
    """
    try:
        pixels, found = _open(content, keep_damaged)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DamagedPhotograph(f"not a whole JPEG ({len(content):,} bytes: {error})") from error
    oddities.update(found)
    return Photograph(pixels, bool(found))


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
    """Reads the photographs of one archive and stores each as `store(content, oddities, keep_damaged)` makes it.

    remedy: of a damaged one, unless such are kept.
    """

    def __init__(self, archive: Path, store: Callable[[bytes, Counter[str], bool], bytes], keep_damaged: bool,
                 remedy: str = KEEP) -> None:
        self._archive = ArchiveReader(archive)
        self._store = store
        self._keep_damaged = keep_damaged
        self._remedy = NOT_EVEN_KEPT if keep_damaged else remedy
        self.oddities = Counter()

    def __call__(self, sample: RawSample) -> bytes:
        content = self._archive.read(sample)
        try:
            return self._store(content, self.oddities, self._keep_damaged)
        except DamagedPhotograph as error:
            raise ValueError(f"{self._archive.place_of(sample)}: {error}; {self._remedy}") from error
        except ValueError as error:
            raise ValueError(f"{self._archive.place_of(sample)}: {error}") from error


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


def _open(content: bytes, keep_damaged: bool) -> tuple[np.ndarray, list[str]]:
    """The pixels, RGB or grey, upright; and what was odd."""
    colours = _colours_of(content)
    if colours and b"Exif" not in content:  # most of them: Pillow need not read their headers as well
        try:
            return _decode_jpeg(content, colours), []
        except ValueError:
            if not keep_damaged:
                raise
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of EXIF that is cut short
        image = Image.open(io.BytesIO(content), formats=("JPEG", "PNG"))
        orientation = _orientation(image)
    pixels, damaged = _decode(content, image, colours, keep_damaged)
    found = {"PNG named JPEG": image.format == "PNG", "CMYK JPEG": image.mode == "CMYK",
             "EXIF rotation": orientation in UPRIGHT, "damaged JPEG": damaged,
             "JPEG of rare sampling": image.format == "JPEG" and image.mode != "CMYK" and colours is None}
    return _turn(pixels, orientation), [name for name, is_so in found.items() if is_so]


def _decode(content: bytes, image: Image.Image, colours: str | None, keep_damaged: bool) -> tuple[np.ndarray, bool]:
    """The pixels as the file has them, RGB or grey, and whether it is damaged."""
    if colours is None:
        return np.asarray(image if image.mode == "L" else image.convert("RGB")), False
    try:
        return _decode_jpeg(content, colours), False
    except ValueError:
        if not keep_damaged:
            raise
        return np.asarray(image), True


def _decode_jpeg(content: bytes, colours: str) -> np.ndarray:
    pixels_HWC = simplejpeg.decode_jpeg(content, colours)
    return pixels_HWC[:, :, 0] if colours == "GRAY" else pixels_HWC


def _colours_of(content: bytes) -> str | None:
    """What simplejpeg is to decode to; None for what it cannot decode."""
    try:
        return COLOURS.get(simplejpeg.decode_jpeg_header(content)[2])
    except (ValueError, KeyError):  # a sampling that has no name there
        return None
