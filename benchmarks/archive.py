"""ILSVRC2012's training archive in small, for the benchmarks that shard it."""

import io
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.data.raw.datasets import imagenet
from pipeline.data.raw.linked_archives import archive_path
from pipeline.data.raw.registry import TRAINING
from pipeline.data.spec import DatasetParams


def make_raw(folder: Path, name: str, synsets: Iterable[list[bytes]], params: DatasetParams) -> Path:
    """Make a raw folder whose archive has these JPEGs of each synset, and list it."""
    raw = folder / "raw" / name
    raw.mkdir(parents=True)
    archive = archive_path(raw, TRAINING.name)
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w") as outer:
        for number, contents in enumerate(synsets):
            _add(outer, f"n{number:08d}.tar", _synset_tar(f"n{number:08d}", contents))
    imagenet.prepare_raw(raw, params)
    return raw


def _synset_tar(synset: str, contents: Sequence[bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as inner:
        for number, content in enumerate(contents):
            _add(inner, f"{synset}_{number}.JPEG", content)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(content)
    tar.addfile(header, io.BytesIO(content))
