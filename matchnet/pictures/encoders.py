"""Encoders for anyone's pictures, with their attention: a published checkpoint, a model file or a module.

Shapes: B pictures, S support items, Q queries, N classes, D embedding.
"""

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from matchnet import published
from matchnet.attention import Attention, AttentionSpec
from matchnet.encoders.inception import InceptionSpec
from matchnet.messages import said, shown
from matchnet.methods import Batch, Classifier, Mann, Method
from matchnet.methods.classifier import ClassifierSpec
from matchnet.methods.torchvision_names import ATTENTION, from_torchvision
from matchnet.model_file import model_from
from matchnet.pictures.reading import first_bytes, format_of
from matchnet.preparation import Preparation
from matchnet.weights import CheckpointError, check_hash_in_name, load_tensors, load_weights

Preprocess = Callable[[Image.Image], Tensor]
ANY_SCALE = 30.0  # default factor of cosines, as in `ClassifierSpec`
INCEPTION_FIRST = "Conv2d_1a_3x3.conv.weight"  # a name in torchvision's file
# As torchvision evaluates it: 299 px out of 342.
INCEPTION_PREPARATION = Preparation(channels=3, size=299, kind="photographs", central_crop=299 / 342)


@dataclass(frozen=True)
class Encoder:
    """A method with its weights, and how items become its samples.

    preparation: how pictures become samples, for a model of this project.
    preprocess: how pictures become inputs of any other module; None where the module's items are vectors.
    """

    name: str
    method: Method
    preparation: Preparation | None = None
    preprocess: Preprocess | None = None

    @property
    def takes_pictures(self) -> bool:
        return self.preparation is not None or self.preprocess is not None


class AnyModule(Method):
    """Nearest neighbours by the cosine of a module's outputs; a softmax joins several shots of a class."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.attention = Attention(AttentionSpec("cosine", "fixed", ANY_SCALE))

    def embed(self, sample_B: Tensor) -> Tensor:
        try:
            output_B = self.module(sample_B)
        except RuntimeError as error:
            raise ValueError(f"encoder: {type(self.module).__name__} refuses samples of shape {tuple(sample_B.shape)}: "
                             f"{said(error)}; preprocess makes one picture, such as (3, 128, 128)") from error
        if not isinstance(output_B, Tensor) or output_B.ndim < 2 or len(output_B) != len(sample_B):
            shape = tuple(output_B.shape) if isinstance(output_B, Tensor) else type(output_B).__name__
            raise ValueError(f"encoder: {type(self.module).__name__} makes {shape} of {len(sample_B)} samples; it must "
                             "make one row of numbers for each: leave out its last layer, or wrap it")
        return output_B.flatten(1).float()

    def classify(self, support_ES: Tensor, way_ES: Tensor, query_EQ: Tensor, num_ways: int) -> Tensor:
        return self.attention(query_EQ, support_ES, way_ES, num_ways)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        raise NotImplementedError("a module of others is used as it is")


def load_encoder(encoder: str | os.PathLike[str] | nn.Module, preprocess: Preprocess | None = None,
                 margin: float | None = None, upright: bool = False, scale: float | None = None,
                 device: torch.device | str = "cpu") -> Encoder:
    """The encoder that `OneShotClassifier` names; its parameters are explained there.

    Raises:
        CheckpointError: there is no such file, or it is damaged, or not a model that can be used.
        ValueError: parameters that do not belong together.
    """
    if isinstance(encoder, nn.Module):
        found = Encoder(type(encoder).__name__, AnyModule(_own_copy(encoder, device)), preprocess=preprocess)
    elif isinstance(encoder, str | os.PathLike):
        if preprocess is not None:
            raise ValueError(f"preprocess: the model {os.fspath(encoder)!r} knows how its pictures are prepared; a "
                             "preprocess is for a torch.nn.Module: leave it out")
        found = _from_file(*_file_of(os.fspath(encoder)))
    else:
        raise ValueError(f"encoder is {shown(encoder)}; give the name of a published checkpoint, the path of a model "
                         "file, or a torch.nn.Module")
    if margin is not None:
        found = _cropped_to_ink(found, margin, upright)
    elif upright:
        raise ValueError("upright without a margin: a drawing that was sheared must be cropped anew; give a margin "
                         "too, such as 0.18")
    if scale is not None:
        _set_scale(found, scale)
    try:
        found.method.to(device).eval()
    except (RuntimeError, AssertionError) as error:  # an assertion of a torch without CUDA
        raise ValueError(f"device is {str(device)!r}, which this machine or this build of torch lacks: {said(error)}; "
                         "leave it out for the CPU") from error
    return found


def _own_copy(module: nn.Module, device: torch.device | str) -> nn.Module:
    """A copy for evaluation mode; the user's module keeps its mode. Weights are shared, unless they have to move."""
    weights = [*module.parameters(), *module.buffers()]
    stays = all(weight.device == torch.device(device) for weight in weights)
    return copy.deepcopy(module, {id(weight): weight for weight in weights} if stays else {})


