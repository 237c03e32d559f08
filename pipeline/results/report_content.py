"""What the report says, however it is rendered: tables, models with their curves, pictures of episodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.results.comparison import HUB_SHARE, Comparison, read_comparison
from pipeline.results.curve_svg import curve_svg
from pipeline.results.curves import read_curve
from pipeline.results.metrics import Machine, ModelUsed
from pipeline.results.speed import NOT_MEASURED, SUFFIX, Speed, read_speeds
from pipeline.results.tables import (
    OTHER,
    POINTS_OFF,
    Row,
    RowInfo,
    Table,
    collect_tables,
    column_title,
    signed,
)

TITLE = "Matching networks: results beside the paper's"
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
    """A model: its parameters by dotted name, what is known of its training, its learning curve as SVG, its speed."""

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

    @property
    def command(self) -> str:
        """What trains it again; empty where params.yaml no longer has it."""
        has_init = self.parameters.get("init", plain(None)) != plain(None)
        return f"dvc repro {'train_on' if has_init else 'train'}@{self.name}" if self.parameters else ""


@dataclass(frozen=True)
class ComparisonSection:
    """Two experiments on the same episodes: a heading, what was counted, and the picture."""

    heading: str
    facts: str
    picture: Path


@dataclass(frozen=True)
class Report:
    """What both renderings show."""

    tables: Sequence[Table]
    models: Sequence[ModelSection]
    episodes: Mapping[str, Path]  # experiment -> episodes.png of images, episodes.html of sentences
    comparisons: Sequence[ComparisonSection]

    @property
    def rows(self) -> list[Row]:
        return [row for table in self.tables for row in table.rows]

    def datasets(self) -> list[tuple[str, str, str]]:
        """(name, "split: part", SHA-256 of the manifest) of each set of classes that was tested on."""
        used = dict.fromkeys(row.metrics.dataset for row in self.rows if row.metrics)
        return [(data.name, f"{data.split}: {data.part}", data.manifest_sha256) for data in used]

    def machines(self) -> dict[Machine, int]:
        """How many experiments ran on each machine."""
        used = [row.metrics.machine for row in self.rows if row.metrics]
        return {machine: used.count(machine) for machine in dict.fromkeys(used)}

    def method(self, row: Row) -> str:
        """The name of the row's method; empty where params.yaml no longer has its model."""
        name = row.metrics.model.name if row.metrics else ""
        found = [model.parameters.get("method.name", "") for model in self.models if model.name == name]
        return found[0] if found else ""

    def heading(self, experiment: str) -> str:
        """Table and row of an experiment."""
        return next(f"{table.title}: {row.info.title}" for table in self.tables for row in table.rows
                    if row.info.experiment == experiment)


def collect_report(results_dir: Path, rows: Sequence[RowInfo],
                   model_parameters: Mapping[str, Mapping[str, Any]]) -> Report:
    """Everything found under `results_dir`, in the order of `rows` and `model_parameters`.

    Tables with a result come before those without, and the paper's before stand-ins.
    """
    tables = sorted(collect_tables(results_dir, rows),
                    key=lambda table: (all(row.metrics is None for row in table.rows), table.stand_in))
    members = [row for table in tables for row in table.rows]
    used = {row.metrics.model.name: row.metrics.model for row in members if row.metrics}
    curves = {path.stem: path for path in sorted(results_dir.glob("training/*.csv"))}
    names = [name for name in model_parameters if name in used or name in curves]
    names += [name for name in dict.fromkeys([*used, *curves]) if name not in model_parameters]
    speeds = read_speeds(sorted(results_dir.glob(f"training/*{SUFFIX}")))
    models = [ModelSection(name, flattened(model_parameters.get(name, {})), used.get(name), _curve(name, curves),
                           speeds.get(name, NOT_MEASURED)) for name in names]
    episodes = {row.info.experiment: path for row in members for name in ("episodes.png", "episodes.html")
                if (path := results_dir / row.info.experiment / name).exists()}
    infos = {row.info.experiment: row.info for row in members}
    comparisons = [comparison_section(read_comparison(path), path.with_suffix(".png"), infos)
                   for path in sorted(results_dir.glob("comparisons/*.json"))]
    return Report(tables, models, episodes, comparisons)


def comparison_section(found: Comparison, picture: Path, infos: Mapping[str, RowInfo]) -> ComparisonSection:
    """In words, with the titles of the rows that are compared."""
    ours, baseline = (infos.get(name, RowInfo(name, title=name, table=OTHER))
                      for name in (found.experiment, found.baseline))
    stand_in = "Stand-in data: " if ours.stand_in or baseline.stand_in else ""
    heading = f"{stand_in}{ours.table}: {ours.title} against {baseline.title}, {column_title(found.column)}"
    facts = (f"{signed(found.difference)} ± {found.ci95:.1f} points (mean and 95% interval of the differences on "
             f"the same {found.episodes:,} episodes): ahead in {found.better:,}, behind in {found.worse:,}, equal in "
             f"{found.equal:,}. More than {HUB_SHARE:.0%} of the queries were said to be of one and the same way in "
             f"{found.hubness:.2f}% of the episodes, by the baseline in {found.baseline_hubness:.2f}%.")
    return ComparisonSection(heading, facts, picture)


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


def _curve(name: str, curves: Mapping[str, Path]) -> str | None:
    points = read_curve(curves[name]) if name in curves else []
    return curve_svg(points, title=f"Learning curves of {name}") if points else None
