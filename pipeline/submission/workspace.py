"""On the head node: put the code that a job brought into a folder that outlives it, and run the job's command there.

The folder lies on storage that all nodes see under this path. The code in it is replaced; data/, results/, dvc.lock
and DVC's cache stay, so that a later job goes on from what an earlier one made.
"""

import os
import shutil
import sys
from pathlib import Path

KEPT_FILES = ("dvc.lock",)  # the folder's own says what was made there
WRITTEN_OVER = (".dvc",)  # holds the cache beside the settings
MARKS = ("dvc.yaml", "params.yaml")  # by which a folder is known as one of ours


class WorkspaceError(ValueError):
    """The folder is none that code may be replaced in."""


def lay_out(code: Path, folder: Path) -> None:
    """Put the code of `code` into `folder`; its files and folders replace those of their names, others stay.

    Raises:
        WorkspaceError: it is a git checkout, or holds something else than a workspace.
    """
    if (folder / ".git").exists():
        raise WorkspaceError(f"{folder} is a git checkout, and its files would be replaced by the code that was sent; "
                             "name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()) and not all((folder / mark).is_file() for mark in MARKS):
        raise WorkspaceError(f"{folder} is not empty and lacks {' and '.join(MARKS)}: it is no workspace of earlier "
                             "jobs; name another folder, or an empty one")
    for source in sorted(code.iterdir(), key=lambda path: path.name in MARKS, reverse=True):
        target = folder / source.name
        if source.is_dir():
            if target.is_dir() and source.name not in WRITTEN_OVER:
                shutil.rmtree(target)
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.name not in KEPT_FILES or not target.exists():
            shutil.copy2(source, target)
    settings = folder / ".dvc" / "config.local"
    if not settings.exists():
        settings.parent.mkdir(exist_ok=True)
        settings.write_text("[core]\n    no_scm = true\n", encoding="utf-8")  # DVC asks for git otherwise


def main() -> None:
    folder, *command = sys.argv[1:]
    try:
        lay_out(Path.cwd(), Path(folder))
    except (WorkspaceError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    os.chdir(folder)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
