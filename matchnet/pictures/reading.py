"""Reads one picture, whatever wrote it: upright, whole, 8 bits, grey or RGB, on paper where it is transparent.

A picture is read right or refused: a depth, a mode or a size that cannot be told is an error, never a guess in silence.
"""

import io
import os
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from matchnet.messages import said

MAX_PIXELS = 120_000_000  # 360 MB as RGB; most cameras make fewer
WHITE = 255
Paper = int | tuple[int, int, int]  # a grey value or red, green and blue, 0 to 255

_PLUGINS: dict[str, Callable[[BinaryIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile, "PNG": PngImageFile, "WebP": WebPImageFile, "BMP": BmpImageFile, "TIFF": TiffImageFile,
    "GIF": GifImageFile}
FORMATS = tuple(_PLUGINS)
_SIGNATURES = ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"BM", "BMP"), (b"GIF87a", "GIF"),
               (b"GIF89a", "GIF"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"II+\0", "TIFF"), (b"MM\0+", "TIFF"))
_SIGNATURE_BYTES = 12
_END_OF_JPEG = b"\xff\xd9"
_ORIENTATION, _PHOTOMETRIC, _MIN_IS_WHITE = 0x0112, 262, 0  # tags of EXIF and TIFF
_UPRIGHT = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_90}
_STEPS = {"L;2": 85, "L;4": 17}  # factors by which Pillow scales a PNG's grey of 2 and 4 bits to 8
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_DEEP = (*_SIXTEEN_BITS, "I", "F")
_COLOUR_MODES = ("P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV")
KEEP = "what is there can be decoded: keep_damaged keeps it so"
REPLACE = "replace it with a whole copy, or leave it out"
RAISE = "raise that if you trust the file, or "  # `that` is a parameter that the reason names
_LARGER = f"{RAISE}make the picture smaller"
_ANEW = "save it again as PNG or JPEG, or leave it out"
_quiet = threading.RLock()  # one thread at a time changes what Python and Pillow keep for the whole process


class PictureError(ValueError):
    """A file that cannot be read right as a picture.

    reason, remedy: the message has both; a caller that knows a better remedy shows the reason alone.
    keepable: whether `keep_damaged` would have kept it.
    """

    def __init__(self, reason: str, remedy: str = "", keepable: bool = False) -> None:
        super().__init__(reason, remedy, keepable)  # all arguments, so that pickle can send the error between processes
        self.reason, self.remedy, self.keepable = reason, remedy, keepable

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}" if self.remedy else self.reason


def first_bytes(path: Path) -> bytes:
    """The first bytes of a file, as many as `format_of` needs; OSError if it cannot be opened."""
    with open(path, "rb") as file:
        return file.read(_SIGNATURE_BYTES)


