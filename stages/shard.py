"""Stage shard: write one dataset's WebDataset tars, index and manifest to data/shards/DATASET."""

from pipeline import paths
from pipeline.data.download import require_downloaded
from pipeline.data.shards import shard_dataset
from pipeline.machine import cores
from pipeline.params import Params
from stages.command import dataset_name, run_stage


def shard(name: str, params: Params) -> None:
    dataset = dataset_name(name, params)
    require_downloaded(name, paths.RAW / dataset)
    wanted, raw, shards = params.datasets[dataset], paths.RAW / dataset, paths.SHARDS / dataset
    if params.cluster.ray_address is None or params.cluster.storage is not None:  # then nodes need not see this folder
        shard_dataset(dataset, wanted, raw, shards, num_processes=params.cluster.num_processes or cores())
        return
    from pipeline.ray_jobs import cluster_jobs  # Ray takes seconds to import

    with cluster_jobs(params.cluster) as run:  # a worker's working directory is Ray's: absolute paths
        shard_dataset(dataset, wanted, raw.absolute(), shards.absolute(), run=run)


if __name__ == "__main__":
    run_stage(shard, __doc__, "dataset")
