"""Samples read from their shards and decoded when asked for: for data that does not fit into memory."""

import math
from collections.abc import Sequence
from itertools import pairwise
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.data.decoding import Decoder, DecodingJob, decode_job
from pipeline.data.manifest import read_manifest
from pipeline.data.selection import groups_of, select
from pipeline.data.spec import PARTS, Part
from pipeline.data.workers import WorkerPool
from pipeline.machine import memory_to_share


class ShardStore:
    """The parts of a split, with the rows and the interface of a `MemoryStore` of `load_split`.

    Args:
        num_processes: worker processes; each reads by `pread` and decodes into memory shared with this one.
    Raises:
        ValueError: an unknown split, or shards of other sizes than the manifest says; `gather`: an image that
            cannot be decoded (shard, key, offset).
    """

    def __init__(self, shards_dir: Path, split: str, sample_shape: tuple[int, ...],
                 parts: Sequence[Part] = PARTS, num_processes: int = 2) -> None:
        groups = groups_of(read_manifest(shards_dir), split, parts)
        with Decoder(shards_dir, sample_shape, groups) as decoder:
            chosen = select(decoder.reader.manifest, decoder.reader.index, split, parts)
        self.sample_shape = sample_shape
        self.class_id_R, self.parts = chosen.class_id_R, chosen.parts
        self._rows = chosen.rows
        self._num_processes = num_processes
        # half: a training has a second store, for validation
        self._most_shared = max(memory_to_share() // 2, math.prod(sample_shape))
        self._workers = WorkerPool(Decoder, (shards_dir, sample_shape, groups), num_processes)
        self._memory: SharedMemory | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def gather(self, rows: Tensor) -> Tensor:
        """rows int64 of any shape (...) -> samples (..., *sample_shape), uint8."""
        wanted = self._rows[rows.reshape(-1).cpu().numpy()]
        sample_bytes = math.prod(self.sample_shape)
        memory = self._memory_of(len(wanted) * sample_bytes)
        at_once = max(1, memory.size // sample_bytes)
        pixels_RCHW = np.empty((len(wanted), *self.sample_shape), np.uint8)
        for first in range(0, len(wanted), at_once):
            self._decode(wanted[first:first + at_once], memory, pixels_RCHW[first:first + at_once])
        return torch.from_numpy(pixels_RCHW).reshape(*rows.shape, *self.sample_shape)

    def _decode(self, wanted: np.ndarray, memory: SharedMemory, pixels_RCHW: np.ndarray) -> None:
        bounds = np.linspace(0, len(wanted), self._num_processes + 1).astype(int).tolist()
        jobs = [DecodingJob(memory.name, begin, wanted[begin:end])
                for begin, end in pairwise(bounds) if end > begin]
        for _ in self._workers.run(decode_job, jobs):
            pass
        pixels_RCHW[:] = np.ndarray(pixels_RCHW.shape, np.uint8, memory.buf)

    def close(self) -> None:
        """End the worker processes and free the shared memory."""
        self._workers.close()
        self._free()

    def __enter__(self) -> "ShardStore":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _memory_of(self, size: int) -> SharedMemory:
        """Of `size` bytes, if there is room for that."""
        size = max(1, min(size, self._most_shared))
        if self._memory is None or self._memory.size < size:
            self._free()
            self._memory = SharedMemory(create=True, size=size)
        return self._memory

    def _free(self) -> None:
        if self._memory is not None:
            self._memory.close()
            self._memory.unlink()
            self._memory = None
