"""Are the probabilities of a model right? A reliability figure on test episodes.

    python -m benchmarks.calibration matchnet/published/omniglot.pt data/shards/omniglot --split vinyals [--part test]
        [--ways 5 20] [--shots 1] [--episodes 1000] [--results benchmarks/results]

Each query of each episode has a most probable class. Queries are sorted by that probability into ten bins, and each bin
is compared with the share of its queries that are right. A model is calibrated where the two are equal: of queries with
a probability of 0.6, 60 % are right. The expected calibration error is the mean distance, weighted by queries. The
figure is for the data at hand: name other shards to see what the model's probabilities are worth there.
calibration-<model>.csv and .svg hold it all; the names end in -on-<data>, where the model was trained on other data.
"""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.table import print_table
from matchnet.episodes import EpisodeSpec
from matchnet.evaluation import EpisodeStream, embed_rows, rows_drawn, run_episodes
from matchnet.files import atomic_write
from matchnet.methods import Method
from matchnet.model_file import read_model
from pipeline.data.load.samples import Samples, load_samples
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.spec import PARTS, Part

BINS = 10
QUERIES = 5  # queries of each way
HEADER = ("task", "probability from", "to", "queries", "mean probability", "share right")


@dataclass(frozen=True)
class Bin:
    """Queries whose largest probability lies in one tenth: their number, its mean, and the share that are right."""

    first: float
    end: float
    queries: int
    probability: float
    right: float


def reliability(method: Method, samples: Samples, spec: EpisodeSpec, episodes: int, seed: int = 0) -> list[Bin]:
    """The bins that have a query, from the least probable on."""
    stream = EpisodeStream(samples.classes_for(spec), spec, seed)
    features = embed_rows(method, samples.store, rows_drawn(stream, episodes), "cpu")
    probability, right = [], []
    for drawn, log_probs_EQN in run_episodes(method, features, stream, range(episodes)):
        best_EQ = log_probs_EQN.max(-1)
        probability.append(best_EQ.values.exp().flatten())
        right.append((best_EQ.indices == drawn.query_way_EQ).flatten())
    return bins_of(torch.cat(probability).double().numpy(), torch.cat(right).numpy())


def bins_of(probability_Q: np.ndarray, right_Q: np.ndarray) -> list[Bin]:
    bin_Q = np.minimum((probability_Q * BINS).astype(int), BINS - 1)
    found = ((number, bin_Q == number) for number in range(BINS))
    return [Bin(number / BINS, (number + 1) / BINS, int(chosen.sum()), float(probability_Q[chosen].mean()),
                float(right_Q[chosen].mean())) for number, chosen in found if chosen.any()]


def expected_error(bins: Sequence[Bin]) -> float:
    queries = sum(one.queries for one in bins)
    return sum(one.queries * abs(one.probability - one.right) for one in bins) / queries


def write(folder: Path, name: str, found: dict[str, list[Bin]]) -> None:
    """calibration-<name>.csv and calibration-<name>.svg."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with atomic_write(folder / f"calibration-{name}.csv") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows((task, one.first, one.end, one.queries, round(one.probability, 4), round(one.right, 4))
                         for task, bins in found.items() for one in bins)
    figure, axes = pyplot.subplots(figsize=(4.2, 4.2))
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle="--")
    for task, bins in found.items():
        axes.plot([one.probability for one in bins], [one.right for one in bins], marker="o", markersize=4,
                  label=f"{task}, error {expected_error(bins):.3f}")
    axes.set(xlabel="probability of the most probable class", ylabel="share of queries that are right", xlim=(0, 1.02),
             ylim=(0, 1.02), title=name)
    axes.legend(frameon=False)
    figure.tight_layout()
    matplotlib.rcParams |= {"svg.hashsalt": name, "svg.fonttype": "none"}
    figure.savefig(folder / f"calibration-{name}.svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a model file")
    parser.add_argument("shards", type=Path, help="the folder of a dataset's shards")
    parser.add_argument("--split", required=True)
    parser.add_argument("--part", default="test", choices=PARTS)
    parser.add_argument("--ways", type=int, nargs="+", default=[5, 20])
    parser.add_argument("--shots", type=int, default=1)
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    model, part = read_model(options.model), PARTS[PARTS.index(options.part)]
    parts: tuple[Part, ...] = (part,)
    samples = load_samples(ShardFolder(options.shards), options.split, parts, model.sample_shape)
    method = model.build(options.model)
    specs = [EpisodeSpec(ways, options.shots, QUERIES) for ways in options.ways]
    found = {spec.column: reliability(method, samples, spec, options.episodes) for spec in specs}
    print_table(HEADER, [(task, one.first, one.end, one.queries, one.probability, one.right)
                         for task, bins in found.items() for one in bins])
    for task, bins in found.items():
        print(f"{task}: expected calibration error {expected_error(bins):.4f}")
    other_data = "" if options.shards.name == model.dataset else f"-on-{options.shards.name}"
    write(options.results, model.model_name.replace("/", "-") + other_data, found)


if __name__ == "__main__":
    main()
