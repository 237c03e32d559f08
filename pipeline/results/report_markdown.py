"""The report as Markdown, for those who read it in the repository; pictures are linked by relative path."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.results.report_content import COMPARED, LEAD, STAND_IN, TITLE, ModelSection, Report
from pipeline.results.tables import DASH, Row, Table, column_title, signed


def markdown_report(report: Report, out_dir: Path) -> str:
    """The whole text; links to pictures are relative to `out_dir`, where it will lie."""
    parts = [f"# {TITLE}", LEAD, "## What ran", *_what_ran(report)]
    parts += [part for table in report.tables if not table.stand_in for part in _table(report, table, "##")]
    stand_ins = [table for table in report.tables if table.stand_in]
    if stand_ins:
        parts += ["## Stand-in data", STAND_IN]
        parts += [part for table in stand_ins for part in _table(report, table, "###")]
    parts += ["## Model against model", COMPARED] if report.comparisons else []
    parts += [f"### {text(one.heading)}\n\n{text(one.facts)}\n\n"
              f"![Test episodes with the answers of both]({_link(one.picture, out_dir)})" for one in report.comparisons]
    parts += ["## Models", *(_model(model) for model in report.models)] if report.models else []
    parts += ["## Test episodes", *_episodes(report, out_dir)] if report.episodes else []
    return "\n\n".join(parts) + "\n"


def text(words: str) -> str:
    """Words of the user's that Markdown shall not read as markup; on one line."""
    escaped = re.sub(r"([\\`*_\[\]|#])", r"\\\1", " ".join(words.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _what_ran(report: Report) -> list[str]:
    datasets = [[text(name), text(part), f"`{digest[:12]}`"] for name, part, digest in report.datasets()]
    machines = [[text(it.cpu), str(it.cores), text(it.gpu or DASH), text(it.torch), str(count)]
                for it, count in report.machines().items()]
    if not datasets:
        return ["Nothing yet: run `dvc repro`."]
    return [_grid(["dataset", "tested on", "manifest SHA-256"], datasets),
            _grid(["processor", "cores", "GPU", "torch", "experiments"], machines)]


def _table(report: Report, table: Table, level: str) -> list[str]:
    titles = map(column_title, table.columns)
    head = ["row", *titles, "episodes", "train, s", "evaluate, s", "method", "made by, or to make it"]
    rows = [[text(row.info.title), *(_cell(row, column) for column in table.columns), row.episodes(),
             *row.seconds(), text(report.method(row)) or DASH, f"`{row.command}`" if row.command else DASH]
            for row in table.rows]
    remarks = [f"- **{text(row.info.title)}**: {text(row.remark())}" for row in table.rows if row.remark()]
    return [f"{level} {text(table.title)}", _grid(head, rows), *(["\n".join(remarks)] if remarks else [])]


def _cell(row: Row, column: str) -> str:
    paper, points = row.paper(column), row.points_off(column)
    off = f", **{signed(points)}**" if points else ""
    return row.ours(column) + (f" (paper {paper:.1f}{off})" if paper is not None else "")


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _model(model: ModelSection) -> str:
    command = f" · `{model.command}`" if model.command else ""
    parts = [f"### {text(model.name)}", model.facts + command]
    if model.speed.workers:
        parts.append(f"Training: {model.speed.facts}")
    if len(model.speed.workers) > 1:
        parts.append(_grid(*model.speed.table()))
    if model.curve:
        parts.append(f"![Learning curves of {text(model.name)}](curves/{model.name}.svg)")
    if model.parameters:
        parts.append(", ".join(f"`{name}: {value}`" for name, value in model.parameters.items()))
    return "\n\n".join(parts)


def _episodes(report: Report, out_dir: Path) -> list[str]:
    return [f"### {text(report.heading(experiment))}\n\n{_shown(path, out_dir)}"
            for experiment, path in report.episodes.items()]


def _shown(path: Path, out_dir: Path) -> str:
    if path.suffix == ".html":
        return path.read_text(encoding="utf-8").strip()
    return f"![Test episodes with predictions]({_link(path, out_dir)})"


def _link(path: Path, out_dir: Path) -> str:
    return Path(os.path.relpath(path, out_dir)).as_posix()
