"""Samples read from their shards and decoded when asked for: for data that does not fit into memory."""

import math
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice, pairwise
from multiprocessing.shared_memory import SharedMemory
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.data.load.decoder import Decoder, DecodingTask, decode_task
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.spec import PARTS, Part
from pipeline.system.machine import memory_to_share
from pipeline.workers.processes import WorkerPool

BLOCKS = 2  # blocks of shared memory: one that is decoded into, one that is copied from


class _Piece(NamedTuple):
    """Samples of one `gather` on their way: decoded into a block of shared memory, then copied to `pixels_RCHW`."""

    decoding: Iterator[object]
    block: SharedMemory
    pixels_RCHW: np.ndarray
    gathered: Tensor | None  # all of the gather's, in the last piece of it


class ShardStore:
    """The parts of a split, with the interface of a `MemoryStore`, and its rows in `load_samples`.

    Args:
        num_processes: worker processes; each reads by `pread` and decodes into memory shared with this one.
        shared_bytes: size of the shared memory; None is half of all that there is.
    Raises:
        ValueError: an unknown split, or shards of other sizes than the manifest says; `gather`: an image that
            cannot be decoded (shard, key, offset).
    """

    def __init__(self, shards: ShardFolder, split: str, sample_shape: tuple[int, ...],
                 parts: Sequence[Part] = PARTS, num_processes: int = 2, shared_bytes: int | None = None) -> None:
        groups = shards.groups_of(split, parts)
        shards.require_images()
        shards.check_sizes(groups)
        self._index = shards.index
        self.sample_shape = sample_shape
        self._rows, self.class_id_R = shards.select(split, parts)
        self._num_processes = num_processes
        self._block_bytes = (memory_to_share() // 2 if shared_bytes is None else shared_bytes) // BLOCKS
        self._workers = WorkerPool(Decoder, (shards, sample_shape, groups), num_processes, "cluster.num_loaders")
        self._blocks: list[SharedMemory] = []  # blocks that are not in use

    def __len__(self) -> int:
        return len(self._rows)

    def gather(self, rows: Tensor) -> Tensor:
        """rows int64 of any shape (...) -> samples (..., *sample_shape), uint8."""
        with closing(self.gather_each([rows])) as gathered:
            return next(gathered)

    def gather_each(self, wanted: Iterable[Tensor]) -> Generator[Tensor]:
        """Yield `gather` of each tensor of rows, in this order; while one is copied and used, the next is decoded."""
        pieces = (piece for rows in wanted for piece in self._begin(rows))
        begun = deque(islice(pieces, 1))
        try:
            while begun:
                begun.extend(islice(pieces, 1))  # before the first of them is waited for
                gathered = self._finish(begun[0])
                self._blocks.append(begun.popleft().block)
                if gathered is not None:
                    yield gathered
        finally:
            for piece in begun:  # its tasks may still be writing
                _remove(piece.block)

    def _begin(self, rows: Tensor) -> Iterator[_Piece]:
        """Yield the pieces of one gather, each of as many samples as a block holds; each begins when asked for."""
        wanted = self._rows[rows.reshape(-1).cpu().numpy()]
        sample_bytes = math.prod(self.sample_shape)
        at_once = max(1, min(len(wanted), self._block_bytes // sample_bytes))
        pixels_RCHW = np.empty((len(wanted), *self.sample_shape), np.uint8)
        gathered = torch.from_numpy(pixels_RCHW).reshape(*rows.shape, *self.sample_shape)
        for first in range(0, max(1, len(wanted)), at_once):
            of_piece = wanted[first:first + at_once]
            block = self._take_block(at_once * sample_bytes)
            yield _Piece(self._workers.run(decode_task, self._tasks(of_piece, block.name)), block,
                         pixels_RCHW[first:first + at_once], gathered if first + at_once >= len(wanted) else None)

    def _tasks(self, wanted: np.ndarray, memory: str) -> list[DecodingTask]:
        bounds = np.linspace(0, len(wanted), self._num_processes + 1).astype(int).tolist()
        return [DecodingTask(memory, begin, self._index.take(wanted[begin:end]))
                for begin, end in pairwise(bounds) if end > begin]

    def _finish(self, piece: _Piece) -> Tensor | None:
        for _ in piece.decoding:
            pass
        piece.pixels_RCHW[:] = np.ndarray(piece.pixels_RCHW.shape, np.uint8, piece.block.buf)
        return piece.gathered

    def _take_block(self, size: int) -> SharedMemory:
        """A block of `size` bytes or more."""
        while self._blocks:
            block = self._blocks.pop()
            if block.size >= size:
                return block
            _remove(block)
        return SharedMemory(create=True, size=max(1, size))

    def close(self) -> None:
        """End the worker processes and free the shared memory."""
        self._workers.close()
        while self._blocks:
            _remove(self._blocks.pop())

    def __enter__(self) -> "ShardStore":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _remove(block: SharedMemory) -> None:
    """Remove a block: its name goes at once, its memory when no process has it open."""
    block.close()
    block.unlink()
