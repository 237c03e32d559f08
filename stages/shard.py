"""Stage shard: write one dataset's WebDataset tars, index and manifest to data/shards/<dataset>."""

from pipeline import paths
from pipeline.data.shards import shard_dataset
from pipeline.machine import cores
from pipeline.params import Params, named
from stages.command import run_stage


def shard(name: str, params: Params) -> None:
    dataset = named(params.datasets, "datasets", name)
    shard_dataset(name, dataset, paths.RAW / name, paths.SHARDS / name,
                  num_processes=params.cluster.num_processes or cores())


if __name__ == "__main__":
    run_stage(shard, __doc__, "dataset")
