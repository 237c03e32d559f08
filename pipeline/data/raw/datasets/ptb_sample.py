"""The free sample of the Penn Treebank that nltk offers: WSJ files 1 to 199, 3,914 sentences, in Mikolov's form.

A tenth of the corpus, for those who have no more, and for trying things in minutes. The standard sections of the whole
Treebank do not divide it; ours are by file: 1 to 139 to train, 140 to 159 to validate, 160 to 199 to test.
"""

from pathlib import Path

from pipeline.data.raw.readers.sentence_files import EXTENSION
from pipeline.data.raw.readers.treebank import open_raw, read_raw, read_trees, read_words, write_files
from pipeline.data.raw.zip_files import AGAIN, check_zip, list_zip
from pipeline.data.spec import DatasetParams, Part

__all__ = ["EXTENSION", "open_raw", "prepare_raw", "read_raw", "read_words"]

ARCHIVE, FOLDER = "treebank.zip", "treebank/combined/"
NUM_SENTENCES = 3_914
WSJ_FILES: dict[Part, range] = {"train": range(1, 140), "valid": range(140, 160), "test": range(160, 200)}


def prepare_raw(raw_dir: Path, params: DatasetParams, folder: str | None = None) -> None:
    """Read the trees of the archive and write the three text files.

    Raises:
        ValueError: the archive is cut short, or lacks a file of trees.
    """
    archive = raw_dir / ARCHIVE
    parts_of = {part: [f"wsj_{number:04d}.mrg" for number in numbers] for part, numbers in WSJ_FILES.items()}
    members = {member.filename for member in list_zip(archive)}
    missing = [name for names in parts_of.values() for name in names if FOLDER + name not in members]
    if missing:
        raise ValueError(f"{archive}: no {FOLDER}{missing[0]} in it ({len(missing)} such of 199); {AGAIN}")
    check_zip(archive, [FOLDER + name for names in parts_of.values() for name in names])
    sentences = read_trees(archive, FOLDER, parts_of)
    found = sum(map(len, sentences.values()))
    if found != NUM_SENTENCES:
        raise ValueError(f"{archive}: {found:,} sentences, expected {NUM_SENTENCES:,}; {AGAIN}")
    write_files(raw_dir, sentences)
