"""The classes that a row is tested on must be new to its model."""

from collections.abc import Collection

from matchnet.methods import MethodSpec
from matchnet.methods.language_model import LanguageModelSpec
from matchnet.methods.pixels import PixelsSpec
from pipeline.params import RowParams


def require_new_classes(row: RowParams, model_name: str, method: MethodSpec, seen_classes: Collection[str],
                        class_names: Collection[str]) -> None:
    """Refuse held-out classes that the model has seen, in whatever dataset; those of an oracle need not be new.

    Raises:
        ValueError: names the model, the class, the part and the split.
    """
    if row.part == "train" or row.oracle or isinstance(method, PixelsSpec | LanguageModelSpec):
        return
    seen = sorted(set(seen_classes) & set(class_names))
    if seen:
        raise ValueError(f"model {model_name}: has been trained on {seen[0]!r} ({len(seen)} such classes), which "
                         f"are of the {row.part} part of split {row.split}: nothing would be one-shot; "
                         "name a model of that split, or a part that it has seen")
