"""Labels of any type: as one array, and as positions among the classes. S samples."""

import sys
import warnings
from typing import Any

import numpy as np


def as_labels(y: Any) -> np.ndarray:
    """(S,), of their own type; of objects where numpy would take labels apart or change them."""
    label_S = np.asarray(y) if hasattr(y, "__array__") or _is_plain(y) else _objects(y)
    if label_S.ndim == 2 and label_S.shape[1] == 1:
        _warn_column()
        label_S = label_S.ravel()
    if label_S.ndim != 1:
        raise ValueError(f"y has the shape {label_S.shape}; give one label for each picture")
    if label_S.dtype.kind == "f":
        if not np.isfinite(label_S).all():
            raise ValueError("y contains NaN or infinity; a label is a value that can be compared")
        if (label_S != label_S.round()).any():
            raise ValueError("Unknown label type: continuous. y has fractions, and a label is a class: give whole "
                             "numbers or texts")
    return label_S


def _is_plain(y: Any) -> bool:
    """Labels of one type that numpy keeps as it is: [1, "a"] would become texts, [(1, 2)] a table."""
    return len({type(label) for label in y}) == 1 and isinstance(next(iter(y)), str | int | float | np.generic)


def _objects(y: Any) -> np.ndarray:
    labels = list(y)
    if labels and isinstance(labels[0], list | np.ndarray):
        return np.asarray(labels)
    label_S = np.empty(len(labels), dtype=object)
    label_S[:] = labels
    return label_S


def unique(label_S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted classes and the position of each label among them; unsortable ones in order of appearance."""
    try:
        classes, way_S = np.unique(label_S, return_inverse=True)
        return classes, way_S.astype(np.int64)
    except TypeError:
        position: dict[Any, int] = {}
        way = [position.setdefault(label, len(position)) for label in label_S]
        return _objects(list(position)), np.array(way, dtype=np.int64)


def _warn_column() -> None:
    category = getattr(sys.modules.get("sklearn.exceptions"), "DataConversionWarning", UserWarning)
    warnings.warn("A column-vector y was passed when a 1d array was expected; it is taken as y.ravel()", category,
                  stacklevel=4)
