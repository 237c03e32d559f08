"""Stores of samples: rows in, tensors out."""

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from matchnet.devices import to_device


class Store(Protocol):
    """Samples by row. An implementation holds them in memory (below) or reads them from shards (pipeline)."""

    sample_shape: tuple[int, ...]

    def __len__(self) -> int: ...

    def gather(self, rows: Tensor) -> Tensor:
        """rows int64 of any shape (...) -> samples (..., *sample_shape), uint8 for images."""
        ...

    def gather_each(self, wanted: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield `gather` of each tensor of rows, in this order, perhaps begun before it is asked for."""
        return map(self.gather, wanted)


class MemoryStore(Store):
    """All samples in one tensor, on the CPU or a GPU; an episode is a gather."""

    def __init__(self, samples: Tensor) -> None:
        self.samples = samples.contiguous()
        self.sample_shape = tuple(samples.shape[1:])

    def __len__(self) -> int:
        return len(self.samples)

    def gather(self, rows: Tensor) -> Tensor:
        flat = self.samples.index_select(0, to_device(rows.reshape(-1), self.samples.device))
        return flat.view(*rows.shape, *self.sample_shape)

    def to(self, device: torch.device | str) -> "MemoryStore":
        return MemoryStore(self.samples.to(device))


class SomeRows(MemoryStore):
    """Samples of U rows of a larger store, asked for by their rows there.

    Args:
        samples: (U, ...).
        row_U: their rows, each once.
        num_rows: the number of rows in the larger store.
    """

    def __init__(self, samples: Tensor, row_U: Tensor, num_rows: int) -> None:
        super().__init__(samples)
        self.position_R = torch.full((num_rows,), -1, device=samples.device)
        self.position_R[row_U.to(samples.device)] = torch.arange(len(row_U), device=samples.device)

    def __len__(self) -> int:
        return len(self.position_R)

    def gather(self, rows: Tensor) -> Tensor:
        return super().gather(self.position_R[to_device(rows, self.samples.device)])


def with_rotations(store: MemoryStore, class_id_R: np.ndarray) -> tuple[MemoryStore, np.ndarray]:
    """Rotations by 90, 180 and 270 degrees as new classes  [Vinyals et al. 2016, section 4.1.1].

    "We augmented the data set with random rotations by multiples of 90 degrees": with C = max(class_id) + 1, class
    c + r * C is class c rotated r times, counter-clockwise. There are 4 R images then: 100 MB for all of Omniglot.
    """
    num_classes = int(class_id_R.max()) + 1
    rotated = [torch.rot90(store.samples, r, (-2, -1)) for r in range(4)]
    class_ids = [class_id_R + r * num_classes for r in range(4)]
    return MemoryStore(torch.cat(rotated)), np.concatenate(class_ids)
