"""Training a classifier on a stream of images, for data too large for a store: step t has images t*B .. t*B + B-1.

As Szegedy et al. 2015 and 2016 train Inception on ImageNet; its features are what Vinyals et al. 2016, section 4.1.2,
begin with.
"""

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from matchnet.devices import to_device
from matchnet.episodes import ClassRows
from matchnet.episodic_training import ValidatedSpec, validate_on_episodes
from matchnet.evaluation import to_input
from matchnet.methods.base import LabelledBatch, Method
from matchnet.store import Store
from matchnet.training import Task, Values


@dataclass(frozen=True, kw_only=True)
class ClassifierTrainingSpec(ValidatedSpec):
    """Training a classifier on a stream of images.

    Args:
        batch_size: images of a step, over all workers and their micro-batches together.
        smallest_crop: a training image is a random piece of the photograph, with at least this share of its area.
        flip: true mirrors every second image, left to right.
    """

    batch_size: int
    smallest_crop: float = 0.08  # Szegedy et al. 2015, section 6
    flip: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("batch_size")
        if not 0 < self.smallest_crop <= 1:
            raise ValueError(f"smallest_crop is {self.smallest_crop}; it is a share of the area, above 0 and at most 1")
        if self.accumulate > self.most_shares:
            raise ValueError(f"accumulate is {self.accumulate}, and batch_size {self.batch_size}: some parts would "
                             "have no image; lower the one or raise the other")

    @property
    def most_shares(self) -> int:
        return self.batch_size


class ImageStream(Protocol):
    """Images in an endless order: image number n, for n from 0 on, is a function of n."""

    def read(self, numbers: range) -> tuple[Tensor, Tensor]:
        """image_BCHW uint8, and class_B int64: positions in the training classes."""
        ...

    def read_each(self, shares: Iterable[range]) -> Generator[tuple[Tensor, Tensor]]:
        """Yield `read` of each range in this order, perhaps made ahead; loader processes end with the generator."""
        ...


@dataclass(frozen=True)
class ClassifierData:
    """Images to train on, and classes that are not among them to validate on."""

    stream: ImageStream
    valid_store: Store | None = None
    valid_classes: ClassRows | None = None


class ClassifierTask(Task):
    """Training a classifier. It is validated by one-shot learning of other classes, the purpose of its features.

    The accuracy of its softmax says nothing here: the softmax does not know the classes of the validation.
    """

    prefetch = 1

    def __init__(self, data: ClassifierData, spec: ClassifierTrainingSpec) -> None:
        self.data = data
        self.spec: ClassifierTrainingSpec = spec
        self.units = {"images": spec.batch_size}

    def check(self, world_size: int) -> None:
        if world_size > self.spec.most_shares:
            raise ValueError(f"{self.spec.sharing(world_size)} share batch_size = {self.spec.batch_size}: some would "
                             "have nothing to do; at least one image for each, or fewer of them")

    def batch(self, step: int, rank: int, world_size: int, device: torch.device | str) -> tuple[LabelledBatch, float]:
        """This share's images: consecutive ones of the step, which lie side by side in their shards."""
        return self._to_batch(self.data.stream.read(self._share(step, rank, world_size)), world_size, device)

    def batches(self, steps: range, ranks: range, world_size: int,
                device: torch.device | str) -> Generator[tuple[LabelledBatch, float]]:
        shares = (self._share(step, rank, world_size) for step in steps for rank in ranks)
        with closing(self.data.stream.read_each(shares)) as images_of_shares:
            for images in images_of_shares:
                yield self._to_batch(images, world_size, device)

    def validate(self, method: Method, device: torch.device | str) -> Values | None:
        """Accuracy on episodes of the validation classes."""
        data = self.data
        if data.valid_store is None or data.valid_classes is None:
            return None
        return validate_on_episodes(method, data.valid_store, data.valid_classes, self.spec, device)

    def _share(self, step: int, rank: int, world_size: int) -> range:
        size = self.spec.batch_size
        begin, end = (step * size + share * size // world_size for share in (rank, rank + 1))
        return range(begin, end)

    def _to_batch(self, images: tuple[Tensor, Tensor], world_size: int,
                  device: torch.device | str) -> tuple[LabelledBatch, float]:
        image_BCHW, class_B = images
        weight = len(class_B) * world_size / self.spec.batch_size
        return LabelledBatch(to_input(image_BCHW, device), to_device(class_B, device)), weight
