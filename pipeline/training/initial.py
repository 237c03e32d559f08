"""The first weights of a model that begins with another's, or with published ones."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from matchnet.encoders import Encoder
from matchnet.encoders.conv4 import Conv4Spec
from matchnet.encoders.language_model import LanguageModelStates
from matchnet.methods import Method, build_method
from matchnet.methods.torchvision_names import ATTENTION, from_torchvision
from matchnet.model_file import ModelFile, read_model
from matchnet.weights import CheckpointError, check_hash_in_name, load_tensors, load_weights
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.spec import PARTS
from pipeline.params.sections import ModelParams
from pipeline.training.data import training_classes

READER = "reader."  # the part of a language model that encodes
PUBLISHED = "inception_v3_google-0cc3c7bd.pth"
ENCODERS = ("encoder.", "encoder_f.")  # prefixes in a classifier or a siamese net; in a matching network


def take_weights(method: Method, model: ModelParams, init: Path | None, shards: ShardFolder) -> None:
    """Put the weights of the model in file `init` into the encoders of `method`, or published ones into all of it.

    Nothing is done if the parameters name neither.

    Raises:
        CheckpointError: the file is missing, damaged, not the published one, or its encoder is another one.
        ValueError: that model has learnt from classes that validate or test this one, or has other words.
    """
    if model.published is not None:
        _take_published(method, Path(model.published))
    if init is None:
        return
    source = read_model(init)
    _require_held_out_unseen(source, model, init, shards)
    for encoder in _encoders(method):
        if isinstance(encoder, LanguageModelStates):
            if source.dataset_sha256 != shards.sha256:
                raise ValueError(f"{init}: a language model of other data than {shards}: its tokens are other words; "
                                 "train it again")
            load_weights(encoder.reader, _with_prefix(source.state_dict, READER), init)
        else:
            _require_same_relu(source, model, init)
            load_weights(encoder, _encoder_of(source, init), init)


def require_method(model: ModelParams, init: Path | None, shards: ShardFolder) -> None:
    """Before workers start, refuse a method that cannot be built for the classes, or first weights that it cannot take.

    The method is built as each worker does, and thrown away.

    Raises:
        CheckpointError, ValueError: see `take_weights`; a size that does not fit the classes or the vocabulary.
    """
    classes = training_classes(model, shards)
    for num_words in _numbers_of_words(asdict(model.method)) if shards.manifest.words else ():
        if num_words < shards.words.num_tokens:
            raise ValueError(f"method {model.method.name}: num_words is {num_words}, and {shards.manifest.name} has "
                             f"{shards.words.num_tokens} tokens: its words, and the special ones; write that many")
    try:
        method = build_method(model.method, classes.sample_shape, len(classes.names))
    except ValueError as error:
        raise ValueError(f"method {model.method.name} for {len(classes.names):,} classes of {shards.manifest.name}: "
                         f"{error}") from error
    take_weights(method, model, init, shards)


def _numbers_of_words(values: Mapping[str, Any]) -> Iterator[int]:
    """Each `num_words` in a method's fields."""
    for name, value in values.items():
        if name == "num_words":
            yield value
        elif isinstance(value, Mapping):
            yield from _numbers_of_words(value)


def _take_published(method: Method, path: Path) -> None:
    """Take torchvision's weights of inception_v3; its outputs are the 1,000 synsets in the order of names, as ours."""
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; torchvision publishes the weights of its inception_v3 "
                              f"(Inception_V3_Weights.IMAGENET1K_V1) as {PUBLISHED}: download it, and put it there")
    check_hash_in_name(path)
    weights = from_torchvision(load_tensors(path))
    load_weights(method, _with_prefix(method.state_dict(), ATTENTION, kept=True) | weights, path)


def _require_held_out_unseen(source: ModelFile, model: ModelParams, init: Path, shards: ShardFolder) -> None:
    """Classes that this model is tested on, or validated on, must be new to the one that it begins with."""
    held_out = set(shards.names_of(model.split, [part for part in PARTS if part not in model.train_parts]))
    seen = sorted(source.seen_classes & held_out)
    if seen:
        raise ValueError(f"{init}: has been trained on {seen[0]!r} ({len(seen)} such classes), a valid or test class "
                         f"of split {model.split}, to be learnt in one shot; begin with a model that was trained on "
                         "the training classes of this split (a language model: with `targets: train`)")


def _encoders(method: Method) -> Iterator[nn.Module]:
    found = [part for _, part in method.named_children() if isinstance(part, Encoder)]
    if not found:
        raise ValueError(f"{type(method).__name__} has no encoder that could begin with another model's weights; "
                         "leave init out")
    yield from found


def _require_same_relu(source: ModelFile, model: ModelParams, init: Path) -> None:
    """A ReLU has no weights, so that loading them would not notice that it is missing, or one too many."""
    theirs, ours = (getattr(method, "encoder", None) for method in (source.method, model.method))
    if isinstance(theirs, Conv4Spec) and isinstance(ours, Conv4Spec) and theirs.last_relu != ours.last_relu:
        raise ValueError(f"{init}: its encoder has last_relu: {str(theirs.last_relu).lower()}; write the same in "
                         "method.encoder of the model that begins with it")


def _encoder_of(source: ModelFile, init: Path) -> dict[str, Tensor]:
    for prefix in ENCODERS:
        if weights := _with_prefix(source.state_dict, prefix):
            return weights
    raise CheckpointError(f"{init}: a {source.method.name} without an encoder; name a classifier or a matching network")


def _with_prefix(weights: Mapping[str, Tensor], prefix: str, kept: bool = False) -> dict[str, Tensor]:
    """The weights whose name begins with `prefix`, without the prefix unless it is `kept`."""
    return {name if kept else name.removeprefix(prefix): weight for name, weight in weights.items()
            if name.startswith(prefix)}
