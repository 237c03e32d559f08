"""Stage shard: write one dataset's WebDataset tars, index and manifest to data/shards/DATASET."""

from pipeline import paths
from pipeline.data.raw.download import require_downloaded
from pipeline.data.shards.make import shard_dataset
from pipeline.params import Params
from pipeline.params.tables import PARAMS_FILE
from pipeline.params.yaml_file import YamlFile
from pipeline.system.machine import cores
from stages.command import dataset_name, run_stage


def shard(name: str, params: Params) -> None:
    dataset = dataset_name(name, params)
    require_downloaded(name, paths.RAW / dataset)
    with YamlFile.read(params.folder / PARAMS_FILE).located():  # for a split that the classes cannot fill
        _make_shards(dataset, params)


def _make_shards(dataset: str, params: Params) -> None:
    wanted, raw, shards = params.datasets[dataset], paths.RAW / dataset, paths.SHARDS / dataset
    if params.cluster.ray_address is None or params.cluster.storage is not None:  # then nodes need not see this folder
        shard_dataset(dataset, wanted, raw, shards, num_processes=params.cluster.num_processes or cores())
        return
    from pipeline.workers.ray_tasks import cluster_tasks  # Ray takes seconds to import

    with cluster_tasks(params.cluster) as run:  # a worker's working directory is Ray's: absolute paths
        shard_dataset(dataset, wanted, raw.absolute(), shards.absolute(), run=run)


if __name__ == "__main__":
    run_stage(shard, __doc__, "dataset")
