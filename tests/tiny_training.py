"""An easy problem to train on, a network for it, and what a run saves. Used by the tests of the training loop."""

import io
import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from matchnet.augmentation import AffineSpec
from matchnet.context import FullContextSpec
from matchnet.encoders.conv4 import Conv4Spec
from matchnet.episodes import ClassRows, EpisodeSpec
from matchnet.episodic_training import EpisodicData, EpisodicSpec, EpisodicTask
from matchnet.methods import Batch, Method, build_method
from matchnet.methods.base import episode_loss
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.store import MemoryStore
from matchnet.training import Callbacks, Values, Worker, train

SHAPE = (1, 8, 8)
NETWORK = MatchingNetworkSpec(encoder=Conv4Spec(num_filters=4, num_blocks=2), fce=FullContextSpec(1))
SPEC = EpisodicSpec(
    episode=EpisodeSpec(3, 1, 2), steps=12, episodes_per_step=2, learning_rate=0.01, warmup_steps=3,
    weight_decay=0.01, gradient_clip=1.0, affine=AffineSpec(), valid_episode=EpisodeSpec(3, 1, 2),
    valid_episodes=4, valid_every=5, checkpoint_every=4, log_every=3)


def prototypes_with_noise(num_classes: int = 8, count: int = 6) -> EpisodicData:
    """Easy classes: a random image each, with a little noise. The last three validate."""
    generator = torch.Generator().manual_seed(0)
    prototype = torch.rand(num_classes, 1, *SHAPE, generator=generator)
    noise = torch.rand(num_classes, count, *SHAPE, generator=generator)
    store = MemoryStore(((0.6 * prototype + 0.4 * noise) * 255).to(torch.uint8).flatten(0, 1))
    class_id_R = np.repeat(np.arange(num_classes), count)
    training, validation = range(num_classes - 3), range(num_classes - 3, num_classes)
    return EpisodicData(store, ClassRows.from_class_ids(class_id_R, training),
                        valid_classes=ClassRows.from_class_ids(class_id_R, validation))


DATA = prototypes_with_noise()


def run(method: Method, spec: EpisodicSpec, data: EpisodicData = DATA, *, state: Values | None = None,
        rank: int = 0, world_size: int = 1, precision: Literal["fp32", "bf16"] = "fp32",
        **callbacks: Callable[..., None]) -> None:
    train(method, EpisodicTask(data, spec), Callbacks(**callbacks), state=state,
          worker=Worker(rank=rank, world_size=world_size, precision=precision))


def fresh_network(seed: int = 0) -> Method:
    torch.manual_seed(seed)
    return build_method(NETWORK, SHAPE, num_classes=5)


class LinearMethod(Method):
    """A linear embedding, without normalisation over the batch; it keeps its batches and its gradients."""

    def __init__(self, break_at_call: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(64, 6, bias=False)
        self.gradients: list[Tensor] = []
        self.linear.weight.register_hook(lambda gradient: self.gradients.append(gradient.clone()))
        self.batches: list[Batch] = []
        self.break_at_call = break_at_call

    def embed(self, sample_B: Tensor) -> Tensor:
        return self.linear(sample_B.flatten(1))

    def classify(self, support_ES: Tensor, way_ES: Tensor, query_EQ: Tensor, num_ways: int) -> Tensor:
        mean_END = torch.stack([support_ES[way_ES == way].view(len(support_ES), -1, 6).mean(1)
                                for way in range(num_ways)], dim=1)
        return (-torch.cdist(query_EQ, mean_END)).log_softmax(-1)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        assert self.training
        self.batches.append(batch)
        support_ES, query_EQ = self.embed_batch(batch)
        log_probs_EQN = self.classify(support_ES, batch.support_way_ES, query_EQ, batch.num_ways)
        result = episode_loss(log_probs_EQN, batch.query_way_EQ)
        if len(self.batches) == self.break_at_call:
            result["loss"] = result["loss"] * math.nan
        return result


def states_of(method: Method, spec: EpisodicSpec, **keywords: Any) -> dict[int, bytes]:
    """What a run saves, by step, as it would be on disk."""
    files: dict[int, bytes] = {}

    def save(state: dict[str, Any]) -> None:
        file = io.BytesIO()
        torch.save(state, file)
        files[state["step"]] = file.getvalue()

    run(method, spec, save=save, **keywords)
    return files


def load(file: bytes) -> dict[str, Any]:
    return torch.load(io.BytesIO(file), weights_only=True)


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        value = list(value.items())
    elif isinstance(value, list | tuple):
        value = list(enumerate(value))
    else:
        return {path: value}
    return {name: leaf for key, inner in value for name, leaf in leaves(inner, f"{path}/{key}").items()}
