"""Compare two methods over several trainings of each, on the same test episodes.

    python -m pipeline.seeds mini --column 5w1s fce=linear fce-1=linear-1 fce-2=linear-2

Each pair is ROW=BASELINE of a table, and all of them differ in the seed of the training alone. It reads what the stage
`evaluate` kept of each episode, and prints the mean difference with its 95% interval over seeds and episodes.
"""

import argparse
from collections.abc import Sequence

import numpy as np

from pipeline import paths
from pipeline.data.shards.folder import ShardFolder
from pipeline.evaluate.compare import read_column, require_same_data
from pipeline.params import named, read_params
from pipeline.results.comparison import difference_of
from pipeline.results.seeds import mean_over_seeds


def differences(table: str, column: str, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """difference_TE of pairs of rows; ValueError for rows that were not evaluated on the same data and episodes."""
    params, found = read_params(table), []
    for pair in pairs:
        names = [f"{table}/{row}" for row in pair]
        rows = [named(params.rows, "rows", name) for name in names]
        require_same_data(names, ShardFolder(paths.SHARDS / rows[0].dataset))
        found.append(difference_of(*(read_column(paths.accuracies_file(name), column, row.episodes, name)
                                     for name, row in zip(names, rows, strict=True))))
    if len({len(difference_E) for difference_E in found}) > 1:
        raise ValueError(f"rows with {', '.join(str(len(one)) for one in found)} episodes; give all rows as many")
    return np.stack(found)


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
    pairs = [tuple(pair.split("=")) for pair in arguments.pairs]
    if any(len(pair) != 2 for pair in pairs):
        parser.error("a pair is written ROW=BASELINE, such as fce=linear")
    try:
        print(in_words(differences(arguments.table, arguments.column, pairs)))
    except (ValueError, OSError) as error:
        parser.exit(1, f"{type(error).__name__}: {error}\n")


if __name__ == "__main__":
    main()
