"""Paths of all files, relative to the root of the repository; each table's dvc.yaml has the same paths.

Models, rows and comparisons have full names, such as `omniglot/short-fce`: the table and the name in it.
"""

from pathlib import Path

RAW = Path("data/raw")
SHARDS = Path("data/shards")
RUNS = Path("data/runs")  # folders of unfinished training runs; no stage's output
PROFILES = Path("data/profiles")  # profiles of steps of training runs; no stage's output either
RESOLVED = Path("data/resolved")  # dependencies of each stage
MODELS = Path("data/models")
EVALUATIONS = Path("data/evaluations")
RESULTS = Path("results")


def require_no_links_out() -> None:
    """Raise ValueError for a folder of outputs that is a symbolic link out of the repository: DVC refuses those, hours
    later, when the stage is done. (Files may be links, as DVC's cache.type symlink makes them.)"""
    root = Path().resolve()
    folders = [RAW.parent, RESULTS, RAW, SHARDS, RESOLVED, MODELS, EVALUATIONS]
    below = [path for folder in folders[1:] for path in _inside(folder)]
    of_tables = [path for folder in (RESULTS, MODELS, EVALUATIONS) for table in _inside(folder) for path in
                 _inside(table)]
    for path in [*folders, *below, *of_tables]:
        if path.is_symlink() and not path.is_file() and not path.resolve().is_relative_to(root):
            raise ValueError(f"{path}: a symbolic link to {path.resolve()}, out of the repository, where DVC takes no "
                             "outputs; remove the link, and move the whole repository to that disk, or mount that "
                             f"folder here (mount --bind {path.resolve()} {path})")


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def short_name(full_name: str) -> str:
    """A full name without its table."""
    return full_name.partition("/")[2]


def model_file(model: str) -> Path:
    return MODELS / model / "model.pt"


def curve_file(model: str) -> Path:
    """The copy that git keeps; see `training_files`."""
    return RESULTS / "curves" / f"{model}.csv"


def speed_file(model: str) -> Path:
    """The copy that git keeps; see `training_files`."""
    return RESULTS / "speed" / f"{model}.json"


def training_files(model: str) -> dict[Path, Path]:
    """Measurements of training beside the model, which DVC keeps -> the copies that git keeps."""
    folder = MODELS / model
    return {folder / "curve.csv": curve_file(model), folder / "speed.json": speed_file(model)}


def trace_file(model: str) -> Path:
    return PROFILES / f"{model}.json.gz"


def metrics_file(row: str) -> Path:
    """The accuracies by column, which `dvc metrics` shows."""
    return RESULTS / "metrics" / f"{row}.json"


def details_file(row: str) -> Path:
    """Intervals, episodes, seconds, machine, digests."""
    return RESULTS / "details" / f"{row}.json"


def picture_file(row: str) -> Path:
    """Test episodes of images."""
    return EVALUATIONS / row / "episodes.png"


def sentences_file(row: str) -> Path:
    """Test episodes of sentences."""
    return EVALUATIONS / row / "episodes.html"


def accuracies_file(row: str) -> Path:
    return EVALUATIONS / row / "accuracies.parquet"


def most_one_way_file(row: str) -> Path:
    return EVALUATIONS / row / "most_one_way.parquet"


def comparison_file(comparison: str) -> Path:
    return RESULTS / "comparisons" / f"{comparison}.json"


def comparison_folder(comparison: str) -> Path:
    """The differences of all episodes, and the picture; beside the evaluations of rows, whose names have no @."""
    table, _, name = comparison.partition("/")
    return EVALUATIONS / table / f"compare@{name}"


def comparison_picture(comparison: str) -> Path:
    return comparison_folder(comparison) / "episodes.png"


def differences_file(comparison: str) -> Path:
    return comparison_folder(comparison) / "differences.parquet"


def report_file(table: str, kind: str) -> Path:
    """The report of a table; kind is html or md."""
    return RESULTS / f"{table}.{kind}"
