"""The report as Markdown, for those who read it in the repository."""

import re
from collections.abc import Sequence

from pipeline.results.report_content import COMPARED, LEAD, STAND_IN, ModelSection, Report
from pipeline.results.tables import DASH, STALE, STALE_SAYS, Row, column_title, signed, stale_by_reason


def markdown_report(report: Report) -> str:
    """The whole text. Pictures and curves are in the HTML alone."""
    table = report.table
    parts = [f"# {text(table.title)}", *([text(table.about)] if table.about else []), LEAD]
    parts += [STAND_IN] if table.stand_in else []
    parts += [*_table(report), "## What ran", *_what_ran(report)]
    parts += ["## Row against row", COMPARED] if report.comparisons else []
    parts += [f"### {text(one.heading)}\n\n{text(one.facts)}" for one in report.comparisons]
    parts += ["## Models", *(_model(model) for model in report.models)] if report.models else []
    return "\n\n".join(parts) + "\n"


def text(words: str) -> str:
    """Words of the user's that Markdown shall not read as markup; on one line."""
    escaped = re.sub(r"([\\`*_\[\]|#~])", r"\\\1", " ".join(words.split()))
    escaped = re.sub(r"^(\d*)([-+=.)])(?=\s|$)", r"\1\\\2", escaped)  # where a paragraph begins, it would be a list
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code(words: str) -> str:
    """Words that Markdown shows as code, whatever is in them; on one line, and whole in a table's cell."""
    plain = " ".join(words.split()).replace("|", "¦")
    fence = "`" * (1 + max(map(len, re.findall("`+", plain)), default=0))
    padding = " " if "`" in (plain[:1], plain[-1:]) else ""
    return f"{fence}{padding}{plain}{padding}{fence}" if plain else DASH


def _what_ran(report: Report) -> list[str]:
    datasets = [[text(name), text(part), code(digest[:12])] for name, part, digest in report.datasets()]
    machines = [[text(it.cpu), str(it.cores), text(it.gpu or DASH), text(it.torch), str(count)]
                for it, count in report.machines().items()]
    if not datasets:
        return ["Nothing yet: run `dvc repro`."]
    return [_grid(["dataset", "tested on", "manifest SHA-256"], datasets),
            _grid(["processor", "cores", "GPU", "torch", "rows"], machines)]


def _table(report: Report) -> list[str]:
    columns = report.table.columns
    head = ["row", *(text(column_title(column)) for column in columns), "episodes", "train, s", "evaluate, s", "method",
            "command"]
    rows = [[text(row.info.title), *(_cell(row, column) for column in columns), row.episodes(),
             *row.seconds(), text(report.method(row)) or DASH, code(row.info.command)] for row in report.table.rows]
    remarks = [f"- **{text(row.info.title)}**: {text(row.remark())}" for row in report.table.rows if row.remark()]
    stale = [f"- **{text(', '.join(rows))}**: {text(reason)}"
             for reason, rows in stale_by_reason(report.table.rows).items()]
    said = [f"{text(STALE)} {STALE_SAYS}:", "\n".join(stale)] if stale else []
    return [_grid(head, rows), *said, *(["\n".join(remarks)] if remarks else [])]


def _cell(row: Row, column: str) -> str:
    paper, points = row.paper(column), row.points_off(column)
    off = f", **{signed(points)}**" if points else ""
    return text(row.ours(column)) + (f" (paper {paper:.1f}{off})" if paper is not None else "")


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _model(model: ModelSection) -> str:
    parts = [f"### {text(model.name)}", text(model.facts)]
    if model.speed.workers:
        parts.append(f"Training: {text(model.speed.facts)}")
    if len(model.speed.workers) > 1:
        head, rows = model.speed.table()
        parts.append(_grid([*map(text, head)], [[*map(text, row)] for row in rows]))
    if model.parameters:
        parts.append(", ".join(code(f"{name}: {value}") for name, value in model.parameters.items()))
    return "\n\n".join(parts)
