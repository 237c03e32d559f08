"""The checkpoints that the package carries: `<name>.pt`, a model file, and `<name>.json`, its card.

Light: a card is read without torch. `python -m pipeline.publish` makes both of a trained model.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from matchnet.files import atomic_write, sha256_of
from matchnet.messages import said
from matchnet.parsing import ParamsError, parse

FOLDER = Path(__file__).parent
LARGEST, LARGEST_TOGETHER = 2_500_000, 6_000_000  # bytes


class DamagedError(ValueError):
    """A published checkpoint that is not the file that its card describes."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured accuracy.

    Attributes:
        dataset: what it was tested on.
        task: such as `20w1s`.
        accuracy: in percent.
        ci95: half the width of its 95% interval over episodes, in percent.
        episodes: how many test episodes there were.
    """

    dataset: str
    task: str
    accuracy: float
    ci95: float
    episodes: int


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a person has to know before using a checkpoint.

    Attributes:
        name: of the checkpoint.
        trained_on: the training data, in words.
        limits: where it is known, or likely, to fail.
        picture: what the model sees, such as `28 x 28, grey, drawings`.
        figures: its measured accuracies.
        method: the method, by name.
        model: its full name in the experiments, such as `omniglot/matching`.
        dataset: the dataset that it was trained on.
        split: the split of that dataset.
        dataset_sha256: SHA-256 of the manifest of the training data.
        num_classes: how many classes it was trained on.
        step: how many steps it was trained for.
        seconds: how long the training took.
        seed: of the training.
        sha256: of the file.
        size: bytes of the file.
    """

    name: str
    trained_on: str
    limits: str
    picture: str
    figures: tuple[Figure, ...]
    method: str
    model: str
    dataset: str
    split: str
    dataset_sha256: str
    num_classes: int
    step: int
    seconds: float
    seed: int
    sha256: str
    size: int


def names(folder: Path = FOLDER) -> list[str]:
    """The names of all published checkpoints, sorted."""
    return sorted(path.stem for path in folder.glob("*.json"))


def read_card(name: str, folder: Path = FOLDER) -> Card:
    """The card of a published checkpoint, checked.

    Raises:
        DamagedError: it is no JSON, or no card.
    """
    path = folder / f"{name}.json"
    try:
        content: Mapping[str, object] = json.loads(path.read_text(encoding="utf-8"))
        return parse(Card, content, str(path))
    except ParamsError as error:  # it names the file
        raise DamagedError(f"{error}: damaged, or edited; install matchnet again") from error
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path}: this is no card ({said(error)}): damaged, or edited; install matchnet again"
                           ) from error


def write_card(card: Card, folder: Path) -> None:
    with atomic_write(folder / f"{card.name}.json") as file:
        json.dump(asdict(card), file, indent=2, ensure_ascii=False)
        file.write("\n")


def checkpoint(name: str, folder: Path = FOLDER) -> Path:
    """The file of a published checkpoint, compared with its card.

    Raises:
        DamagedError: the file is missing, or has another SHA-256 than its card says.
    """
    card, path = read_card(name, folder), folder / f"{name}.pt"
    if not path.is_file():
        raise DamagedError(f"{path}: there is no such file, and {name}.json describes it; install matchnet again")
    if (found := sha256_of(path)) != card.sha256:
        raise DamagedError(f"{path}: its SHA-256 is {found}, and its card says {card.sha256}: damaged, or edited; "
                           "install matchnet again")
    return path
