"""Training images streamed from their shards through `webdataset`: read in long pieces, decoded, cropped at random.

Images come in an endless order, epoch after epoch, that is decided before anything is read: image number n is a
function of (seed, n). In each epoch every image comes once; epochs follow one another without a gap, in the middle of
a batch if need be. The order is of runs of RUN neighbours in a shard: all runs of all shards in random order, cut at
other places in each epoch. (Neighbours have nothing to do with one another: a shard is shuffled when it is written.)

So any process can make any batch, and resuming needs the step alone: each loader process makes whole batches, in turn,
and seeks to the runs that are in them. No byte is read twice in an epoch, however many workers and loaders there are,
and their number does not change the images. `webdataset`'s own order comes from as many streams as there are loader
processes in all, each with a shuffle buffer. It changes with their number, and resuming means reading all of it again.

Shapes: B images, H W C pixels, R images of the stream's shards, K runs.
"""

import atexit
import io
import math
import os
import tarfile
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from webdataset.tariterators import group_by_keys, tar_file_expander

from matchnet.pictures import MAX_PIXELS
from matchnet.random_words import random_words, to_uniform
from pipeline.data.formats.images import FORMATS, open_image
from pipeline.data.formats.tar import BLOCK
from pipeline.data.load.crop import WORDS, CropSpec, crop
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.index import Index
from pipeline.data.spec import Part
from pipeline.system.machine import memory_to_share
from pipeline.system.progress import say
from pipeline.workers.processes import follow_parent, worker_killed

RUN = 8  # images: 0.9 MB of photographs, which a disk reads in the time that it takes to find them
ORDER_STREAM, CUT_STREAM, CROP_STREAM = 0x0DE5, 0xC075, 0xC809  # streams of random_words
BATCHES_AHEAD = 2  # batches that each loader process makes ahead, at most


class Piece(NamedTuple):
    """Neighbours in one shard, from the first's header to the last's padding: a tar without its end."""

    shard: str
    start: int
    end: int


class Reading(NamedTuple):
    """The work of a loader process: the images of these numbers, which are the samples of these pieces."""

    numbers: range
    pieces: list[Piece]
    keys: list[str]
    class_B: np.ndarray


class Damage(NamedTuple):
    """The reason why an image could not be read."""

    number: int
    reason: str


@dataclass(frozen=True)
class StreamSpec:
    """Which images, and how they are cropped.

    sample_shape: (C, size, size) of a cropped image; C is 1 or 3.
    class_names: of all classes of these parts; an image's class is its position among them.
    seed: decides the order and the crops.
    """

    split: str
    parts: Sequence[Part]
    sample_shape: tuple[int, ...]
    class_names: Sequence[str]
    crop: CropSpec
    seed: int


