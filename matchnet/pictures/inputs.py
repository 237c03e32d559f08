"""From a user's pictures (paths, PIL images, arrays, tensors) to upright pictures of mode L or RGB.

Arrays hold 0 to 255 if they are of whole numbers of 8 bits, 0 to 65,535 of 16 bits, 0 to 1 if they are of floats.
"""

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from matchnet.messages import said, shown
from matchnet.pictures.reading import RAISE, REPLACE, PictureError, read_picture

SMALLEST = 4  # pixels of a side; a smaller picture shows nothing
CHANNELS = (1, 3, 4)
LONGEST = 60  # characters of an item in a message
_ORIENTATION = 0x0112  # EXIF's tag
_NUMBERS = "a module is given numbers, or pictures through `preprocess`: name one"
_SHAPES = "(height, width), (height, width, channels) or (channels, height, width), with 1, 3 or 4 channels"


def as_items(pictures: Any) -> Sequence[Any]:
    """One item a picture, from any container; ValueError for no picture, or for a single one where many are asked."""
    if isinstance(pictures, str | bytes | os.PathLike | Image.Image):
        raise ValueError(f"found one picture ({shown(pictures, LONGEST)}) where several are asked for; give a list: "
                         "[picture]")
    if isinstance(pictures, np.ndarray | torch.Tensor):
        if pictures.ndim < 1 or (pictures.ndim < 3 and _numeric(pictures)):
            raise ValueError(f"found an array of shape {tuple(pictures.shape)}; pictures are (pictures, height, "
                             "width), with or without channels. Reshape your data, or give a list of paths")
    items: Sequence[Any] = pictures if hasattr(pictures, "__getitem__") and not _is_table(pictures) else list(pictures)
    if not len(items):
        raise ValueError("found no picture: 0 samples; give at least one")
    return items


def to_picture(item: Any, position: int) -> Image.Image:
    """The picture, of mode L or RGB.

    Raises:
        PictureError: it cannot be read; names the file, or the position of the picture among those given.
    """
    if isinstance(item, str | os.PathLike):
        try:
            image = read_picture(item)
        except OSError as error:
            raise PictureError(f"{os.fspath(item)}: {error.strerror or error}; give the path of a picture") from error
        except PictureError as error:
            raise _with_own_remedy(error) from error
        _check_size(image, os.fspath(item))
        return image
    name = name_of(item, position)
    try:
        if isinstance(item, Image.Image):
            image = _upright(item)
        elif isinstance(item, bytes):
            image = read_picture(item)
        elif isinstance(item, np.ndarray | torch.Tensor | np.generic) or hasattr(item, "__array__"):
            image = _from_array(item)
        else:
            raise PictureError(f"{type(item).__name__} {shown(item, LONGEST)} is no picture; give a path, a PIL image, "
                               "an array or a tensor")
    except PictureError as error:
        raise _with_own_remedy(error, f"{name}: ") from error
    _check_size(image, name)
    return image


def _with_own_remedy(error: PictureError, before: str = "") -> PictureError:
    """The error without the parameters of datasets, which nobody can set here."""
    remedy = REPLACE if error.keepable else error.remedy.removeprefix(RAISE)
    return PictureError(f"{before}{error.reason}", remedy)


def name_of(item: Any, position: int) -> str:
    """The path of a picture, or its position among those given."""
    return os.fspath(item) if isinstance(item, str | os.PathLike) else f"picture {position}"


def _check_size(image: Image.Image, name: str) -> None:
    if min(image.size) < SMALLEST:
        raise PictureError(f"{name}: {image.width} x {image.height} pixels, too few to see anything; a picture has at "
                           f"least {SMALLEST} x {SMALLEST}: leave it out")


