"""A licensed Treebank-3 (LDC99T42) in Mikolov's form: sections 0-20 to train, 21-22 to validate, 23-24 to test.

`cluster.licensed.treebank3` in the root's params.yaml names the corpus, or its folder of WSJ sections: below it
`00/wsj_0001.mrg` to `24/wsj_2454.mrg` stand in `parsed/mrg/wsj/`, `wsj/` or right there.
"""

import re
from pathlib import Path

from pipeline.data.raw.readers.sentence_files import EXTENSION
from pipeline.data.raw.readers.treebank import open_raw, read_raw, read_trees, read_words, write_files
from pipeline.data.spec import DatasetParams, Part

__all__ = ["EXTENSION", "open_raw", "prepare_raw", "read_raw", "read_words"]

SECTIONS: dict[Part, range] = {"train": range(0, 21), "valid": range(21, 23), "test": range(23, 25)}
_BELOW = ("parsed/mrg/wsj", "combined/wsj", "wsj", ".")
_TREES = re.compile(r"wsj_\d{4}\.mrg", re.IGNORECASE)


def prepare_raw(raw_dir: Path, params: DatasetParams, folder: str | None = None) -> None:
    """Read the trees of the user's folder and write the three text files.

    Raises:
        ValueError: no folder named, or one without a section; says where the corpus comes from and where to put it.
    """
    wsj = _wsj_folder(folder)
    parts_of = {part: [name for section in sections for name in _trees_of(wsj, section)]
                for part, sections in SECTIONS.items()}
    write_files(raw_dir, read_trees(wsj, "", parts_of))


def _wsj_folder(folder: str | None) -> Path:
    if folder is None:
        raise ValueError("cluster.licensed.treebank3: null; source treebank3 reads a licensed Treebank-3 (LDC99T42, "
                         "https://catalog.ldc.upenn.edu/LDC99T42): name the folder it lies in, or take source ptb")
    found = [Path(folder, below).absolute() for below in _BELOW if Path(folder, below, "00").is_dir()]
    if not found:
        raise ValueError(f"cluster.licensed.treebank3: no WSJ section 00 below {folder!r}, neither in "
                         f"{', '.join(_BELOW[:-1])} nor right there; name the folder of Treebank-3, with its "
                         "sections 00 to 24")
    return found[0]


def _trees_of(wsj: Path, section: int) -> list[str]:
    folder = wsj / f"{section:02d}"
    names = sorted(path.name for path in folder.iterdir() if _TREES.fullmatch(path.name)) if folder.is_dir() else []
    if not names:
        raise ValueError(f"{folder}: no trees (wsj_....mrg) in it; the standard sections are 00 to 24: copy the rest "
                         "of the corpus there")
    return [f"{section:02d}/{name}" for name in names]
