"""Stage train: make one model, data/models/TABLE/MODEL/model.pt, with its curve and its speed, copied to results.

With --profile a trace of some steps is written as well, data/profiles/TABLE/MODEL.json.gz, for ui.perfetto.dev or
chrome://tracing. It is there after some ten steps; the training goes on to its end, with the same weights.
"""

from matchnet.model_file import write_model
from pipeline import paths
from pipeline.params import Params, named
from pipeline.results.curves import copy_training_files, curve_from_records, write_curve
from pipeline.results.speed import speed_from_logs, write_speed
from pipeline.training.models import make_model
from pipeline.training.run_log import read_worker_logs
from pipeline.training.runs import forget_runs, run_folder
from stages.command import run_stage

FLAGS = {"profile": "write a trace of some steps to data/profiles"}


def train(name: str, params: Params, profile: bool = False) -> None:
    wanted = named(params.models, "models", name)
    shards = paths.SHARDS / wanted.dataset
    init = paths.model_file(wanted.init) if wanted.init else None
    trace = paths.trace_file(name) if profile else None
    if trace:
        trace.unlink(missing_ok=True)
    model, log = make_model(name, params, shards, paths.RUNS, init, trace)
    logs = read_worker_logs(run_folder(name, wanted, params.compute_of(name), shards, paths.RUNS, init))
    curve, speed = paths.training_files(name)
    write_curve(curve, curve_from_records(log))
    write_speed(speed, speed_from_logs(logs))
    write_model(paths.model_file(name), model)
    copy_training_files(name)
    forget_runs(name, paths.RUNS, params.cluster.storage)
    if trace:
        print(f"the trace of some steps: {trace} (open it at ui.perfetto.dev or chrome://tracing)" if trace.exists()
              else f"{name}: no trace: no step was left to run; the same command trains it anew")


if __name__ == "__main__":
    run_stage(train, __doc__, "model", FLAGS)
