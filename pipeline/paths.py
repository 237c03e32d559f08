"""Where things lie, relative to the root of the repository; each table's dvc.yaml says the same.

Models, rows and comparisons have full names, such as `omniglot/short-fce`: the table and the name in it.
"""

from pathlib import Path

RAW = Path("data/raw")
SHARDS = Path("data/shards")
RUNS = Path("data/runs")  # of unfinished training runs; no stage's output
PROFILES = Path("data/profiles")  # of steps of training runs; no stage's output either
RESOLVED = Path("data/resolved")  # what each stage depends on
MODELS = Path("data/models")
EVALUATIONS = Path("data/evaluations")
RESULTS = Path("results")


def model_file(model: str) -> Path:
    return MODELS / model / "model.pt"


def curve_file(model: str) -> Path:
    return RESULTS / "curves" / f"{model}.csv"


def speed_file(model: str) -> Path:
    return RESULTS / "speed" / f"{model}.json"


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
