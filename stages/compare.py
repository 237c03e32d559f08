"""Stage compare: two rows on the same episodes, as in Figure 2.

It writes results/comparisons/TABLE/NAME.json and a picture.
"""

from pipeline import paths
from pipeline.comparison import compare as compare_rows
from pipeline.experiment import write_columns
from pipeline.params import Params, named
from pipeline.resolve import title_of
from pipeline.results.columns import column_title
from pipeline.results.comparison import write_comparison
from pipeline.results.comparison_grid import draw_comparison
from stages.command import run_stage


def compare(name: str, params: Params) -> None:
    comparison = named(params.comparisons, "comparisons", name)
    ours, baseline = (title_of(params, row) for row in (comparison.row, comparison.baseline))
    found = compare_rows(comparison, params)
    stands_in = params.datasets[params.rows[comparison.row].dataset].stands_in
    kind = "STAND-IN DATA, not the paper's. " if stands_in else ""
    title = f"{kind}{ours} against {baseline}: {column_title(comparison.column)}"
    write_columns(paths.differences_file(name), {comparison.column: found.difference_E})
    draw_comparison(paths.comparison_picture(name), title, found.groups, (ours, baseline))
    write_comparison(paths.comparison_file(name), found.figures)


if __name__ == "__main__":
    run_stage(compare, __doc__, "comparison")
