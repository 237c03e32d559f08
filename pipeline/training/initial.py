"""The first weights of a model that begins with another's: an encoder that is a language model's states."""

from pathlib import Path

from matchnet.encoders.language_model import LanguageModelStates
from matchnet.methods import Method
from pipeline.data.manifest import manifest_sha256, read_manifest
from pipeline.params.sections import ModelParams
from pipeline.training.checkpoint import load_weights
from pipeline.training.model_file import read_model

READER = "reader."  # the part of a language model that encodes


def take_weights(method: Method, model: ModelParams, init: Path | None, shards: Path) -> None:
    """Put the language model of the file `init` into the encoders of `method`; nothing is done if it is None.

    Raises:
        CheckpointError: the file is missing, damaged, or of a language model of other sizes.
        ValueError: that language model has learnt to predict a word that validates or tests, or of other data.
    """
    if init is None:
        return
    source = read_model(init)
    if source.dataset_sha256 != manifest_sha256(shards):
        raise ValueError(f"{init}: a language model of other data than {shards}: its tokens are other words; train it "
                         "again")
    split = read_manifest(shards).split(model.split)
    seen = sorted(set(source.train_classes) & {*split["valid"], *split["test"]})
    if seen:
        raise ValueError(f"{init}: has learnt to predict {seen[0]!r} ({len(seen)} such words), a valid or test class "
                         f"of split {model.split}, to be learnt in one shot; use a language model that was trained on "
                         "this split with `targets: train`")
    reader = {name.removeprefix(READER): weight for name, weight in source.state_dict.items()
              if name.startswith(READER)}
    for part in method.modules():
        if isinstance(part, LanguageModelStates):
            load_weights(part.reader, reader, init)
