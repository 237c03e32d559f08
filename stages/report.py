"""Stage report: all results beside the paper's figures, results/report.md and results/report.html."""

import argparse
from dataclasses import asdict

from pipeline import paths
from pipeline.data.spec import TEXT_SOURCES
from pipeline.params import Params, read_params
from pipeline.results.report import write_report
from pipeline.results.tables import RowInfo, terminal_table
from stages.command import plain_errors


def rows_of(params: Params) -> list[RowInfo]:
    """Every experiment of params.yaml as a row of its table; some data stand in for the paper's."""
    return [RowInfo(experiment=name, title=row.title, table=row.table, note=row.note, paper=row.paper,
                    stand_in=params.datasets[row.dataset].stands_in,
                    of_sentences=params.datasets[row.dataset].source in TEXT_SOURCES,
                    suite=next((suite for suite, names in params.suites.items() if name in names), ""))
            for name, row in params.experiments.items()]


def report(params: Params) -> None:
    models = {name: asdict(model) for name, model in params.models.items()}
    write_report(paths.RESULTS, rows_of(params), models, paths.RESULTS)


def print_table(params: Params) -> None:
    """The accuracies of the experiments that `dvc repro` runs, and where the report lies."""
    print(terminal_table(paths.RESULTS, [row for row in rows_of(params) if row.experiment in params.run.experiments]))
    print(f"\nThe report: {paths.RESULTS}/report.html (the same as text: {paths.RESULTS}/report.md)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true", help="print the accuracies instead; write nothing")
    arguments = parser.parse_args()
    with plain_errors():
        (print_table if arguments.table else report)(read_params())


if __name__ == "__main__":
    main()
