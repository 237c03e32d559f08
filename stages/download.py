"""Stage download: bring the raw files of one dataset to data/raw/DATASET, verified."""

from pipeline import paths
from pipeline.data.raw.download import download_dataset
from pipeline.params import Params
from stages.command import dataset_name, run_stage


def download(name: str, params: Params) -> None:
    dataset = dataset_name(name, params)
    wanted, cluster = params.datasets[dataset], params.cluster
    download_dataset(dataset, wanted, paths.RAW / dataset, cluster.mirror, cluster.licensed.folder_of(wanted))


if __name__ == "__main__":
    run_stage(download, __doc__, "dataset")
