"""Stage report: a table's results beside the paper's figures, results/TABLE.md and results/TABLE.html.

results/index.html links the pages of all tables. With --table the accuracies are printed instead, of all tables that
have results if none is named; nothing is written.
"""

import argparse
from dataclasses import asdict

from pipeline import paths
from pipeline.params import Params, read_params, read_table, table_folders
from pipeline.results.curves import copy_training_files, read_curve
from pipeline.results.report_terminal import terminal_table
from pipeline.results.speed import read_speed
from pipeline.results.tables import collect_table
from pipeline.system.unfinished import remove_unfinished
from stages.command import plain_errors


def report(params: Params) -> None:
    from pipeline.results.report import write_front_page, write_report  # draws figures: matplotlib takes seconds

    models = {name: asdict(model) for name, model in params.own_models.items()}
    for name in models:
        require_whole_training_files(name)
    remove_unfinished(paths.RESULTS.rglob("*"))
    for name in models:
        copy_training_files(name)
    write_report(collect_table(params), models, list(params.comparisons), paths.report_file(params.table, "md"),
                 paths.report_file(params.table, "html"))
    write_front_page()


def require_whole_training_files(model: str) -> None:
    """Raise ValueError for a damaged curve or speed beside a model, before it replaces the copy that git keeps."""
    for (origin, copy), read in zip(paths.training_files(model).items(), (read_curve, read_speed), strict=True):
        try:
            if origin.exists():
                read(origin)
        except ValueError as error:
            reason = str(error).rpartition("; ")[0]  # the remedy after it is for the copy
            raise ValueError(f"{reason}; make it again with the stage train@{copy.stem} of {copy.parent.name}; {copy} "
                             "is as before") from error


def print_tables(names: list[str]) -> None:
    """The accuracies of the named tables, or of all that have results."""
    tables = [collect_table(read_params(name)) for name in names] or \
        [table for folder in table_folders() if (table := collect_table(read_table(folder))).has_results]
    print("\n\n".join(map(terminal_table, tables)) or "no results yet: run `dvc repro`")
    pages = [path for table in tables if (path := paths.report_file(table.name, "html")).exists()]
    if pages:
        print(f"\nwith curves and pictures: {', '.join(map(str, pages))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", metavar="TABLE", nargs="*", help="such as omniglot; the table of the root is demo")
    parser.add_argument("--table", action="store_true", help="print the accuracies instead; write nothing")
    arguments = parser.parse_args()
    with plain_errors():
        if arguments.table:
            print_tables(arguments.tables)
        elif len(arguments.tables) == 1:
            report(read_params(arguments.tables[0]))
        else:
            parser.error("name one table, or say --table")


if __name__ == "__main__":
    main()
