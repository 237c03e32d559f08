"""Stage report: all results beside the paper's figures, results/report.md and results/report.html."""

import argparse
from dataclasses import asdict

from pipeline import paths
from pipeline.params import Params, read_params
from pipeline.results.report import write_report
from pipeline.results.tables import RowInfo


def report(params: Params) -> None:
    rows = [RowInfo(experiment=name, title=row.title, table=row.table, note=row.note, paper=row.paper,
                    stand_in=params.datasets[row.dataset].source == "glyphs")
            for name, row in params.experiments.items()]
    models = {name: asdict(model) for name, model in params.models.items()}
    write_report(paths.RESULTS, rows, models, paths.RESULTS)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    report(read_params())
