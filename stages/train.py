"""Stage train: make one model, data/models/TABLE/MODEL/model.pt, and copy its curve and its speed to results/.

With --profile it also writes a trace of some steps to data/profiles/TABLE/MODEL.json.gz, for ui.perfetto.dev or
chrome://tracing. The trace is there after about ten steps. The training goes on to its end, with the same weights.
"""

from matchnet.model_file import write_model
from pipeline import paths
from pipeline.data.manifest import MANIFEST, read_manifest
from pipeline.data.selection import require_episodes
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
    require_test_episodes(name, params)
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


def require_test_episodes(model: str, params: Params) -> None:
    """Refuse, before the training, columns of this model's rows that the test classes cannot serve.

    The rows are those of `params`. A row whose dataset has no shards yet is looked at when it is evaluated.

    Raises:
        ValueError: see `require_episodes`.
    """
    for name, row in params.rows.items():
        folder = paths.SHARDS / row.dataset
        if row.model == model and (folder / MANIFEST).exists():
            manifest = read_manifest(folder)
            for column, task in row.tasks.items():
                require_episodes(manifest, row.split, (row.part,), task, f"rows: {name}: column {column}")


if __name__ == "__main__":
    run_stage(train, __doc__, "model", FLAGS)
