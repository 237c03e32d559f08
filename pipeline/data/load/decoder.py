"""From rows of the index to pixels. Imports no torch: worker processes that decode start in half a second."""

import math
from collections.abc import Collection, Iterator
from multiprocessing.shared_memory import SharedMemory
from typing import NamedTuple

import numpy as np

from matchnet.pictures import MAX_PIXELS
from matchnet.pictures.pixels import to_pixels
from pipeline.data.formats.images import open_image, preparation_of
from pipeline.data.raw.source import extension_of
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.index import Index
from pipeline.data.shards.reader import OpenShards


class Decoder:
    """Reads and decodes samples, as the manifest says.

    Holds open shards and no index: what a worker process takes does not grow with the number of samples. A process that
    goes on closes `shards`.

    Args:
        sample_shape: (C, size, size): one channel, or three.
        groups: the groups whose shards are read; None is all.
    Raises:
        ValueError: shards of sentences.
    """

    def __init__(self, shards: ShardFolder, sample_shape: tuple[int, ...],
                 groups: Collection[str] | None = None) -> None:
        shards.require_images()
        self.sample_shape = sample_shape
        self.preparation = preparation_of(shards.manifest.parameters, sample_shape)
        self.extension = extension_of(shards.manifest.parameters)
        self.max_pixels = shards.manifest.parameters.get("max_pixels", MAX_PIXELS)
        self.shards = OpenShards(shards, groups)

    def decode(self, samples: Index) -> Iterator[np.ndarray]:
        """One (*sample_shape) uint8 after the other; the bytes of all are read first.

        Raises:
            ValueError: an image that cannot be decoded; names shard, key and offset.
        """
        for row, content in enumerate(self.shards.read(samples)):
            try:
                image = open_image(content, self.extension, self.max_pixels)
            except ValueError as error:
                raise ValueError(f"{self.shards.directory}: {samples.described(row)}: {error}; run the shard stage "
                                 "again") from error
            yield to_pixels(image, self.preparation)


class DecodingTask(NamedTuple):
    """Samples to decode into the shared memory of this name, from sample `start` on."""

    memory: str
    start: int
    samples: Index


def decode_task(decoder: Decoder, task: DecodingTask) -> None:
    """Decode a task's samples into shared memory, in a worker process of the store on shards."""
    shape = len(task.samples), *decoder.sample_shape
    memory = SharedMemory(task.memory)
    pixels_RCHW = np.ndarray(shape, np.uint8, memory.buf, task.start * math.prod(decoder.sample_shape))
    try:
        for row, pixels in enumerate(decoder.decode(task.samples)):
            pixels_RCHW[row] = pixels
    finally:
        del pixels_RCHW  # shared memory cannot be closed while an array uses it
        memory.close()
