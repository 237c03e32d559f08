"""`results/report.md` and `results/report.html`: all results beside the paper's figures.

Nothing in them depends on when or where they are made: the same results give the same bytes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.files import atomic_write
from pipeline.results.report_content import collect_report
from pipeline.results.report_html import html_report
from pipeline.results.report_markdown import markdown_report
from pipeline.results.tables import RowInfo


def write_report(results_dir: Path, rows: Sequence[RowInfo],
                 model_parameters: Mapping[str, Mapping[str, Any]], out_dir: Path) -> None:
    """Write report.md, report.html and curves/<model>.svg (which the Markdown shows) into `out_dir`.

    Args:
        rows: the experiments of params.yaml in its order; those without results are shown as not run.
        model_parameters: params.yaml's section of each model, nested dicts of plain values.
    Raises:
        ValueError: a malformed metrics.json or learning curve; names file and field.
    """
    report = collect_report(Path(results_dir), rows, model_parameters)
    Path(out_dir, "curves").mkdir(parents=True, exist_ok=True)  # dvc.yaml names it, also where no model has a curve
    for model in report.models:
        if model.curve:
            _write(Path(out_dir, "curves", f"{model.name}.svg"), model.curve)
    _write(Path(out_dir, "report.html"), html_report(report))
    _write(Path(out_dir, "report.md"), markdown_report(report, Path(out_dir)))


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text)
