"""Compare two methods over several trainings of each, on the same test episodes.

    python -m pipeline.seeds mini --column 5w1s fce=matching fce-1=matching-1 fce-2=matching-2

Each pair is ROW=BASELINE of a table, and all of them differ in the seed of the training alone. It reads what the stage
`evaluate` kept of each episode, and prints the mean difference with its 95% interval over seeds and episodes. What the
trainings share, such as an encoder that all begin with, is not among what the interval covers.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline import paths
from pipeline.data.shards.folder import ShardFolder
from pipeline.evaluate.compare import read_column, require_same_data
from pipeline.params import ModelParams, Params, named, read_params
from pipeline.params.rules import other_episodes
from pipeline.results.comparison import difference_of
from pipeline.results.seeds import mean_over_seeds


def differences(params: Params, column: str, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """difference_TE of pairs (row, baseline) of full names.

    Raises:
        ValueError: rows that were not evaluated on the same data and episodes, or models that differ in more than the
            seed.
    """
    rows = {name: named(params.rows, "rows", name) for pair in pairs for name in pair}
    first = next(iter(rows.values()))
    for name, row in rows.items():
        if field := other_episodes(row, first):
            raise ValueError(f"{name}: {field} is {getattr(row, field)}, and another row has {getattr(first, field)}; "
                             "rows are compared on the same episodes")
    for side in zip(*pairs, strict=True):
        _require_seeds_alone([params.models[rows[name].model] for name in side], side)
    require_same_data(list(rows), ShardFolder(paths.SHARDS / first.dataset))
    accuracies = {name: read_column(paths.accuracies_file(name), column, row.episodes, name)
                  for name, row in rows.items()}
    return np.stack([difference_of(accuracies[row], accuracies[baseline]) for row, baseline in pairs])


def _require_seeds_alone(models: Sequence[ModelParams], names: Sequence[str]) -> None:
    """Models are trainings of one method; each has a seed of its own."""
    trainings = [model.training for model in models]
    seeds = [training.seed for training in trainings if training is not None]
    alike = {repr(replace(model, training=model.training and replace(model.training, seed=0))) for model in models}
    if len(alike) > 1 or len(set(seeds)) < len(models):
        raise ValueError(f"{', '.join(names)}: their models have the seeds {seeds}, and "
                         f"{'differ in more' if len(alike) > 1 else 'nothing else differs'}; name rows of models that "
                         "differ in training.seed alone, each once")


def in_words(difference_TE: np.ndarray) -> str:
    """The mean with its interval, each pair's, and what they allow one to say."""
    mean, ci95 = (100 * value for value in mean_over_seeds(difference_TE))
    each = ", ".join(f"{100 * value:+.2f}" for value in difference_TE.mean(1))
    shown = f"{'a gain' if mean > 0 else 'a loss'} is shown" if abs(mean) > ci95 else "no difference is shown"
    T, E = difference_TE.shape
    return (f"{mean:+.2f} +- {ci95:.2f} points (95%, over {T} trainings of each and {E:,} episodes); by training "
            f"{each}: {shown}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table")
    parser.add_argument("pairs", nargs="+", metavar="ROW=BASELINE")
    parser.add_argument("--column", required=True, help="the task, such as 5w1s")
    arguments = parser.parse_args()
    if any(pair.count("=") != 1 for pair in arguments.pairs):
        parser.error("a pair is written ROW=BASELINE, such as fce=matching")
    pairs = [(f"{arguments.table}/{row}", f"{arguments.table}/{baseline}")
             for row, baseline in (pair.split("=") for pair in arguments.pairs)]
    try:
        print(in_words(differences(read_params(arguments.table), arguments.column, pairs)))
    except (ValueError, OSError) as error:
        parser.exit(1, f"{type(error).__name__}: {error}\n")


if __name__ == "__main__":
    main()