def format_of(content: bytes) -> str | None:
    """One of FORMATS, by the first bytes of a file; None for anything else."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    return next((name for signature, name in _SIGNATURES if content.startswith(signature)), None)


def read_picture(source: bytes | str | os.PathLike[str] | BinaryIO, *, colour: bool | None = None,
                 paper: Paper = WHITE, max_pixels: int = MAX_PIXELS, keep_damaged: bool = False,
                 oddities: Counter[str] | None = None) -> Image.Image:
    """Decode a JPEG, PNG, WebP, BMP, TIFF or GIF (the first frame or page) to 8 bits a channel, upright.

    Args:
        source: the file's bytes, its path, or the file itself, opened to be read as bytes.
        colour: True gives RGB, False grey; None gives grey for a grey picture and RGB for any other.
        paper: what shows through where the picture is transparent.
        max_pixels: a picture of more is refused before memory is taken for it.
        keep_damaged: a JPEG that is cut short or damaged is kept as it decodes, missing parts grey; else refused.
        oddities: here is counted what had to be mended: a depth that was scaled, transparency that was laid on paper,
            CMYK, an EXIF rotation, damage.
    Returns:
        An image of mode L or RGB.
    Raises:
        PictureError: not a picture of these formats, cut short, damaged, too large, or of a mode or depth whose meaning
            is not known. Names the file if `source` is a path.
        OSError: the file cannot be opened, or the disk fails.
    """
    values = paper if isinstance(paper, tuple) else (paper,)
    if len(values) not in (1, 3) or not all(0 <= value <= 255 for value in values):
        raise ValueError(f"paper is {paper!r}; give a grey value or (red, green, blue), each 0 (black) to 255")
    if max_pixels < 1:
        raise ValueError(f"max_pixels is {max_pixels}; a picture has at least 1")
    found: Counter[str] = Counter()
    try:
        with _opened(source) as file:
            decoded = _decode(file, max_pixels, keep_damaged, found)
            orientation = 1 if decoded.format == "TIFF" else _orientation_of(decoded)  # Pillow turns a TIFF itself
            image = turned_upright(decoded, orientation)
            if orientation != 1:
                image.info = decoded.info
                found["EXIF rotation"] += 1
            image = _flat(image, decoded, paper, found)
    except PictureError as error:
        if not isinstance(source, str | os.PathLike):
            raise
        raise PictureError(f"{os.fspath(source)}: {error.reason}", error.remedy, error.keepable) from error.__cause__
    if oddities is not None:
        oddities.update(found)
    return image if colour is None else image.convert("RGB" if colour else "L")


@contextmanager
def _opened(source: bytes | str | os.PathLike[str] | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(source, str | os.PathLike):
        with open(Path(source), "rb") as file:
            yield file
    elif isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source)
    else:
        yield source if source.seekable() else io.BytesIO(source.read())


def _decode(file: BinaryIO, max_pixels: int, keep_damaged: bool, found: Counter[str]) -> ImageFile.ImageFile:
    """The picture with its pixels, as the file has them."""
    start = file.tell()
    head = file.read(_SIGNATURE_BYTES)
    name = format_of(head)
    if name is None:
        what = f"begins with {head!r}" if head else "is a file of 0 bytes"
        raise PictureError(f"no picture that can be read here ({', '.join(FORMATS)}): it {what}", _ANEW)
    file.seek(start)
    try:
        return _load(file, name, max_pixels)
    except _Undecodable as error:
        file.seek(start)
        whole = io.BytesIO(file.read() + _END_OF_JPEG) if name == "JPEG" else None
        try:
            mended = None if whole is None else _load(whole, name, max_pixels)
        except _Undecodable:
            mended = None
        if mended is None:
            raise PictureError(f"not a whole {name} ({error})", REPLACE) from error.__cause__
        if not keep_damaged:
            raise PictureError(f"not a whole JPEG ({error})", KEEP, keepable=True) from error.__cause__
        found["damaged JPEG"] += 1
        return mended


class _Undecodable(Exception):
    """A decoder's message about a damaged file."""


def _load(file: BinaryIO, name: str, max_pixels: int) -> ImageFile.ImageFile:
    try:
        with _silent(max_pixels):
            image = _PLUGINS[name](file)
            check_size(*image.size, max_pixels)
            if isinstance(image, TiffImageFile):  # reads EXIF as it loads
                image.load()
        if isinstance(image, PngImageFile) and isinstance(image.info.get("transparency"), int):
            image.info["transparency"] *= _STEPS.get(str(image.tile[0].args), 1) if image.tile else 1
        image.load()
    except PictureError:
        raise
    except Image.DecompressionBombError as error:  # before the plugin has told the size
        raise PictureError(f"a {name}, larger than max_pixels ({max_pixels:,})", _LARGER) from error
    except MemoryError as error:
        raise PictureError(f"a {name}, and there is not enough memory for its pixels", "make the picture smaller, or "
                           "leave it out") from error
    except Exception as error:  # decoders of damaged files raise about anything: SyntaxError, KeyError, struct.error
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the disk, not of the picture
        raise _Undecodable(said(error)) from error
    return image


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raises PictureError for a picture without pixels, or with more than `max_pixels`."""
    if width * height > max_pixels:
        raise PictureError(f"a picture of {width:,} x {height:,} pixels, more than max_pixels ({max_pixels:,})",
                           _LARGER)
    if min(width, height) < 1:
        raise PictureError(f"a picture of {width} x {height} pixels", "nothing is in it: leave it out")


@contextmanager
def _silent(max_pixels: int) -> Iterator[None]:
    """Turn off Pillow's warnings (palettes, broken EXIF, large pictures), and its limit of pixels if ours is higher."""
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and max_pixels > limit:
            Image.MAX_IMAGE_PIXELS = max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def orientation_of(content: bytes) -> int:
    """EXIF's orientation of a JPEG, 1 to 8; 1 (upright) if there is none or EXIF cannot be read."""
    try:
        with _silent(MAX_PIXELS):
            return _orientation_of(JpegImageFile(io.BytesIO(content)))
    except Exception:  # any error, as in _load
        return 1


