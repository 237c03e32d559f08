"""Training on one batch that is on the device all the while: what remains is the network."""

from typing import Any

import torch

from matchnet.methods import Batch, LabelledBatch, Method
from matchnet.training import Task, TrainingSpec, Values


class ResidentTask(Task):
    """One batch, made once."""

    def __init__(self, batch: Batch | LabelledBatch, spec: TrainingSpec, num_images: int) -> None:
        self.resident, self.spec = batch, spec
        self.units = {"images": num_images}

    def check(self, world_size: int) -> None:
        return

    def batch(self, step: int, rank: int, world_size: int, device: torch.device | str) -> tuple[Any, float]:
        return self.resident, 1.0

    def validate(self, method: Method, device: torch.device | str) -> Values | None:
        return None
