"""The 10,000 test digits of MNIST [LeCun et al. 1998]: IDX files, stored as PNG as they are (ink = 255)."""

import io
import math
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data.raw.source import RawSample, ReadSample
from pipeline.data.raw.zip_files import read_gzip
from pipeline.data.spec import DatasetParams

EXTENSION = "png"
IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
NUM_DIGITS = 10_000
MOST_BYTES = 16 + 60_000 * 28 * 28  # unpacked size of the training images, should somebody take them for the test's
PNG_BYTES = 28 * 28 + 96  # nearly: what planning the shards needs


def prepare_raw(raw_dir: Path, params: DatasetParams, folder: str | None = None) -> None:
    """Check that 10,000 digits with labels have come."""
    read_raw(raw_dir, params)


def read_raw(raw_dir: Path, params: DatasetParams) -> list[RawSample]:
    """All digits; class names are `0` to `9`.

    Raises:
        ValueError: a file is missing, cut short, not IDX, or holds other counts or labels than MNIST's test.
    """
    images, labels = _read_idx(raw_dir / IMAGES), _read_idx(raw_dir / LABELS)
    if images.shape != (NUM_DIGITS, 28, 28) or labels.shape != (NUM_DIGITS,):
        raise ValueError(f"{raw_dir}: images {images.shape} and labels {labels.shape}, "
                         f"expected ({NUM_DIGITS}, 28, 28) and ({NUM_DIGITS},); {_again(IMAGES, LABELS)}")
    if labels.max() > 9:
        raise ValueError(f"{raw_dir / LABELS}: label {labels.max()} at {labels.argmax()}, "
                         f"but digits are 0 to 9; {_again(LABELS)}")
    return [RawSample(f"{label}/{number:05d}", str(label), IMAGES, str(number), PNG_BYTES)
            for number, label in enumerate(labels.tolist())]


def open_raw(raw_dir: Path, params: DatasetParams) -> ReadSample:
    """A digit as PNG."""
    images = _read_idx(raw_dir / IMAGES)

    def read(sample: RawSample) -> bytes:
        file = io.BytesIO()
        # not deflated, so that the bytes do not depend on the version of zlib
        Image.fromarray(images[int(sample.member)]).save(file, "png", compress_level=0)
        return file.getvalue()

    return read


def _again(*names: str) -> str:
    return f"delete {' and '.join(names)} and run the download"


def _read_idx(path: Path) -> np.ndarray:
    """IDX: two 0 bytes, 8 for uint8, the number of axes, their lengths as big-endian uint32, the values."""
    content = read_gzip(path, MOST_BYTES, _again(path.name))
    num_axes = content[3] if content[:3] == b"\0\0\x08" and len(content) >= 4 else 0
    start = 4 + 4 * num_axes
    shape = struct.unpack(f">{num_axes}I", content[4:start]) if num_axes and len(content) >= start else (-1,)
    if len(content) - start != math.prod(shape):
        raise ValueError(f"{path}: not an IDX file of bytes: shape {shape}, {len(content):,} bytes; "
                         f"{_again(path.name)}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