def turned_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn and mirror a picture as EXIF's orientation asks."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _orientation_of(image: ImageFile.ImageFile) -> int:
    if not {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"} & image.info.keys():
        return 1
    try:
        with _silent(MAX_PIXELS):
            orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # the pixels are right even if the EXIF is damaged
        return 1
    return orientation if orientation in _UPRIGHT else 1


def _flat(image: Image.Image, decoded: ImageFile.ImageFile, paper: Paper, found: Counter[str]) -> Image.Image:
    """Make the picture L or RGB of 8 bits a channel, with nothing transparent. `decoded` is the unturned picture."""
    mode, alpha = image.mode, None
    if mode == "CMYK":
        found["CMYK JPEG" if decoded.format == "JPEG" else "CMYK"] += 1
    if mode in ("1", "L", *_DEEP):
        values = image.convert("L") if mode == "1" else image
        transparent = image.info.get("transparency")  # the one value that a grey picture's file calls transparent
        image = _scaled(image, decoded, found) if mode in _DEEP else values
        if isinstance(transparent, int):
            alpha = Image.fromarray(np.where(np.asarray(values) == transparent, 0, 255).astype(np.uint8))
    elif mode in ("LA", "La"):
        image = image.convert("LA")
    elif mode in _COLOUR_MODES:
        with _silent(MAX_PIXELS) if mode in ("P", "PA") else nullcontext():
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    else:
        raise PictureError(f"a picture of mode {mode}, which cannot be read right", _ANEW)
    image.info = {}

    opaque = image
    if image.mode in ("LA", "RGBA"):
        opaque, alpha = image.convert(image.mode.removesuffix("A")), image.getchannel("A")
    if alpha is None or alpha.getextrema() == (255, 255):
        return opaque
    found["transparency laid on paper"] += 1
    red_green_blue = paper if isinstance(paper, tuple) else (paper, paper, paper)
    if opaque.mode == "L" and len(set(red_green_blue)) == 1:
        sheet = Image.new("L", image.size, red_green_blue[0])
    else:
        sheet = Image.new("RGB", image.size, red_green_blue)
    sheet.paste(opaque, mask=alpha)
    return sheet


def _scaled(image: Image.Image, decoded: ImageFile.ImageFile, found: Counter[str]) -> Image.Image:
    """Scale deeper grey to 8 bits. In 32 bits, the largest value tells what white is: 1 (fractions), 255 or 65,535."""
    values_HW = np.asarray(image)
    sixteen = image.mode in _SIXTEEN_BITS or decoded.format == "PNG"
    low, high = values_HW.min(), values_HW.max()
    whites = (65535,) if sixteen else (1, 255, 65535) if image.mode == "F" else (255, 65535)
    white = next((white for white in whites if low >= 0 and high <= white), None)  # NaN fits none
    if white is None:
        kind = "floats" if image.mode == "F" else "32 bits"
        raise PictureError(f"grey values from {low} to {high} ({kind}): which of them is white is not known unless all "
                           "are between 0 and 65,535", "save it with 8 or 16 bits")
    scaled_HW = np.rint(np.multiply(values_HW, 255 / white, dtype=np.float32)).astype(np.uint8)
    if isinstance(decoded, TiffImageFile) and decoded.tag_v2.get(_PHOTOMETRIC) == _MIN_IS_WHITE:
        scaled_HW = 255 - scaled_HW
    found[f"grey of {'16' if sixteen else '32'} bits scaled to 8"] += 1
    return Image.fromarray(scaled_HW)