def _file_of(name: str) -> tuple[str, Path]:
    """Name and path of a model's file: a published name goes before a file of that name in the working directory."""
    if name in (known := published.names()):
        return name, published.checkpoint(name)
    path = Path(name)
    if path.is_file():
        return path.name, path
    raise CheckpointError(f"encoder {name!r}: there is no such file, and no such published checkpoint; published are "
                          f"{', '.join(known) or 'none'}")


def _from_file(name: str, path: Path) -> Encoder:
    check_hash_in_name(path)
    if kind := format_of(first_bytes(path)):
        raise CheckpointError(f"{path}: a {kind} picture, where a model file is wanted; name a model (`matchnet "
                              "models` lists those that come with the package)")
    content = load_tensors(path)
    if INCEPTION_FIRST in content:
        return Encoder(name, _inception(content, path), INCEPTION_PREPARATION)
    model = model_from(content, path)
    if model.preparation is None:
        raise CheckpointError(f"{path}: a model of words ({model.method.name} of {model.dataset or 'sentences'}), and "
                              "this classifies pictures; name a model of images")
    method = model.build(path)
    if isinstance(method, Mann):
        raise CheckpointError(f"{path}: a memory-augmented network answers for its own number of ways alone; name a "
                              "matching network, a classifier, a siamese net or pixels")
    return Encoder(name, method, model.preparation)


def _inception(content: dict[str, Any], path: Path) -> Classifier:
    """torchvision's Inception v3 as a classifier of the 1,000 synsets; CheckpointError if the weights do not fit."""
    method = Classifier(ClassifierSpec(encoder=InceptionSpec()), INCEPTION_PREPARATION.sample_shape, 1000)
    attention = {name: value for name, value in method.state_dict().items() if name.startswith(ATTENTION)}
    load_weights(method, attention | from_torchvision(content), path)
    return method


def drawings_of(encoder: Encoder, parameter: str, value: object) -> Preparation:
    """The preparation of a model of drawings; ValueError for other models, for which the parameter has no meaning."""
    found = encoder.preparation
    if found is None or found.kind != "drawings":
        why = "" if found is None or found.kind else \
            " (its training data had neither invert nor margin, so its pictures count as photographs)"
        raise ValueError(f"{parameter} is {value!r}, which is for models of drawings; {encoder.name} is none{why}: "
                         "leave it out")
    return found


def _cropped_to_ink(encoder: Encoder, margin: float, upright: bool) -> Encoder:
    preparation = drawings_of(encoder, "margin", margin)
    upright = upright or preparation.upright
    return replace(encoder, preparation=replace(preparation, margin=float(margin), upright=upright))


def _set_scale(encoder: Encoder, scale: float) -> None:
    attention = getattr(encoder.method, "attention", None)
    if not scale > 0:
        raise ValueError(f"scale is {scale}; the similarities are multiplied with it: above 0")
    if not isinstance(attention, Attention):
        raise ValueError(f"scale is {scale}, and {encoder.name} has no attention over similarities; leave it out")
    with torch.no_grad():
        attention.log_scale.fill_(float(torch.tensor(float(scale)).log()))
