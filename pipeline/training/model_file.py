"""`data/models/<model>/model.pt`: a trained method, with everything needed to build it again."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from matchnet.methods import Method, MethodSpec, build_method
from pipeline.params.parsing import parse
from pipeline.training.checkpoint import CheckpointError, load_tensors, load_weights, save_tensors

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """What the file holds.

    train_classes: names, in the order of a classifier's outputs.
    earlier_classes: what the model that it began with had seen.
    seconds: that training took.
    """

    model_name: str
    method: MethodSpec
    sample_shape: tuple[int, ...]
    num_classes: int
    state_dict: dict[str, Tensor]
    step: int
    seed: int
    dataset_sha256: str
    split: str
    train_classes: list[str]
    earlier_classes: list[str] = field(default_factory=list)
    seconds: float

    @property
    def seen_classes(self) -> set[str]:
        """All that it has learnt from, directly or not; images turned by 90 degrees are of the same class."""
        return {name.partition("@")[0] for name in (*self.train_classes, *self.earlier_classes)}

    def build(self, path: Path) -> Method:
        """The method with its weights; CheckpointError if they do not fit it."""
        method = build_method(self.method, self.sample_shape, self.num_classes)
        load_weights(method, self.state_dict, path)
        return method


def write_model(path: Path, model: ModelFile) -> None:
    """Write it whole or not at all."""
    content: dict[str, Any] = {name: getattr(model, name) for name in ModelFile.__dataclass_fields__}
    save_tensors(path, {"format": FORMAT, **content, "method": asdict(model.method)})


def read_model(path: Path) -> ModelFile:
    """Read what `write_model` wrote.

    Raises:
        CheckpointError: not such a file, or of another format.
    """
    content = load_tensors(path)
    if content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format is {content.get('format')!r}, this version reads {FORMAT}; "
                              "delete it and train again")
    content.setdefault("earlier_classes", [])  # files of before images could begin with another model
    fields = {name: content[name] for name in ModelFile.__dataclass_fields__}
    fields["method"] = parse(MethodSpec, content["method"], f"{path}: method")
    fields["sample_shape"] = tuple(content["sample_shape"])
    return ModelFile(**fields)
