"""The answer for each query: its classes by probability, and the support pictures that decided."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from matchnet.pictures.folders import PassedOver, Support
from matchnet.pictures.one_shot import OneShotClassifier
from matchnet.pictures.reading import PictureError

Result = TypeVar("Result")
UNKNOWN = "unknown"
SHOWN = 5  # classes, and support pictures, of a query
AT_ONCE = 64  # pictures


@dataclass(frozen=True)
class Answer:
    """The answer for one query.

    classes, nearest: the SHOWN most probable classes, and the most attended pictures, each with its share.
    name: the answered class, or UNKNOWN where its probability is too low.
    """

    path: Path
    name: str
    probability: float
    classes: list[tuple[str, float]]
    nearest: list[tuple[int, float]]  # positions in the support set


def fit_readable(classifier: OneShotClassifier, support: Support) -> Support:
    """Give the classifier every picture that can be read; return those pictures, and the reasons for the others.

    Raises:
        ValueError: a class without a readable picture.
    """
    labels = dict(zip(support.paths, support.labels, strict=True))
    fitted: list[Path] = []
    bad: list[PassedOver] = []
    for chunk in _chunks(support.paths):
        good, refused = _readable(chunk, lambda paths: classifier.partial_fit(paths, [labels[path] for path in paths]))
        fitted += [path for paths, _ in good for path in paths]
        bad += refused
    if lost := sorted(set(support.labels) - {labels[path] for path in fitted}):
        first = next(one for one in bad if labels[one.path] == lost[0])
        raise ValueError(f"class {lost[0]!r}: none of its pictures can be read; {first.path}: {first.reason}")
    return Support(fitted, [labels[path] for path in fitted], support.passed_over + bad)


def answers(classifier: OneShotClassifier, queries: Sequence[Path],
            unknown: float | None) -> tuple[list[Answer], list[PassedOver]]:
    """The answer for each readable query, and the reason for each other query."""
    found: list[Answer] = []
    bad: list[PassedOver] = []
    for chunk in _chunks(queries):
        good, refused = _readable(chunk, classifier.attention)
        found += [_answer(classifier, path, weight_S, unknown) for paths, weight_QS in good
                  for path, weight_S in zip(paths, weight_QS, strict=True)]
        bad += refused
    return found, bad


def _answer(classifier: OneShotClassifier, path: Path, weight_S: np.ndarray, unknown: float | None) -> Answer:
    names = classifier.classes_.tolist()
    probability_N = np.bincount(classifier.support_way_, weight_S, len(names))
    classes = [(names[n], float(probability_N[n])) for n in probability_N.argsort()[::-1][:SHOWN]]
    nearest = [(int(s), float(weight_S[s])) for s in weight_S.argsort()[::-1][:SHOWN]]
    name, probability = classes[0]
    return Answer(path, UNKNOWN if unknown is not None and probability < unknown else name, probability, classes,
                  nearest)


def _readable(paths: list[Path], use: Callable[[list[Path]], Result]) -> tuple[list[tuple[list[Path], Result]],
                                                                               list[PassedOver]]:
    """Apply `use` to all paths at once; if one picture cannot be read, apply it to each path by itself."""
    try:
        return [(paths, use(paths))], []
    except PictureError as error:
        if len(paths) == 1:
            return [], [PassedOver(paths[0], str(error).removeprefix(f"{paths[0]}: "))]
    found = [_readable([path], use) for path in paths]
    return [one for good, _ in found for one in good], [one for _, bad in found for one in bad]


def _chunks(paths: Sequence[Path]) -> Iterator[list[Path]]:
    return (list(paths[start:start + AT_ONCE]) for start in range(0, len(paths), AT_ONCE))
