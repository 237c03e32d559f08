"""Stage compare: two experiments on the same episodes; results/comparisons/<name>.json and .png, as in Figure 2."""

from pipeline import paths
from pipeline.comparison import compare as compare_experiments
from pipeline.experiment import write_columns
from pipeline.params import Params, named
from pipeline.results.comparison import write_comparison
from pipeline.results.comparison_grid import draw_comparison
from pipeline.results.tables import column_title
from stages.command import run_stage


def compare(name: str, params: Params) -> None:
    comparison = named(params.comparisons, "comparisons", name)
    ours, baseline = params.experiments[comparison.experiment], params.experiments[comparison.baseline]
    found = compare_experiments(comparison, params)
    kind = "STAND-IN DATA, not the paper's. " if params.datasets[ours.dataset].stands_in else ""
    title = f"{kind}{ours.title} against {baseline.title}: {column_title(comparison.column)}"
    write_columns(paths.differences_file(name), {comparison.column: found.difference_E})
    draw_comparison(paths.comparison_picture(name), title, found.groups, (ours.title, baseline.title))
    write_comparison(paths.comparison_file(name), found.figures)


if __name__ == "__main__":
    run_stage(compare, __doc__, "comparison")
