"""Stage resolve: write to data/resolved/TABLE what each stage of a table depends on. See pipeline.resolve.

With --check it writes nothing, and checks the parameters of all tables. `make lint` does so.
"""

import argparse
from pathlib import Path

from pipeline.params import read_table, table_folders
from pipeline.resolve import resolved_files, write_resolved
from stages.command import plain_errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="that has the table's params.yaml, such as "
                        "experiments/omniglot; the root's is .")
    parser.add_argument("--check", action="store_true", help="check the parameters of all tables instead")
    arguments = parser.parse_args()
    if arguments.check == (arguments.folder is not None):
        parser.error("give a folder, or --check")
    with plain_errors():
        if not arguments.check:
            write_resolved(read_table(arguments.folder))
            return
        for folder in table_folders():
            resolved_files(read_table(folder))


if __name__ == "__main__":
    main()
