"""Make a published checkpoint of a trained model: matchnet/published/<name>.pt and its card, <name>.json.

    python -m pipeline.publish omniglot/matching --trained-on "1,200 characters of Omniglot, ..." \\
        --limits "Handwritten ..." --rows omniglot/matching omniglot/mnist

The file holds what inference needs: of a classifier without its softmax over the training classes. The card's figures
are those of results/details/TABLE/ROW.json, which must be of this very model.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from matchnet.files import sha256_of
from matchnet.messages import shown
from matchnet.methods import Classifier, MatchingNetwork
from matchnet.methods.classifier import ClassifierSpec
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.methods.siamese import SiameseSpec
from matchnet.model_file import ModelFile, read_model, write_model
from matchnet.preparation import Preparation
from matchnet.published import FOLDER, LARGEST, LARGEST_TOGETHER, Card, Figure, write_card
from pipeline import paths
from pipeline.params.tables import NAME
from pipeline.results.metrics import read_details


def publish(model_name: str, name: str, trained_on: str, limits: str, rows: list[str],
            folder: Path = FOLDER) -> Card:
    """Write both files; returns the card.

    Raises:
        ValueError: a name that cannot be a file's, a model that cannot be published, one that is too large, or figures
            of another model.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"--name is {shown(name)}; it becomes the name of a file: a letter or a digit, then letters, "
                         "digits, '.', '_' and '-': write another")
    path = paths.model_file(model_name)
    model = for_inference(read_model(path), path)
    assert model.preparation is not None
    figures = tuple(figure for row in rows for figure in _figures(row, model))
    target = folder / f"{name}.pt"
    _require_small(model, target)
    write_model(target, model)
    card = Card(name=name, trained_on=trained_on, limits=limits, picture=in_words(model.preparation), figures=figures,
                method=model.method.name, model=model.model_name, dataset=model.dataset, split=model.split,
                dataset_sha256=model.dataset_sha256, num_classes=len(model.seen_classes), step=model.step,
                seconds=round(model.seconds, 1), seed=model.seed, sha256=sha256_of(target), size=target.stat().st_size)
    write_card(card, folder)
    return card


def for_inference(model: ModelFile, path: Path) -> ModelFile:
    """The model without the parts that only training needs; a classifier becomes a matching network on its features."""
    method = model.build(path)
    if model.preparation is None or not isinstance(model.method, MatchingNetworkSpec | ClassifierSpec | SiameseSpec):
        raise ValueError(f"{path}: a {model.method.name} of samples {model.sample_shape}; published are matching "
                         "networks, classifiers and siamese nets of images")
    if isinstance(model.method, ClassifierSpec):
        assert isinstance(method, Classifier)
        spec = MatchingNetworkSpec(encoder=model.method.encoder, attention=model.method.attention)
        matching = MatchingNetwork(spec, model.sample_shape)
        matching.encoder_f.load_state_dict(method.encoder.state_dict())
        matching.attention.load_state_dict(method.attention.state_dict())
        model = replace(model, method=spec, state_dict=matching.state_dict())
    weights = {name: weight.clone() for name, weight in model.state_dict.items()}  # no storage that is shared
    return replace(model, state_dict=weights, train_classes=sorted(model.seen_classes), earlier_classes=[])


def in_words(preparation: Preparation) -> str:
    colours = "grey" if preparation.channels == 1 else "RGB"
    return f"{preparation.size} x {preparation.size}, {colours}, {preparation.kind or 'pictures'}"


def _figures(row: str, model: ModelFile) -> list[Figure]:
    metrics = read_details(paths.details_file(row))
    used = metrics.model
    if (used.name, used.steps, used.seed) != (model.model_name, model.step, model.seed):
        raise ValueError(f"{paths.details_file(row)}: figures of model {used.name}, step {used.steps}, seed "
                         f"{used.seed}; this is {model.model_name}, step {model.step}, seed {model.seed}: evaluate it "
                         "again, or name another row")
    return [Figure(dataset=f"{metrics.dataset.name}, {metrics.dataset.part} classes", task=column,
                   accuracy=result.accuracy, ci95=result.ci95, episodes=result.episodes)
            for column, result in metrics.columns.items()]


def _require_small(model: ModelFile, target: Path) -> None:
    """Tried elsewhere first: a model that is too large must not take the place of a good one."""
    with tempfile.TemporaryDirectory() as folder:
        tried = Path(folder, target.name)
        write_model(tried, model)
        size = tried.stat().st_size
    together = size + sum(file.stat().st_size for file in target.parent.glob("*.pt") if file != target)
    if size > LARGEST or together > LARGEST_TOGETHER:
        raise ValueError(f"{target}: {size:,} bytes, and {together:,} with the others; a published checkpoint has at "
                         f"most {LARGEST:,}, and all together {LARGEST_TOGETHER:,}: publish a smaller model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="full name of a trained model, such as omniglot/matching")
    parser.add_argument("--name", help="of the checkpoint; default: the table's")
    parser.add_argument("--trained-on", required=True, help="in words, for the card")
    parser.add_argument("--limits", required=True, help="in words, for the card: where it is likely to fail")
    parser.add_argument("--rows", nargs="*", default=[], metavar="TABLE/ROW", help="whose figures stand in the card")
    options = parser.parse_args()
    try:
        name = options.name or options.model.partition("/")[0]
        card = publish(options.model, name, options.trained_on, options.limits, options.rows)
    except (ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(f"{FOLDER / card.name}.pt: {card.size:,} bytes, SHA-256 {card.sha256}")


if __name__ == "__main__":
    main()
