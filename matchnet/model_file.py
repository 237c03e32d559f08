"""A model file: a trained method, with everything needed to build it again and to prepare pictures for it.

`data/models/<model>/model.pt` of the pipeline, and the published checkpoints of the package, are such files.
"""

import math
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from matchnet.messages import said, shown
from matchnet.methods import Method, MethodSpec, build_method
from matchnet.parsing import parse
from matchnet.preparation import Preparation
from matchnet.weights import CheckpointError, check_weights, load_tensors, load_weights, save_tensors

FORMAT = 2


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """The content of a model file.

    Attributes:
        preparation: how pictures become samples; None for a model of sentences.
        sample_shape: shape of one sample as the method takes it, (C, H, W) or (L,).
        dataset: the dataset that it was trained on.
        split: the split of that dataset.
        train_classes: names of the training classes, in the order of a classifier's outputs.
        earlier_classes: training classes of the model whose weights this one began with.
        seconds: how long the training took.
    """

    model_name: str
    method: MethodSpec
    preparation: Preparation | None = None
    sample_shape: tuple[int, ...]
    num_classes: int
    state_dict: dict[str, Tensor]
    step: int
    seed: int
    dataset: str = ""
    dataset_sha256: str
    split: str
    train_classes: list[str]
    earlier_classes: list[str] = field(default_factory=list)
    seconds: float

    def __post_init__(self) -> None:
        prepared = self.preparation.sample_shape if self.preparation else None
        if prepared != (self.sample_shape if len(self.sample_shape) == 3 else None):
            raise ValueError(f"model {self.model_name}: samples have the shape {self.sample_shape}, and its "
                             f"preparation makes {prepared}; a model of images has one that makes its samples")

    @property
    def seen_classes(self) -> set[str]:
        """All classes that the model has learnt from, directly or not; a class and its rotations count as one."""
        return {name.partition("@")[0] for name in (*self.train_classes, *self.earlier_classes)}

    def build(self, path: Path) -> Method:
        """The method with its weights; CheckpointError if they do not fit it."""
        _require_possible(self, path)
        try:
            method = build_method(self.method, self.sample_shape, self.num_classes)
        except (ValueError, RuntimeError, MemoryError, OverflowError, TypeError) as error:
            raise CheckpointError(f"{path}: no method can be built as it says ({said(error)}); delete it and train "
                                  "again") from error
        load_weights(method, self.state_dict, path)
        return method


def write_model(path: Path, model: ModelFile) -> None:
    """Write the file whole or not at all."""
    content: dict[str, Any] = {field.name: getattr(model, field.name) for field in fields(ModelFile)}
    preparation = asdict(model.preparation) if model.preparation else None
    save_tensors(path, {"format": FORMAT, **content, "method": asdict(model.method), "preparation": preparation})


def read_model(path: Path) -> ModelFile:
    """Read what `write_model` wrote.

    Raises:
        CheckpointError: not such a file, or of another format.
    """
    return model_from(load_tensors(path), path)


def model_from(content: dict[str, Any], path: Path) -> ModelFile:
    """The model in what a file holds; raises as `read_model`."""
    if "format" not in content:
        raise CheckpointError(f"{path}: not a model file of matchnet: it holds {_some_names(content)}; name a file "
                              "that `python -m stages.train` wrote, data/models/<model>/model.pt")
    if type(content["format"]) is not int or content["format"] != FORMAT:
        raise CheckpointError(f"{path}: format is {shown(content['format'])}, this version reads {FORMAT}; "
                              "delete it and train again")
    missing = [field.name for field in fields(ModelFile) if field.name not in content
               and field.default is MISSING and field.default_factory is MISSING]
    if missing:
        raise CheckpointError(f"{path}: {missing[0]} is missing ({len(missing)} fields are); delete it and train again")
    found = {field.name: content[field.name] for field in fields(ModelFile) if field.name in content}
    _check_fields(found, path)
    try:
        found["method"] = parse(MethodSpec, _without_old_size(found["method"]), f"{path}: method")
        if found.get("preparation") is not None:
            found["preparation"] = parse(Preparation, found["preparation"], f"{path}: preparation")
        return ModelFile(**found | {"sample_shape": tuple(found["sample_shape"])})
    except CheckpointError:
        raise
    except (ValueError, OverflowError) as error:  # a whole number that is no float
        raise CheckpointError(f"{_about(error, path)}; the file is of another version of matchnet: train it again"
                              ) from error


def _about(error: Exception, path: Path) -> str:
    return str(error) if str(error).startswith(str(path)) else f"{path}: {error}"


def _without_old_size(method: object) -> object:
    """FCE had a `size` once, null in nearly all files: it is `embedding_size` of the method now."""
    if not isinstance(method, dict):
        return method
    context = method.get("fce")
    if isinstance(context, dict) and "size" in context and context["size"] is None:
        return {**method, "fce": {name: value for name, value in context.items() if name != "size"}}
    return method


WHOLE_NUMBERS, TEXTS = ("num_classes", "step", "seed"), ("model_name", "dataset", "dataset_sha256", "split")
LISTS_OF_NAMES = ("train_classes", "earlier_classes")


def _check_fields(found: dict[str, Any], path: Path) -> None:
    """Raises CheckpointError for a value of another type, or that no training gives; method and preparation have their
    own rules."""
    def is_whole(value: object) -> bool:
        return type(value) is int and 0 <= value < 2**63

    def is_names(value: object) -> bool:
        return isinstance(value, list) and all(isinstance(name, str) for name in value)

    shape = found["sample_shape"]
    rules = {
        **{name: (is_whole(found[name]), "a whole number") for name in WHOLE_NUMBERS},
        **{name: (isinstance(found.get(name, ""), str), "a text") for name in TEXTS},
        **{name: (is_names(found.get(name, [])), "a list of names") for name in LISTS_OF_NAMES},
        "seconds": (type(found["seconds"]) in (int, float) and 0 <= found["seconds"] < math.inf, "a number of seconds"),
        "sample_shape": (isinstance(shape, list | tuple) and len(shape) in (1, 3) and all(map(is_whole, shape))
                         and min(shape) > 0, "one or three whole numbers")}
    for name, (holds, rule) in rules.items():
        if not holds:
            raise CheckpointError(f"{path}: {name} is {shown(found[name])}, not {rule}; delete it and train again")
    check_weights(found["state_dict"], f"{path}: state_dict")


LARGEST = 1 << 16  # a method's numbers that are not the size of a weight


def _require_possible(model: ModelFile, path: Path) -> None:
    """Raises CheckpointError for a size that the weights do not have: to build such a method may take all memory."""
    sizes = {size for weight in model.state_dict.values() for size in weight.shape}
    for number in (*_numbers(asdict(model.method)), *model.sample_shape, model.num_classes):
        if number > LARGEST and number not in sizes:
            raise CheckpointError(f"{path}: a size is {number:,}, and none of its weights has that; delete it and "
                                  "train again")


def _numbers(value: object) -> Iterator[int]:
    if isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _numbers(item)
    elif type(value) is int:
        yield value


def _some_names(content: dict[str, Any]) -> str:
    names = ", ".join(map(str, list(content)[:3]))
    return f"{names} and {len(content) - 3} more" if len(content) > 3 else names or "nothing"
