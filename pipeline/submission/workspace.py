"""On the head node: put the code that a job brought into a folder that outlives it, and run the job's command there.

The folder lies on storage that all nodes see under this path. The code in it is replaced; data/, results/, every
table's dvc.lock and DVC's cache stay, so that a later job goes on from what an earlier one made.
"""

import os
import shutil
import sys
from pathlib import Path

KEPT = "dvc.lock"  # the folder's own say what was made there; each table has one
WRITTEN_OVER = (".dvc",)  # holds the cache beside the settings
MARKS = ("dvc.yaml", "params.yaml")  # files that mark a folder as one of ours


class WorkspaceError(ValueError):
    """Code may not be replaced in this folder."""


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
        if target.is_dir() and source.name not in WRITTEN_OVER:
            _remove_what_is_gone(source, target)
        _copy(source, target)
    settings = folder / ".dvc" / "config.local"
    if not settings.exists():
        settings.parent.mkdir(exist_ok=True)
        settings.write_text("[core]\n    no_scm = true\n", encoding="utf-8")  # DVC asks for git otherwise


def _remove_what_is_gone(source: Path, target: Path) -> None:
    """Remove files and folders of `target` that `source` lacks. A dvc.lock is never removed, even if this is killed."""
    for path in sorted(target.rglob("*"), reverse=True):  # a folder comes after its content
        same = source / path.relative_to(target)
        if path.is_dir() and not path.is_symlink():
            if not same.is_dir() and not any(path.iterdir()):
                path.rmdir()
        elif path.name != KEPT and not same.is_file():
            path.unlink()


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        target.mkdir(exist_ok=True)
        for path in source.iterdir():
            _copy(path, target / path.name)
    elif source.name != KEPT or not target.exists():
        shutil.copy2(source, target)


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