class ShardStream:
    """The images of some parts of a split, as matchnet.classifier_training wants them.

    Args:
        num_loaders: processes that read and decode. With 0, this process does it when a batch is asked for.
        shared_bytes: shared memory that loaders may fill with batches; None is half of all that there is. If batches
            are too large for it, fewer are made ahead, or there are fewer loaders.
    Raises:
        ValueError: an unknown split; parts without images; shards cut short; drawings with a margin; `read`: an image
            that cannot be decoded, or a shard that is not what the index says; both are named.
    """

    def __init__(self, shards: ShardFolder, spec: StreamSpec, num_loaders: int = 0,
                 shared_bytes: int | None = None) -> None:
        groups = shards.groups_of(spec.split, spec.parts)
        shards.check_sizes(groups)
        self.index = shards.index
        self.row_R = _rows_of(shards, groups)
        if not len(self.row_R):
            raise ValueError(f"{shards.manifest.name}: {', '.join(spec.parts)} of split {spec.split} have no images to "
                             "train on; name other train_parts")
        class_of = {name: position for position, name in enumerate(spec.class_names)}
        position_C = np.array([class_of.get(name, -1) for name in shards.class_names])
        self.class_R = position_C[self.index.class_id_R[self.row_R]]
        assert (self.class_R >= 0).all(), "a shard holds classes of one group"
        self.seed, self.num_loaders = spec.seed, num_loaders
        self.shared_bytes = memory_to_share() // 2 if shared_bytes is None else shared_bytes
        self.reader = PieceReader(shards, spec)
        self.order = lru_cache(maxsize=2)(self._order)

    def __len__(self) -> int:
        """Number of images in an epoch."""
        return len(self.row_R)

    def read(self, numbers: range) -> tuple[Tensor, Tensor]:
        """image_BCHW uint8 (channels last in memory) and class_B int64 of these images, made in this process."""
        return self._checked(self.reader[self._reading(numbers)])

    def read_each(self, shares: Iterable[range]) -> Generator[tuple[Tensor, Tensor]]:
        """Yield `read` of each range, in this order; loader processes make them ahead, and end with the generator.

        Raises WorkerKilledError if one of them is killed.
        """
        rest = iter(shares)
        first = next(rest, None)
        if first is None:
            return
        loader = DataLoader(self.reader, batch_size=None, sampler=_Readings(self, chain([first], rest)),
                            generator=torch.Generator(),  # otherwise it would draw from torch's global generator
                            **self._loaders(len(first) * math.prod(self.reader.sample_shape)))
        with killed_loaders_named(self.num_loaders):
            try:
                for made in loader:
                    yield self._checked(made)
            except (ConnectionError, EOFError) as error:  # killed while it handed over a batch
                if not self.num_loaders:
                    raise
                raise worker_killed("cluster.num_loaders", self.num_loaders) from error

    def _loaders(self, batch_bytes: int) -> dict[str, Any]:
        """Numbers of processes and of batches ahead for DataLoader; says so if they differ from the request."""
        if self.num_loaders == 0:
            return {}
        loaders, ahead = loaders_that_fit(self.num_loaders, batch_bytes, self.shared_bytes)
        if (loaders, ahead) != (self.num_loaders, BATCHES_AHEAD):
            say(f"{loaders} of {self.num_loaders} loader processes with {ahead} of {BATCHES_AHEAD} batches ahead each: "
                f"a batch has {batch_bytes / 1e6:,.0f} MB, and they may fill {self.shared_bytes / 1e6:,.0f} MB of "
                "shared memory; a container has more with --shm-size")
        return {"num_workers": loaders, "prefetch_factor": ahead, **LOADER_SETTINGS}

    def _checked(self, made: tuple[Tensor, Tensor] | Damage) -> tuple[Tensor, Tensor]:
        if isinstance(made, Damage):
            row = self.row_R[self.positions(range(made.number, made.number + 1))[0]]
            raise ValueError(f"{self.reader.directory}: {self.index.described(row)}: {made.reason}; run the shard "
                             "stage again")
        return made

    def _reading(self, numbers: range) -> Reading:
        position_B = self.positions(numbers)
        row_B = self.row_R[position_B]
        pieces = list(_pieces(self.index, row_B))
        return Reading(numbers, pieces, self.index.key_R.take(row_B).to_pylist(), self.class_R[position_B])

    def positions(self, numbers: range) -> np.ndarray:
        """Positions of these numbers among the R images."""
        epoch_B, place_B = np.divmod(np.arange(numbers.start, numbers.stop), len(self))
        return np.concatenate([self.order(epoch)[place_B[epoch_B == epoch]] for epoch in np.unique(epoch_B).tolist()])

    def _order(self, epoch: int) -> np.ndarray:
        """The R images in the order of an epoch."""
        shard_R = self.index.shard_R[self.row_R]
        first_R = np.searchsorted(shard_R, shard_R)  # position of the first of the same shard
        cut_S = random_words(self.seed, CUT_STREAM, np.arange(len(self.index.shards)), 1, draw=epoch)[:, 0] % RUN
        run_R = (np.arange(len(self)) - first_R + cut_S.astype(np.int64)[shard_R]) // RUN
        begins_R = np.append(True, (np.diff(shard_R) != 0) | (np.diff(run_R) != 0))
        start_K = np.flatnonzero(begins_R)
        length_K = np.diff(np.append(start_K, len(self)))
        chosen_K = random_words(self.seed, ORDER_STREAM, np.arange(len(start_K)), 1, draw=epoch)[:, 0].argsort()
        before_K = np.cumsum(length_K[chosen_K]) - length_K[chosen_K]
        return np.repeat(start_K[chosen_K] - before_K, length_K[chosen_K]) + np.arange(len(self))


