"""Asynchronous copies from the host to a GPU."""

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device | str) -> Tensor:
    """Copy to `device`. A copy to a GPU is queued behind the GPU's pending work, and this returns at once."""
    if torch.device(device).type != "cuda" or values.is_cuda:
        return values.to(device)
    # Pinned memory: otherwise the copy is synchronous, and goes through a buffer. pin_memory() is no help: it keeps the
    # strides of an expanded tensor, and fails.
    return torch.empty_like(values, pin_memory=True).copy_(values).to(device, non_blocking=True)


def to_input(samples: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Copy to `device`; uint8 pixels -> float in [0, 1], anything else (tokens, features) is left as it is."""
    samples = to_device(samples, device)
    return samples.float().div_(255) if samples.dtype == torch.uint8 else samples
