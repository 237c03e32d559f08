"""Stage evaluate: measure one row; results/metrics and results/details, and of every episode data/evaluations."""

from collections.abc import Iterator
from contextlib import contextmanager

from matchnet.model_file import read_model
from pipeline import paths
from pipeline.data.nodes.cache import local_shards
from pipeline.data.shards.folder import ShardFolder
from pipeline.evaluate.on_workers import Workers
from pipeline.evaluate.row import device_of, evaluate_row, write_columns
from pipeline.params import Params, named
from pipeline.results.episode_grid import draw_episodes
from pipeline.results.episode_text import write_episodes
from pipeline.results.metrics import write_details, write_metrics
from stages.command import run_stage


def evaluate(name: str, params: Params) -> None:
    row = named(params.rows, "rows", name)
    path = paths.model_file(row.model)
    model = read_model(path)
    shards = ShardFolder(paths.SHARDS / row.dataset)
    with (_workers(params, row.model, shards) as workers,
          local_shards(str(shards), params.cluster.cache, shards.groups_of(row.split, (row.part,))) as folder):
        measured = evaluate_row(row, model, model.build(path), ShardFolder(folder),
                                "cpu" if workers else device_of(params.compute), workers)
    write_columns(paths.accuracies_file(name),
                  {column: episodes.accuracy_E for column, episodes in measured.episodes.items()})
    write_columns(paths.most_one_way_file(name),
                  {column: episodes.most_one_way_E for column, episodes in measured.episodes.items()})
    if measured.vocabulary is None:
        draw_episodes(paths.picture_file(name), measured.shown)
    else:
        write_episodes(paths.sentences_file(name), measured.shown, measured.vocabulary)
    write_details(paths.details_file(name), measured.details)
    write_metrics(paths.metrics_file(name), measured.details)


@contextmanager
def _workers(params: Params, model: str, shards: ShardFolder) -> Iterator[Workers | None]:
    """The workers of the cluster in the parameters; None without a cluster."""
    if params.cluster.ray_address is None:
        yield None
        return
    from pipeline.workers.ray_tasks import cluster_workers  # Ray takes seconds to import

    with cluster_workers(params.cluster, params.compute_of(model), shards) as workers:
        yield workers


if __name__ == "__main__":
    run_stage(evaluate, __doc__, "row")
