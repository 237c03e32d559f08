"""Stage resolve: write to data/resolved/TABLE what each stage of a table depends on. See pipeline.resolve.

With --check it writes nothing, and checks the parameters of all tables. `make lint` does so.
"""

import argparse
from pathlib import Path

from pipeline.data.spec import OF_PICTURE_FILES
from pipeline.params import Params, ParamsError, read_table, table_folders
from pipeline.params.tables import PARAMS_FILE
from pipeline.params.yaml_file import YamlFile
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
            params = read_table(arguments.folder)
            require_pictures(params)
            write_resolved(params)
            return
        folders = table_folders()
        for folder in folders:
            resolved_files(read_table(folder))
        print(f"{len(folders)} tables: no mistake in their parameters")


def require_pictures(params: Params) -> None:
    """Raise ParamsError unless this table's own pictures are there: DVC, which looks next, would name no field."""
    with YamlFile.read(params.folder / PARAMS_FILE).located():
        for name in params.own_datasets:
            dataset = params.datasets[name]
            path = dataset.picture_files.path
            if dataset.source in OF_PICTURE_FILES and not Path(path).exists():
                raise ParamsError(f"datasets.{name}.{dataset.source}.path: found {path!r}, and there is no such file "
                                  "or folder; put your pictures there, or write where they lie: an absolute path, or "
                                  "one relative to the repository")


if __name__ == "__main__":
    main()
