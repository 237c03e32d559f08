"""Batches for a GPU: copied from pinned memory without waiting, and made without looking at what is on it.

Without a GPU: copies to one are noted, and stay where they are; and the meta device, which has no values, refuses
whatever would have to wait for one's.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_classifier_training import task_of
from tiny_training import DATA, SPEC
from torch import Tensor

from matchnet.augmentation import AffineSpec
from matchnet.devices import to_device
from matchnet.episodic_training import make_batches
from matchnet.methods import Batch, LabelledBatch

DISTORTED = replace(SPEC, affine=AffineSpec(mirror=True))


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each copy to a GPU, whether it would have been waited for."""
    pinned: list[Tensor] = []
    noted: list[bool] = []
    empty_like, to = torch.empty_like, Tensor.to

    def pin(values: Tensor, pin_memory: bool = False, **keywords: Any) -> Tensor:
        made = empty_like(values, **keywords)
        if pin_memory:
            pinned.append(made)
        return made

    def copy(values: Tensor, target: Any, non_blocking: bool = False, **keywords: Any) -> Tensor:
        if isinstance(target, torch.dtype) or torch.device(target).type != "cuda":
            return to(values, target, non_blocking=non_blocking, **keywords)
        noted.append(not non_blocking or all(values is not one for one in pinned))
        return values

    monkeypatch.setattr(torch, "empty_like", pin)
    monkeypatch.setattr(Tensor, "to", copy)
    return noted


def tensors(batch: Batch | LabelledBatch) -> list[Tensor]:
    return [value for value in vars(batch).values() if isinstance(value, Tensor)]


def test_a_batch_of_episodes_is_copied_without_waiting(waited: list[bool]) -> None:
    batch, here = (next(make_batches(DATA.store, DATA.classes, DISTORTED, [[4, 5]], device))
                   for device in ("cuda", "cpu"))
    assert waited == [False] * 4  # the images, two kinds of ways, classes
    assert all(torch.equal(*pair) for pair in zip(tensors(batch), tensors(here), strict=True))


def test_a_batch_of_labelled_images_is_copied_without_waiting(waited: list[bool]) -> None:
    batch, here = (task_of().batch(3, 0, 1, device)[0] for device in ("cuda", "cpu"))
    assert waited == [False] * 2
    assert all(torch.equal(*pair) for pair in zip(tensors(batch), tensors(here), strict=True))


def test_copies_keep_the_order_of_channels_in_memory(waited: list[bool]) -> None:
    image_BCHW = torch.rand(2, 5, 5, 3).permute(0, 3, 1, 2)
    copied = to_device(image_BCHW, "cuda")
    assert waited == [False] and torch.equal(copied, image_BCHW) and copied.stride() == image_BCHW.stride()


def test_a_batch_from_images_on_the_device_is_made_without_looking_at_them() -> None:
    batch = next(make_batches(DATA.store.to("meta"), DATA.classes, DISTORTED, [[4, 5]], "meta"))  # type: ignore[attr-defined]
    here = next(make_batches(DATA.store, DATA.classes, DISTORTED, [[4, 5]], "cpu"))
    assert [(values.device.type, values.shape) for values in tensors(batch)] == [
        ("meta", values.shape) for values in tensors(here)]
