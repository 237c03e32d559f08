"""The report of a table: results/TABLE.md, which git keeps, and results/TABLE.html with pictures and curves.

Nothing in them depends on when or where they are made: the same results give the same bytes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matchnet.files import atomic_write
from pipeline.results.report_content import collect_report
from pipeline.results.report_html import html_report
from pipeline.results.report_markdown import markdown_report
from pipeline.results.tables import Table


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
