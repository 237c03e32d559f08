"""Content of the report in both renderings: figures, models with their curves and speed, episodes, comparisons."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline import paths
from pipeline.results.columns import column_title
from pipeline.results.comparison import HUB_SHARE, read_comparison
from pipeline.results.curves import CurvePoint, read_curve
from pipeline.results.grids import DASH, STALE, Grids, collect_grids, signed, stale_lines
from pipeline.results.metrics import DatasetUsed, Machine, ModelUsed
from pipeline.results.speed import NOT_MEASURED, Speed, read_speed
from pipeline.results.tables import POINTS_OFF, Row, Table, by_reason

INTRODUCTION = ("Each row is one model, tested on many episodes. In a 5-way 1-shot episode it tells 5 classes apart "
                "after 1 example of each. The paper is Vinyals et al., Matching Networks for One Shot Learning (2016).")
LEAD = ("Accuracy in percent over test episodes, with its 95% interval. The interval is over draws of episodes from "
        "these test classes, for this one model: other classes or training seeds may give figures outside of it.")
BOLD = f"Differences of more than {POINTS_OFF:g} points are bold, and a note says why."
STAND_IN = ("These data stand in for the paper's, so that the whole pipeline can be seen at work in minutes. The "
            "figures say nothing about the paper's tables.")
COMPARED = ("Two models on the same episodes, as in the paper's Figure 2. The pictures show the episodes where the two "
            "differ most, so they are not typical.")
NOTHING = "No row has run yet."


@dataclass(frozen=True)
class ModelSection:
    """A model by its full name: parameters by dotted name, facts of its training, learning curve, speed."""

    name: str
    parameters: Mapping[str, str]
    used: ModelUsed | None
    curve: Sequence[CurvePoint] = ()
    speed: Speed = NOT_MEASURED

    @property
    def facts(self) -> str:
        used = self.used
        return "not evaluated yet" if used is None else \
            f"{used.steps:,} steps · {used.parameters:,} trainable parameters · seed {used.seed}"


@dataclass(frozen=True)
class ComparisonSection:
    """Two rows on the same episodes: a heading, what was counted, and the picture, if it is here: git has none."""

    heading: str
    facts: str
    picture: Path | None
    stale: str = ""


@dataclass(frozen=True)
class Made:
    """The making of a row: its command, method, number of episodes, and seconds."""

    title: str
    method: str
    episodes: str
    train_seconds: str
    evaluate_seconds: str
    command: str


@dataclass(frozen=True)
class LastRun:
    """The row that was evaluated last in this folder, and when."""

    title: str
    time: datetime

    @property
    def words(self) -> str:
        return f"{self.time.day} {self.time:%B %Y, %H:%M} UTC"


@dataclass(frozen=True)
class Report:
    """Content of both renderings.

    episodes: title of a row -> episodes.png of images, episodes.html of sentences.
    last_run: None if no row was evaluated in this folder: git has figures without the rest.
    """

    table: Table
    found: Grids
    models: Sequence[ModelSection]
    episodes: Sequence[tuple[str, Path]]
    comparisons: Sequence[ComparisonSection]
    last_run: LastRun | None = None

    @property
    def lead(self) -> str:
        """What stands above the tables."""
        return f"{LEAD} {BOLD}" if any(grid.in_paper for grid in self.found.grids) else LEAD

    def datasets(self) -> list[tuple[str, str, str, str]]:
        """(name, "split: part", number of classes, SHA-256 of the manifest) of each set of classes that was tested on.

        Columns of sentences may have fewer classes than others; then the number is "30–40".
        """
        counts: dict[DatasetUsed, set[int]] = {}
        for details in (row.details for row in self.table.rows if row.details):
            counts.setdefault(details.dataset, set()).update(result.num_classes for result in details.columns.values()
                                                             if result.num_classes is not None)
        return [(data.name, f"{data.split}: {data.part}", _span(found) or DASH, data.manifest_sha256)
                for data, found in counts.items()]

    def machines(self) -> dict[Machine, int]:
        """Machine -> number of rows that were evaluated on it."""
        used = [row.details.machine for row in self.table.rows if row.details]
        return {machine: used.count(machine) for machine in dict.fromkeys(used)}

    def stale(self) -> dict[str, list[str]]:
        """Reason -> the titles of the rows, and the headings of the comparisons, that are stale for it."""
        found = stale_lines(self.table)
        for reason, headings in by_reason((one.heading, one.stale) for one in self.comparisons).items():
            found.setdefault(reason, []).extend(headings)
        return found

    def made(self) -> list[Made]:
        """The making of each row that has run."""
        return [self._made(row) for row in self.table.rows if row.details]

    def _made(self, row: Row) -> Made:
        details = row.details
        assert details
        counts = {result.episodes for result in details.columns.values()}
        method = next((model.parameters.get("method.name", "") for model in self.models
                       if model.name == details.model.name), "")  # the parameters may no longer have its model
        return Made(row.info.title, method or DASH, _span(counts),
                    _whole(details.seconds.train), _whole(details.seconds.evaluate), row.info.command)


def collect_report(table: Table, models: Mapping[str, Mapping[str, Any]], comparisons: Sequence[str]) -> Report:
    """The table, and everything found of its models and comparisons.

    Args:
        models: full name -> its parameters, nested dicts of plain values.
        comparisons: full names.
    Raises:
        ValueError: a malformed curve, speed or comparison; names file and field.
    """
    used = {row.details.model.name: row.details.model for row in table.rows if row.details}
    sections = [_model_section(name, parameters, used.get(name)) for name, parameters in models.items()
                if name in used or paths.curve_file(name).exists()]
    episodes = [(row.info.title, path) for row in table.rows
                for path in (paths.picture_file(row.info.name), paths.sentences_file(row.info.name)) if path.exists()]
    found = [name for name in comparisons if paths.comparison_file(name).exists()]
    return Report(table, collect_grids(table), sections, episodes, [_comparison_section(name, table) for name in found],
                  _last_run(table))


def _last_run(table: Table) -> LastRun | None:
    """The last row by file times, among rows whose evaluation lies here: a clone gives all figures its own time."""
    here = [(paths.details_file(row.info.name).stat().st_mtime, row.info.title) for row in table.rows
            if row.details and (paths.EVALUATIONS / row.info.name).is_dir()
            and paths.details_file(row.info.name).exists()]
    if not here:
        return None
    seconds, title = max(here)
    return LastRun(title, datetime.fromtimestamp(int(seconds), UTC))


def _model_section(name: str, parameters: Mapping[str, Any], used: ModelUsed | None) -> ModelSection:
    curve, speed = paths.curve_file(name), paths.speed_file(name)
    return ModelSection(name, flattened(parameters), used, read_curve(curve) if curve.exists() else [],
                        read_speed(speed) if speed.exists() else NOT_MEASURED)


def _comparison_section(name: str, table: Table) -> ComparisonSection:
    """The section's text, with the titles of the rows that are compared."""
    found, stale = read_comparison(paths.comparison_file(name)), table.stale_comparisons.get(name, "")
    titles = {row.info.name: row.info.title for row in table.rows}
    ours, baseline = (titles.get(row, row) for row in (found.row, found.baseline))
    hubs, baseline_hubs = (round(share / 100 * found.episodes) for share in (found.hubness, found.baseline_hubness))
    facts = (f"{signed(found.difference)} ± {found.ci95:.1f}{STALE * bool(stale)} points: mean of the differences on "
             f"the same {found.episodes:,} episodes, with its 95% interval. {ours} is ahead in {found.better:,}, "
             f"behind in {found.worse:,}, equal in {found.equal:,}. It gave one "
             f"answer to more than {HUB_SHARE:.0%} of the queries in {hubs:,} of {found.episodes:,} episodes, "
             f"the baseline in {baseline_hubs:,}.")
    picture = paths.comparison_picture(name)
    return ComparisonSection(f"{ours} against {baseline}, {column_title(found.column)}", facts,
                             picture if picture.exists() else None, stale)


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings as one, with dotted names; lists joined by commas, null as a dash."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            flat[prefix + name] = ", ".join(map(plain, value))
        else:
            flat[prefix + name] = plain(value)
    return flat


def plain(value: object) -> str:
    """A value as YAML writes it; null as a dash."""
    return DASH if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _span(counts: Iterable[int]) -> str:
    """The smallest and the largest count, "30–40", or the only one."""
    ordered = sorted(counts)
    return DASH.join(f"{count:,}" for count in ordered[:1] + ordered[1:][-1:])


def _whole(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 10 or seconds == 0 else f"{seconds:.1f}"
