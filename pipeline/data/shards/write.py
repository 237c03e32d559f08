"""One shard written, in a worker: on this machine or on a node of a cluster."""

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from matchnet.messages import said
from pipeline.data.formats.images import FORMATS, open_image
from pipeline.data.formats.tar import TarWriter
from pipeline.data.raw.source import MendingReader, RawSample, ReadSample, source_of
from pipeline.data.raw.zip_files import AGAIN
from pipeline.data.shards.notes import WrittenShard, write_note
from pipeline.data.shards.plan import ShardPlan
from pipeline.data.spec import DatasetParams
from pipeline.workers.processes import stop_if_asked


@dataclass(frozen=True)
class ShardTask:
    """A shard to write to `path`, and its note. fingerprint: the hash of all that decides its bytes."""

    plan: ShardPlan
    path: Path
    note: Path
    extension: str
    fingerprint: str


@contextmanager
def _on_this_node(what: str) -> Iterator[None]:
    """Make errors of the system say what failed and on which node; for a missing file, also what nodes must see."""
    try:
        yield
    except OSError as error:
        rule = ""
        if isinstance(error, FileNotFoundError) and error.filename:
            rule = (": each node of a cluster must see it under this path: mount it there, or set cluster.storage, "
                    "with which the machine that runs the stage makes all shards")
        raise OSError(error.errno, f"{what} on {socket.gethostname()}: {said_by(error)}{rule}") from error


def open_raw_files(raw_dir: Path, params: DatasetParams) -> ReadSample:
    """A worker's reader of samples. ValueError, or OSError that names the node, if the raw files cannot be read."""
    with _on_this_node("raw files"):
        os.stat(raw_dir)  # fails on a node that does not see the folder, before a source would ask for a download
        return source_of(params.source).open_raw(raw_dir, params)


def write_shard(read: ReadSample, task: ShardTask) -> WrittenShard:
    """Write one shard, then its note. Raises ValueError, naming the sample, or OSError, naming shard and node."""
    with _on_this_node(f"shard {task.plan.name}"):
        written = _write_tar(read, task)
        write_note(task.note, written)
    return written


def _write_tar(read: ReadSample, task: ShardTask) -> WrittenShard:
    """Write a tar to a `.part`, sync it, and rename it.

    The `.part` has a name of its own: a node that was given up for lost may still be writing the same shard.
    """
    part = task.path.with_name(f"{task.path.name}.{uuid.uuid4().hex}.part")
    offsets, lengths = [], []
    if isinstance(read, MendingReader):
        read.oddities.clear()
    try:
        with open(part, "wb") as file:
            tar = TarWriter(file)
            for sample in task.plan.samples:
                stop_if_asked()
                content = _read_sample(read, sample, task.extension)
                offsets.append(tar.add(f"{sample.key}.{task.extension}", content))
                lengths.append(len(content))
            tar.finish()
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, task.path)
    finally:
        part.unlink(missing_ok=True)
    oddities = dict(read.oddities) if isinstance(read, MendingReader) else {}
    return WrittenShard(task.fingerprint, tar.digest.hexdigest(), tar.size, offsets, lengths, oddities)


def _read_sample(read: ReadSample, sample: RawSample, extension: str) -> bytes:
    """Read a sample; ValueError with archive, member and key for any library's error about its bytes."""
    place = f"{sample.archive}: member {sample.member} (key {sample.key})"
    try:
        content = read(sample)
    except (ValueError, InterruptedError):
        raise  # a ValueError has named the sample; InterruptedError: the run was given up
    except Exception as error:  # libraries of archives and codecs raise errors of many kinds
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the disk
        raise ValueError(f"{place}: {type(error).__name__}: {said(error)}; leave the sample out") from error
    if extension in FORMATS and not isinstance(read, MendingReader):
        try:
            open_image(content, extension)
        except ValueError as error:
            raise ValueError(f"{place}: {error}; {AGAIN}") from error
    return content


def said_by(error: OSError) -> object:
    """Text of an error of the system, with its file."""
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror or error
