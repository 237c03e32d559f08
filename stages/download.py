"""Stage download: bring the raw files of one dataset to data/raw/<dataset>, verified."""

from pipeline import paths
from pipeline.data.download import download_dataset
from pipeline.params import Params, named
from stages.command import run_stage


def download(name: str, params: Params) -> None:
    dataset = named(params.datasets, "datasets", name)
    download_dataset(name, dataset, paths.RAW / name, params.cluster.mirror, params.cluster.licensed.folder_of(dataset))


if __name__ == "__main__":
    run_stage(download, __doc__, "dataset")
