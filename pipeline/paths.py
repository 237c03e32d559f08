"""Where things lie, relative to the root of the repository; dvc.yaml says the same."""

from pathlib import Path

RAW = Path("data/raw")
SHARDS = Path("data/shards")
RUNS = Path("data/runs")  # of unfinished training runs; no stage's output
PROFILES = Path("data/profiles")  # of steps of training runs; no stage's output either
CODE = Path("data/code")  # what each stage runs
MODELS = Path("data/models")
EVALUATIONS = Path("data/evaluations")
RESULTS = Path("results")


def require_no_links_out() -> None:
    """Raise ValueError for a folder of outputs that is a symbolic link out of the repository: DVC refuses those, hours
    later, when the stage is done. (Files may be links, as DVC's cache.type symlink makes them.)"""
    root = Path().resolve()
    folders = [RAW.parent, RESULTS, RAW, SHARDS, CODE, MODELS, EVALUATIONS]
    for path in [*folders, *(path for folder in folders[1:] if folder.is_dir() for path in sorted(folder.iterdir()))]:
        if path.is_symlink() and not path.is_file() and not path.resolve().is_relative_to(root):
            raise ValueError(f"{path}: a symbolic link to {path.resolve()}, out of the repository, where DVC takes no "
                             "outputs; remove the link, and move the whole repository to that disk, or mount that "
                             f"folder here (mount --bind {path.resolve()} {path})")


def model_file(model: str) -> Path:
    return MODELS / model / "model.pt"


def curve_file(model: str) -> Path:
    return RESULTS / "training" / f"{model}.csv"


def speed_file(model: str) -> Path:
    return RESULTS / "training" / f"{model}.speed.json"


def trace_file(model: str) -> Path:
    return PROFILES / f"{model}.json.gz"


def metrics_file(experiment: str) -> Path:
    return RESULTS / experiment / "metrics.json"


def picture_file(experiment: str) -> Path:
    """Test episodes of images."""
    return RESULTS / experiment / "episodes.png"


def sentences_file(experiment: str) -> Path:
    """Test episodes of sentences."""
    return RESULTS / experiment / "episodes.html"


def accuracies_file(experiment: str) -> Path:
    return EVALUATIONS / experiment / "accuracies.parquet"


def most_one_way_file(experiment: str) -> Path:
    return EVALUATIONS / experiment / "most_one_way.parquet"


def comparison_file(comparison: str) -> Path:
    return RESULTS / "comparisons" / f"{comparison}.json"


def comparison_picture(comparison: str) -> Path:
    return RESULTS / "comparisons" / f"{comparison}.png"


def differences_file(comparison: str) -> Path:
    """Inside of EVALUATIONS, so that the report, which depends on that folder, follows comparisons as well."""
    return EVALUATIONS / "comparisons" / comparison / "differences.parquet"
