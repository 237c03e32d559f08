"""What the report says, however it is rendered: tables, models with their curves, pictures of episodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import paths
from pipeline.results.comparison import HUB_SHARE, read_comparison
from pipeline.results.curve_svg import curve_svg
from pipeline.results.curves import read_curve
from pipeline.results.metrics import Machine, ModelUsed
from pipeline.results.speed import NOT_MEASURED, Speed, read_speed
from pipeline.results.tables import POINTS_OFF, Row, Table, column_title, signed

LEAD = ("Accuracy in percent over test episodes, with its 95% interval: over draws of episodes from these images, for "
        "this one model; other images, classes or training seeds may give figures outside of it. The paper is "
        "Vinyals et al., Matching Networks for One Shot Learning (2016). Figures more than "
        f"{POINTS_OFF:g} points off the paper's are marked, and a line says why.")
STAND_IN = ("These data stand in for the paper's, so that the whole pipeline can be seen at work in minutes: "
            "characters drawn from fonts, a tenth of the Penn Treebank, or a sample of ImageNet: few images of few "
            "classes, shrunk. Their figures say nothing about the paper's tables.")
COMPARED = ("Two models on the same episodes, as in the paper's Figure 2. The episodes drawn are not typical: they are "
            "those where the two differ most.")


@dataclass(frozen=True)
class ModelSection:
    """A model by its full name: parameters by dotted name, facts of its training, learning curve as SVG, speed."""

    name: str
    parameters: Mapping[str, str]
    used: ModelUsed | None
    curve: str | None
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


@dataclass(frozen=True)
class Report:
    """What both renderings show.

    episodes: row -> episodes.png of images, episodes.html of sentences.
    """

    table: Table
    models: Sequence[ModelSection]
    episodes: Mapping[str, Path]
    comparisons: Sequence[ComparisonSection]

    def datasets(self) -> list[tuple[str, str, str]]:
        """(name, "split: part", SHA-256 of the manifest) of each set of classes that was tested on."""
        used = dict.fromkeys(row.details.dataset for row in self.table.rows if row.details)
        return [(data.name, f"{data.split}: {data.part}", data.manifest_sha256) for data in used]

    def machines(self) -> dict[Machine, int]:
        """How many rows were evaluated on each machine."""
        used = [row.details.machine for row in self.table.rows if row.details]
        return {machine: used.count(machine) for machine in dict.fromkeys(used)}

    def method(self, row: Row) -> str:
        """The name of the row's method; empty where the parameters no longer have its model."""
        name = row.details.model.name if row.details else ""
        return next((model.parameters.get("method.name", "") for model in self.models if model.name == name), "")

    def title(self, row: str) -> str:
        """The title of a row."""
        return next(found.info.title for found in self.table.rows if found.info.name == row)


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
    episodes = {row.info.name: path for row in table.rows
                for path in (paths.picture_file(row.info.name), paths.sentences_file(row.info.name)) if path.exists()}
    found = [name for name in comparisons if paths.comparison_file(name).exists()]
    return Report(table, sections, episodes, [_comparison_section(name, table) for name in found])


def _model_section(name: str, parameters: Mapping[str, Any], used: ModelUsed | None) -> ModelSection:
    curve, speed = paths.curve_file(name), paths.speed_file(name)
    points = read_curve(curve) if curve.exists() else []
    return ModelSection(name, flattened(parameters), used,
                        curve_svg(points, title=f"Learning curves of {name}") if points else None,
                        read_speed(speed) if speed.exists() else NOT_MEASURED)


def _comparison_section(name: str, table: Table) -> ComparisonSection:
    """In words, with the titles of the rows that are compared."""
    found = read_comparison(paths.comparison_file(name))
    titles = {row.info.name: row.info.title for row in table.rows}
    ours, baseline = (titles.get(row, row) for row in (found.row, found.baseline))
    heading = f"{ours} against {baseline}, {column_title(found.column)}"
    facts = (f"{signed(found.difference)} ± {found.ci95:.1f} points (mean and 95% interval of the differences on "
             f"the same {found.episodes:,} episodes): ahead in {found.better:,}, behind in {found.worse:,}, equal in "
             f"{found.equal:,}. More than {HUB_SHARE:.0%} of the queries were said to be of one and the same way in "
             f"{found.hubness:.2f}% of the episodes, by the baseline in {found.baseline_hubness:.2f}%.")
    picture = paths.comparison_picture(name)
    return ComparisonSection(heading, facts, picture if picture.exists() else None)


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
    return "–" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

