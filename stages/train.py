"""Stage train: make one model, data/models/<model>/model.pt, and its learning curve, results/training/<model>.csv."""

from pipeline import paths
from pipeline.params import Params, named
from pipeline.results.curves import curve_from_records, write_curve
from pipeline.training.model_file import write_model
from pipeline.training.models import make_model
from pipeline.training.runs import forget_runs
from stages.command import run_stage


def train(name: str, params: Params) -> None:
    wanted = named(params.models, "models", name)
    init = paths.model_file(wanted.init) if wanted.init else None
    model, log = make_model(name, params, paths.SHARDS / wanted.dataset, paths.RUNS, init)
    write_curve(paths.curve_file(name), curve_from_records(log))
    write_model(paths.model_file(name), model)
    forget_runs(name, paths.RUNS, params.cluster.storage)


if __name__ == "__main__":
    run_stage(train, __doc__, "model")