class PieceReader(Dataset):
    """Reads, decodes and crops. It is sent to the loader processes, so its size does not depend on the dataset's."""

    def __init__(self, shards: ShardFolder, spec: StreamSpec) -> None:
        manifest, self.directory = shards.manifest, shards.path
        self.sample_shape, self.crop_spec, self.seed = spec.sample_shape, spec.crop, spec.seed
        if (margin := manifest.parameters["margin"]) is not None:
            raise ValueError(f"{manifest.name}: margin is {margin}, which is for drawings; a random crop is for "
                             "photographs: train on episodes, or on a dataset without a margin")
        self.invert = manifest.parameters["invert"]
        self.max_pixels = manifest.parameters.get("max_pixels", MAX_PIXELS)

    def __getitem__(self, reading: Reading) -> tuple[Tensor, Tensor] | Damage:
        """The images and their classes, or the first image that cannot be read."""
        channels, size = self.sample_shape[0], self.sample_shape[-1]
        pixels_BHWC = np.empty((len(reading.numbers), size, size, channels), np.uint8)
        uniform_BW = to_uniform(random_words(self.seed, CROP_STREAM, reading.numbers, WORDS))
        samples = group_by_keys(tar_file_expander(self._open(reading.pieces)))
        for b, key in enumerate(reading.keys):
            try:
                image = _decoded(next(samples, {}), key, self.max_pixels)
            except tarfile.TarError:
                return Damage(reading.numbers[b], "no tar from there on")
            except ValueError as error:
                return Damage(reading.numbers[b], str(error))
            pixels_BHWC[b] = crop(image, channels, size, self.crop_spec, uniform_BW[b])
        if self.invert:
            pixels_BHWC = 255 - pixels_BHWC
        return torch.from_numpy(pixels_BHWC).permute(0, 3, 1, 2), torch.from_numpy(reading.class_B)

    def _open(self, pieces: list[Piece]) -> Iterator[dict]:
        for piece in pieces:
            with open(self.directory / piece.shard, "rb") as shard:
                shard.seek(piece.start)
                yield {"url": piece.shard, "stream": io.BytesIO(shard.read(piece.end - piece.start))}


@contextmanager
def killed_loaders_named(num_loaders: int) -> Iterator[None]:
    """Raises WorkerKilledError where torch says that a loader was killed: on the next batch, or wherever we are then.

    torch says so from its handler of SIGCHLD, in the main thread.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise worker_killed("cluster.num_loaders", num_loaders) from error


def loaders_that_fit(num_loaders: int, batch_bytes: int, shared_bytes: int) -> tuple[int, int]:
    """(processes, batches ahead of each): first fewer batches, then fewer processes, but one of each at least.

    The reader holds one more batch than the processes are ahead.
    """
    fit = max(1, min(num_loaders * BATCHES_AHEAD, shared_bytes // batch_bytes - 1))
    loaders = min(num_loaders, fit)
    return loaders, fit // loaders


def _decoded(sample: dict, key: str, max_pixels: int) -> Image.Image:
    if sample.get("__key__") != key:
        raise ValueError(f"the shard has {sample.get('__key__', 'nothing')} in its place")
    extension = next(name for name in sample if name in FORMATS)
    return open_image(sample[extension], extension, max_pixels)


class _Readings:
    """A sampler, as DataLoader calls it: the loaders' work, planned in the process that has the index."""

    def __init__(self, stream: ShardStream, shares: Iterable[range]) -> None:
        self.stream, self.shares = stream, shares

    def __iter__(self) -> Iterator[Reading]:
        return map(self.stream._reading, self.shares)


def _start_loader(worker_id: int) -> None:
    follow_parent()
    atexit.register(os._exit, 0)  # the end of an interpreter whose other thread is just sending a batch is an abort


# spawned, since forking a process that has threads (Ray, torch) can hang
LOADER_SETTINGS = {"multiprocessing_context": "spawn", "worker_init_fn": _start_loader}


def _rows_of(shards: ShardFolder, groups: Collection[str]) -> np.ndarray:
    """The rows of whole shards, sorted by shard and offset."""
    names = {entry.name for entry in shards.shards_of(groups)}
    return np.flatnonzero(np.array([name in names for name in shards.index.shards])[shards.index.shard_R])


def _pieces(index: Index, row_B: np.ndarray) -> Iterator[Piece]:
    """Rows in the order in which they are to be read, as few pieces as can be."""
    follows_B = (np.diff(row_B) == 1) & (np.diff(index.shard_R[row_B]) == 0)
    for rows in np.split(row_B, np.flatnonzero(~follows_B) + 1):
        first, last = rows[0], rows[-1]
        end = int(index.offset_R[last] + index.length_R[last])
        yield Piece(index.shards[index.shard_R[first]], int(index.offset_R[first]) - BLOCK, end + -end % BLOCK)
