"""From rows of the index to pixels. Imports no torch: worker processes that decode start in half a second."""

import math
from collections.abc import Collection, Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.data.images import View, open_image, to_pixels
from pipeline.data.index import ShardReader
from pipeline.data.raw import source_of


class Decoder:
    """Reads and decodes samples, to the view that stands in the manifest.

    Args:
        sample_shape: (C, size, size): one channel, or three.
        groups: whose shards are read; None is all.
    Raises:
        ValueError: shards of sentences.
    """

    def __init__(self, shards_dir: Path, sample_shape: tuple[int, ...],
                 groups: Collection[str] | None = None) -> None:
        self.reader = ShardReader(shards_dir, groups)
        manifest = self.reader.manifest
        if manifest.words is not None:
            raise ValueError(f"{shards_dir}: {manifest.name} holds sentences; give the model a context instead of an "
                             "image_size")
        self.sample_shape = sample_shape
        parameters = manifest.parameters
        self.view = View.from_parameters(parameters)
        self.extension = source_of(parameters["source"]).EXTENSION

    def decode(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Rows of the index -> one (*sample_shape) uint8 after the other; the bytes of all are read first.

        Raises:
            ValueError: an image that cannot be decoded; names shard, key and offset.
        """
        channels, size = self.sample_shape[0], self.sample_shape[-1]
        for position, content in enumerate(self.reader.read_many(rows)):
            try:
                image = open_image(content, self.extension)
            except ValueError as error:
                place = self.reader.index.place_of(rows[position])
                directory = self.reader.directory
                raise ValueError(f"{directory}: {place}: {error}; run the shard stage again") from error
            yield to_pixels(image, channels, size, self.view)

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *error: object) -> None:
        self.reader.close()


class DecodingJob(NamedTuple):
    """Rows of the index to decode into the shared memory of this name, from sample `start` on."""

    memory: str
    start: int
    rows: np.ndarray


def decode_job(decoder: Decoder, job: DecodingJob) -> None:
    """What a worker process of the store on shards does."""
    shape = len(job.rows), *decoder.sample_shape
    memory = SharedMemory(job.memory)
    pixels_RCHW = np.ndarray(shape, np.uint8, memory.buf, job.start * math.prod(decoder.sample_shape))
    try:
        for position, pixels in enumerate(decoder.decode(job.rows)):
            pixels_RCHW[position] = pixels
    finally:
        del pixels_RCHW  # memory that an array lies in cannot be closed
        memory.close()