def _upright(image: Image.Image) -> Image.Image:
    """A PIL image made upright; one of another mode, or turned by EXIF, is read as if it came from a file."""
    try:
        if image.mode in ("L", "RGB") and image.getexif().get(_ORIENTATION, 1) == 1:
            image.load()
            return image
        file = io.BytesIO()
        image.save(file, "PNG" if image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else "TIFF",
                   exif=image.getexif())
    except (OSError, SyntaxError, ValueError) as error:
        raise PictureError(f"an image of PIL's that cannot be decoded: {said(error)}; replace it, or leave it out"
                           ) from error
    return read_picture(file.getvalue())


def _from_array(item: Any) -> Image.Image:
    """A picture from numbers. Where the shape leaves it open, a tensor's channels are first, a numpy array's last."""
    pixels = item.detach().cpu().numpy() if isinstance(item, torch.Tensor) else np.asarray(item)
    shape = pixels.shape
    if pixels.ndim == 3:
        first, last = shape[0] in CHANNELS, shape[2] in CHANNELS
        if first and (not last or isinstance(item, torch.Tensor)):
            pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in CHANNELS) or 0 in shape:
        raise PictureError(f"an array of shape {shape}; a picture has {_SHAPES}")
    pixels = _to_bytes(pixels)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return Image.fromarray(pixels.reshape(pixels.shape[:2]))
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return image if image.mode == "RGB" else _upright(image)


def _to_bytes(pixels: np.ndarray) -> np.ndarray:
    kind = pixels.dtype.kind
    if pixels.dtype == np.uint8:
        return pixels
    if kind == "b":
        return pixels.astype(np.uint8) * np.uint8(255)
    if kind not in "iuf":
        raise PictureError(f"an array of type {pixels.dtype}; a picture has whole numbers, floats or booleans")
    if kind == "f" and not np.isfinite(pixels).all():
        raise PictureError("an array that contains NaN or infinity; a picture has numbers from 0 to 1 alone")
    low, high, white = pixels.min(), pixels.max(), {"f": 1}.get(kind, 65535 if pixels.dtype == np.uint16 else 255)
    if low < 0 or high > white:
        raise PictureError(f"an array of type {pixels.dtype} with values from {low} to {high}; they must be from 0 "
                           f"(black) to {white} (white): scale them, or give uint8")
    return np.rint(pixels * (255 / white)).astype(np.uint8)


def _numeric(array: np.ndarray | torch.Tensor) -> bool:
    return isinstance(array, torch.Tensor) or array.dtype.kind in "biufc"


def _is_table(pictures: Any) -> bool:
    """A pandas Series or column, whose [0] is a label."""
    return hasattr(pictures, "iloc")


def as_vectors(X: Any, num_features: int | None) -> np.ndarray:
    """(S, ...) float32, for a module that is given numbers."""
    if hasattr(X, "toarray"):
        raise TypeError("X is a sparse matrix, and a module takes dense numbers; use X.toarray()")
    vector_S = X.detach().cpu().numpy() if isinstance(X, torch.Tensor) else np.asarray(X)
    if vector_S.dtype.kind == "O":
        try:
            vector_S = vector_S.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise type(error)(f"X holds what is no number ({error}); {_NUMBERS}") from error
    if vector_S.dtype.kind == "c":
        raise ValueError("Complex data not supported: X has complex numbers; give real ones")
    if vector_S.dtype.kind not in "biuf":
        raise ValueError(f"X is of type {vector_S.dtype}; {_NUMBERS}")
    if vector_S.ndim < 2:
        raise ValueError(f"Expected 2D array, got an array of shape {vector_S.shape} instead. Reshape your data: one "
                         "row a sample")
    if not len(vector_S) or 0 in vector_S.shape:
        raise ValueError(f"Found array with {len(vector_S)} sample(s) and {vector_S.shape[1]} feature(s) (shape="
                         f"{vector_S.shape}) while a minimum of 1 is required.")
    if num_features is not None and vector_S.shape[1] != num_features:
        raise ValueError(f"X has {vector_S.shape[1]} features, but OneShotClassifier is expecting {num_features} "
                         "features as input")
    if not np.isfinite(vector_S).all():
        raise ValueError("X contains NaN or infinity; give finite numbers")
    return vector_S.astype(np.float32)
