"""Two rows on the same episodes: where they differ, with pictures of some of those episodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from matchnet.episodes import EpisodeSpec, sample_episodes
from matchnet.evaluation import embed_rows
from matchnet.messages import said
from matchnet.model_file import read_model
from pipeline import paths
from pipeline.data.shards.folder import ShardFolder
from pipeline.evaluate.row import FEW, device_of, loaded_samples, method_for, shown_episode
from pipeline.params import Params, RowParams
from pipeline.params.sections import ComparisonParams
from pipeline.results.comparison import Comparison, compared, difference_of
from pipeline.results.comparison_grid import Group, SharedEpisode
from pipeline.results.metrics import read_details
from pipeline.results.shown_episode import ShownEpisode

MOST_AHEAD, MOST_BEHIND = 3, 1  # episodes to draw


@dataclass(frozen=True)
class Compared:
    """difference_E: our accuracy less the baseline's, in [-1, 1]."""

    difference_E: np.ndarray
    figures: Comparison
    groups: Sequence[Group]


def compare(comparison: ComparisonParams, params: Params) -> Compared:
    """Compare the results that `evaluate` kept of every episode; only the episodes to be drawn are run again.

    Raises:
        ValueError: a row that was not evaluated, or was evaluated with other parameters or shards than now.
    """
    names = comparison.row, comparison.baseline
    require_same_data(names, ShardFolder(paths.SHARDS / params.rows[names[0]].dataset))
    accuracies = [read_column(paths.accuracies_file(name), comparison.column, params.rows[name].episodes, name)
                  for name in names]
    most_one_way = [read_column(paths.most_one_way_file(name), comparison.column, params.rows[name].episodes, name)
                    for name in names]
    difference_E = difference_of(*accuracies)
    figures = compared((*names, comparison.column), difference_E, *most_one_way)
    ahead, behind = most_ahead(difference_E, MOST_AHEAD), most_ahead(-difference_E, MOST_BEHIND)
    ours, baseline = (_answers(params.rows[name], params.rows[name].tasks[comparison.column], [*ahead, *behind],
                               device_of(params.compute)) for name in names)
    shared = [SharedEpisode(*both) for both in zip(ours, baseline, strict=True)]
    return Compared(difference_E, figures, _groups(figures, shared[:len(ahead)], shared[len(ahead):]))


def most_ahead(difference_E: np.ndarray, most: int) -> list[int]:
    """The numbers of the episodes with the largest positive differences; among equals the first ones."""
    order = np.argsort(-difference_E, kind="stable")[:most]
    return order[difference_E[order] > 0].tolist()


def _groups(figures: Comparison, ahead: Sequence[SharedEpisode], behind: Sequence[SharedEpisode]) -> list[Group]:
    groups = [Group(f"Chosen out of {figures.episodes:,} test episodes, for the largest lead over the baseline: "
                    f"{len(ahead)} of the {figures.better:,} where it is ahead. It is behind in {figures.worse:,}, and "
                    f"{figures.equal:,} are equal. Queries on which the two differ come first.", ahead),
              Group(f"The other way: {len(behind)} of the {figures.worse:,} where it is behind, chosen for the largest "
                    "lead of the baseline.", behind)]
    return [group for group in groups if group.episodes]


def read_column(path: Path, column: str, num_episodes: int, row: str) -> np.ndarray:
    """One column of a Parquet file that `evaluate` kept of a row's episodes; ValueError for anything else."""
    remedy = f"make it with {_stage(row)}"
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; {remedy}")
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except Exception as error:  # pyarrow raises errors of several kinds for damaged bytes
        raise ValueError(f"{path}: not a whole Parquet file ({said(error)}); {remedy}") from error
    if column not in table.column_names or table.num_rows != num_episodes:
        raise ValueError(f"{path}: {table.num_rows} episodes of {', '.join(table.column_names)}, and its parameters "
                         f"say {num_episodes} of {column}; {remedy}")
    values = table[column].to_numpy()
    if values.dtype.kind != "f" or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"{path}: {column}: what an episode has is a share of its queries, from 0 to 1; {remedy}")
    return values


def require_same_data(names: Sequence[str], shards: ShardFolder) -> None:
    """Raise ValueError unless all rows were measured on these shards: only then are their episodes the same."""
    for name in names:
        used = read_details(paths.details_file(name)).dataset.manifest_sha256
        if used != shards.sha256:
            raise ValueError(f"{paths.details_file(name)}: was measured on data of SHA-256 {used}, and "
                             f"{shards}/dataset.json is now of {shards.sha256}; make it again with {_stage(name)}")


def _stage(row: str) -> str:
    table, _, name = row.partition("/")
    return f"the stage evaluate@{name} of {table}"


def _answers(row: RowParams, spec: EpisodeSpec, numbers: Sequence[int],
             device: str) -> list[ShownEpisode]:
    """Some episodes as the row's model answers them."""
    if not numbers:
        return []
    path = paths.model_file(row.model)
    model = read_model(path)
    if model.model_name != row.model:
        raise ValueError(f"{path}: holds the model {model.model_name}, and not {row.model}: it is another file; "
                         "train it again")
    with loaded_samples(row, model, ShardFolder(paths.SHARDS / row.dataset), FEW) as samples:
        spec = spec.among(samples.num_classes)
        classes = samples.classes_for(spec)
        method = method_for(row, model, model.build(path), samples, classes).to(device)
        episodes = sample_episodes(row.seed, numbers, spec, classes)
        row_U = np.unique(np.concatenate([episodes.support_ES.flatten(), episodes.query_EQ.flatten()]))
        features = embed_rows(method, samples.store, row_U, device)
        with torch.inference_mode():
            log_probs_EQN = method.classify_rows(features, episodes)
        return [shown_episode(samples, classes, episodes, log_probs_EQN, e) for e in range(len(episodes))]
