"""The code that goes to the cluster: what neither .gitignore nor .rayignore leaves out, as one zip."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

from pathspec import GitIgnoreSpec

IGNORE_FILES = (".gitignore", ".rayignore")
MOST_BYTES = 100 * 2**20  # the code has about 2 MB; Ray keeps packages in the memory of the head
LARGEST_NAMED = 5
TIME = (1980, 1, 1, 0, 0, 0)  # time of every file: the same code gives the same zip, which the cluster may have already


class PackageError(ValueError):
    """The code to send is too large."""


def pack(root: Path, package: Path) -> int:
    """Write the zip; returns the bytes before compression.

    Raises:
        PackageError: more than MOST_BYTES; names the largest files. Nothing is written.
    """
    files = list(shipped_files(root))
    sizes = {path: (root / path).stat().st_size for path in files}
    total = sum(sizes.values())
    if total > MOST_BYTES:
        largest = sorted(files, key=lambda path: -sizes[path])[:LARGEST_NAMED]
        named = "\n".join(f"  {sizes[path] / 2**20:10,.1f} MiB  {path}" for path in largest)
        raise PackageError(f"{root}: {total / 2**20:,.1f} MiB would be sent to the cluster, and at most "
                           f"{MOST_BYTES / 2**20:,.0f} MiB go; the largest files are\n{named}\n"
                           "code is sent, data never: list in .rayignore what the job does not read")
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            member = zipfile.ZipInfo(path.as_posix(), TIME)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = (0o755 if (root / path).stat().st_mode & 0o100 else 0o644) << 16
            archive.writestr(member, (root / path).read_bytes())
    return total


def shipped_files(root: Path) -> Iterator[Path]:
    """Paths of the files to send, relative to `root`, sorted. A folder that is left out is not read."""
    return _walk(root, Path(), [])


def _walk(root: Path, folder: Path, rules: list[tuple[Path, GitIgnoreSpec]]) -> Iterator[Path]:
    for name in IGNORE_FILES:
        file = root / folder / name
        if file.is_file():
            spec = GitIgnoreSpec.from_lines(file.read_text(encoding="utf-8").splitlines())
            rules = [*rules, (folder, spec)]
    for path in sorted((root / folder).iterdir()):
        below = path.relative_to(root)
        mark = "/" if path.is_dir() else ""
        if any(spec.match_file(below.relative_to(base).as_posix() + mark) for base, spec in rules):
            continue
        if path.is_dir():
            yield from _walk(root, below, rules)
        elif path.is_file():
            yield below
