"""Shards uploaded to where all nodes see them, each version of a dataset in a folder of its own."""

import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path

from pyarrow.fs import LocalFileSystem

from matchnet.files import FULL_DISK, make_folder, rename
from pipeline.data.formats.word_table import WORDS
from pipeline.data.nodes.cache import BLOCK, version_name
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.index import INDEX
from pipeline.data.shards.manifest import MANIFEST
from pipeline.system.progress import Progress
from pipeline.system.storage import Location, location_of, patiently


def upload_shards(shards: ShardFolder, address: str) -> str:
    """Copy a dataset's shards, index and manifest to `<address>/<name>-<its manifest's SHA-256>`; returns that address.

    The manifest goes last: where it is, the rest is whole. So a second call only looks, one after an interruption
    copies what is missing, and versions that running stages read are never touched.

    Raises:
        ValueError: a shard has other bytes than the manifest says.
        StorageError: the storage fails again and again.
        OSError: its disk is full.
    """
    folder, manifest = shards.path, shards.manifest
    target = location_of(address) / version_name(manifest, shards.sha256)
    if _is_there(target / MANIFEST, folder / MANIFEST):
        return target.address
    expected = {entry.name: entry.sha256 for entry in manifest.shards} | {INDEX: manifest.index_sha256}
    expected |= {WORDS: manifest.words.sha256} if manifest.words else {}
    missing = [name for name in expected if not _is_there(target / name, folder / name)]
    total = sum((folder / name).stat().st_size for name in missing)
    with Progress(f"publishing {manifest.name}", total, "B") as progress:
        for name in missing:
            _upload(folder / name, target / name, expected[name], progress.advance)
    _upload(folder / MANIFEST, target / MANIFEST, shards.sha256, lambda count: None)
    return target.address


def shards_for_nodes(shards: ShardFolder, storage: str | None) -> str:
    """Address at which every node finds a dataset's shards: uploaded to the storage, or, without one, this folder."""
    return upload_shards(shards, (location_of(storage) / "shards").address) if storage else str(shards.path.absolute())


def upload_file(origin: Path, target: Location) -> None:
    """Copy one file, whole or not at all; raises as `upload_shards`."""
    patiently(target.address, lambda: _copy(origin, target, lambda count: None))


def _is_there(target: Location, origin: Path) -> bool:
    """Whether the file is there whole. The folder's name stands for the bytes; an interrupted copy has fewer."""
    return target.size() == origin.stat().st_size


def _upload(origin: Path, target: Location, sha256: str, advance: Callable[[int], None]) -> None:
    found = patiently(target.address, lambda: _copy(origin, target, advance))
    if found != sha256:
        patiently(target.address, lambda: target.filesystem.delete_file(target.path))
        raise ValueError(f"{origin}: edited after it was written: SHA-256 {found}, dataset.json says {sha256}; run the "
                         "shard stage again")


def _copy(origin: Path, target: Location, advance: Callable[[int], None]) -> str:
    """Copy a file; return the SHA-256 of its bytes. An object appears when it is whole; a file has to be renamed."""
    if not isinstance(target.filesystem, LocalFileSystem):
        return _write(origin, target, target.path, advance)
    final = Path(target.path)
    make_folder(final.parent)
    part = final.with_name(f"{final.name}.{uuid.uuid4().hex}.part")
    try:
        digest = _write(origin, target, str(part), advance)
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        rename(part, final)
    finally:
        part.unlink(missing_ok=True)
    return digest


def _write(origin: Path, target: Location, path: str, advance: Callable[[int], None]) -> str:
    digest, done = hashlib.sha256(), 0
    try:
        with open(origin, "rb") as file, target.filesystem.open_output_stream(path) as stream:
            while block := file.read(BLOCK):
                stream.write(block)
                digest.update(block)
                done += len(block)
                advance(len(block))
    except OSError as error:
        advance(-done)  # the next attempt begins anew
        if error.errno in FULL_DISK:
            raise OSError(error.errno, f"{target}: {os.strerror(error.errno)}; free some space there, and the same "
                          "command goes on") from error
        raise
    return digest.hexdigest()
