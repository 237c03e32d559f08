"""Stage train: make one model, data/models/TABLE/MODEL/model.pt, and copy its curve and its speed to results/.

With --profile it also writes a trace of some steps to data/profiles/TABLE/MODEL.json.gz, for ui.perfetto.dev or
chrome://tracing. The trace is there after about ten steps. The training goes on to its end, with the same weights.
"""

from matchnet.model_file import read_model, write_model
from pipeline import paths
from pipeline.data.load.samples import require_episodes
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.manifest import MANIFEST
from pipeline.evaluate.seen import require_new_classes
from pipeline.params import ModelParams, Params, named
from pipeline.results.curves import copy_training_files, curve_from_records, write_curve
from pipeline.results.speed import speed_from_logs, write_speed
from pipeline.training.data import training_classes
from pipeline.training.models import make_model
from pipeline.training.run_log import read_worker_logs
from pipeline.training.runs import RunFiles, forget_runs, run_folder
from stages.command import run_stage

FLAGS = {"profile": "write a trace of some steps to data/profiles"}


def train(name: str, params: Params, profile: bool = False) -> None:
    wanted = named(params.models, "models", name)
    require_test_episodes(name, params)
    init = paths.model_file(wanted.init) if wanted.init else None
    trace = paths.trace_file(name) if profile else None
    if trace:
        trace.unlink(missing_ok=True)
    files = RunFiles(ShardFolder(paths.SHARDS / wanted.dataset), paths.RUNS, init, trace)
    model, log = make_model(name, params, files)
    logs = read_worker_logs(run_folder(name, wanted, params.compute_of(name), files))
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
    """Refuse, before the training, rows of this model that its test classes cannot serve, or that it has learnt from.

    The rows are those of `params`. A row whose dataset has no shards yet is looked at when it is evaluated.

    Raises:
        ValueError: see `require_episodes` and `require_new_classes`.
    """
    rows = {name: row for name, row in params.rows.items()
            if row.model == model and (paths.SHARDS / row.dataset / MANIFEST).exists()}
    if not rows:
        return
    wanted = params.models[model]
    of_images = wanted.image_size is not None  # of words, only those in enough sentences are tested
    seen = seen_classes(wanted) if of_images else set()
    for name, row in rows.items():
        shards = ShardFolder(paths.SHARDS / row.dataset)
        for column, task in row.tasks.items():
            require_episodes(shards, row.split, (row.part,), task, f"rows: {name}: column {column}")
        if of_images:
            tested = shards.names_of(row.split, (row.part,))
            require_new_classes(row, f"{model} (rows: {name})", wanted.method, seen, tested)


def seen_classes(model: ModelParams) -> set[str]:
    """All classes that the model will have learnt from, as `ModelFile.seen_classes`."""
    names = training_classes(model, ShardFolder(paths.SHARDS / model.dataset)).names
    init = paths.model_file(model.init) if model.init else None
    earlier = read_model(init).seen_classes if init and init.is_file() else set()
    return {name.partition("@")[0] for name in names} | earlier


if __name__ == "__main__":
    run_stage(train, __doc__, "model", FLAGS)
