"""The report of a table: results/TABLE.md, which git keeps, and results/TABLE.html with pictures and curves.

Nothing in the Markdown depends on when or where it is made: the same results give the same bytes. The page also says
when its last row ran. results/index.html links the pages of all tables.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matchnet.files import atomic_write
from pipeline import paths
from pipeline.params import ParamsError, read_table, table_folders, table_name
from pipeline.results.report_content import collect_report
from pipeline.results.report_html import Listed, html_front_page, html_report
from pipeline.results.report_markdown import markdown_report
from pipeline.results.tables import Table

FRONT_PAGE = paths.RESULTS / "index.html"


def write_report(table: Table, models: Mapping[str, Mapping[str, Any]], comparisons: Sequence[str], markdown: Path,
                 html: Path) -> None:
    """Write both files.

    Args:
        models, comparisons: see `collect_report`.
    Raises:
        ValueError: malformed results; names file and field.
    """
    report = collect_report(table, models, comparisons)
    for path, text in ((html, html_report(report)), (markdown, markdown_report(report))):
        with atomic_write(path) as file:
            file.write(text)


def write_front_page(path: Path = FRONT_PAGE) -> None:
    """Write the page that links the pages of all tables that have results."""
    listed, others = [], []
    for folder in table_folders():
        name = table_name(folder)
        details = paths.RESULTS / "details" / name
        if any(details.glob("*.json")):
            listed.append(_listed(folder, name))
        else:
            others.append(name)
    with atomic_write(path) as file:
        file.write(html_front_page(listed, others))


def _listed(folder: Path, name: str) -> Listed:
    """A table whose parameters are wrong is listed by its name: its own stages say what is wrong."""
    page, command = paths.report_file(name, "html"), f"python -m stages.report {name}"
    linked = page.name if page.exists() else ""
    try:
        params = read_table(folder)
    except ParamsError:
        return Listed(name, "", 0, 0, linked, command)
    run = sum(paths.details_file(row).exists() for row in params.rows)
    return Listed(params.report.title, params.report.about, run, len(params.rows), linked, command)
