"""Writes a dataset's shards, index and manifest: deterministic, resumable, swapped in whole at the end.

Processes work in parallel on shards, not on the archives' parts: a shard mixes classes, so it needs many of them, and a
finished one is whole whatever becomes of the others. Each process reads the samples of its shard from where they lie.

A finished shard has a note beside the dataset's folder, in `.notes/<dataset>`, which DVC does not track: what made it,
and its SHA-256. A later run (after an interruption, a failure of DVC, an edit of code or of a parameter that changes no
shard's bytes) makes only the shards that are not there as their notes say.
"""

import errno
import hashlib
import json
import os
import shutil
import socket
import sys
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from matchnet.files import link_or_copy, sha256_of
from matchnet.messages import said
from pipeline.data.archives import AGAIN
from pipeline.data.download import recorded_checksums
from pipeline.data.images import FORMATS, open_image
from pipeline.data.index import INDEX, write_index
from pipeline.data.manifest import MANIFEST, ClassEntry, Manifest, ShardEntry, WordsEntry, read_manifest, write_manifest
from pipeline.data.plan import ShardPlan, group_classes, plan_shards
from pipeline.data.raw import (
    MendingReader,
    RawSample,
    ReadSample,
    classes_left_out,
    extension_of,
    listed_oddities,
    source_of,
    words_of,
)
from pipeline.data.spec import LOADED_ONLY, MENDING, DatasetParams
from pipeline.data.splits import make_split
from pipeline.data.swap import building_place, swap_in
from pipeline.data.tar import TarWriter, WrittenShard, read_note, write_note
from pipeline.data.words import WORDS, write_words
from pipeline.data.workers import RunJobs, run_jobs, stop_if_asked
from pipeline.progress import Progress, say

FORMAT = 1  # raise it when the same samples get other bytes, by our code or a library's: shards are then made again


@dataclass(frozen=True)
class _Job:
    plan: ShardPlan
    path: Path
    note: Path
    extension: str
    fingerprint: str


def shard_dataset(name: str, params: DatasetParams, raw_dir: Path, out_dir: Path,
                  num_processes: int = 1, run: RunJobs | None = None) -> Manifest:
    """Write `out_dir` with a dataset's shards, index and manifest; the same input gives the same bytes.

    Built in `<out_dir>.new`; shards that an interrupted run had finished, or that `out_dir` has, are not made again.
    Until the new version is whole, an earlier one stays as it was.

    Args:
        run: makes the shards elsewhere, on nodes that see both folders under these paths; None is `num_processes` here.
    Raises:
        ValueError: bad raw data (archive and member named) or splits that the classes cannot fill.
        OSError: the disk is full, ... (shard and node named); before the work begins, if the disk has less room than
            the shards will need.
    """
    raw_dir, out_dir = Path(raw_dir), Path(out_dir)
    sources = recorded_checksums(raw_dir)
    _require_as_verified(raw_dir, sources)
    samples = source_of(params.source).read_raw(raw_dir, params)
    _check_keys(samples)
    class_names, words = sorted({sample.class_name for sample in samples}), words_of(params, raw_dir)
    divided = words.classes if words else class_names
    splits = {split: make_split(split_params, divided, sample=params.sample)
              for split, split_params in params.splits.items()}
    # a split of words takes sentences from all over a class: each class is a group of its own
    group_of = {name: name for name in class_names} if words else group_classes(class_names, splits)
    plans = plan_shards(samples, group_of, params.seed, int(params.shard_size_mib * 2**20))
    new, notes, extension = building_place(out_dir), notes_of(out_dir), extension_of(params.shard_parameters())
    jobs = [_Job(plan, new / plan.name, notes / f"{plan.name}.json", extension, _fingerprint(params, plan, sources))
            for plan in plans]
    try:
        written = _write_shards(name, params, raw_dir, new, out_dir, jobs,
                                run or partial(run_jobs, num_processes=num_processes, setting="cluster.num_processes"))
        oddities = _count_oddities(name, params, raw_dir, written.values())
        _write_index(new / INDEX, plans, written, class_names)
        if words:
            write_words(new / WORDS, words)
        write_manifest(new, Manifest(
            name=name, num_samples=len(samples), classes=_class_entries(samples, group_of), splits=splits,
            shards=tuple(_shard_entry(plan, written[plan.name]) for plan in plans),
            index_sha256=sha256_of(new / INDEX), parameters=params.shard_parameters(), sources=sources,
            words=WordsEntry(sha256_of(new / WORDS), len(words.word_P), len(words.vocabulary)) if words else None,
            oddities=oddities, left_out=classes_left_out(params, raw_dir)))
        _remove_strangers(new, {plan.name for plan in plans} | {INDEX, MANIFEST} | ({WORDS} if words else set()))
        _remove_strangers(notes, {job.note.name for job in jobs})
        swap_in(new, out_dir)
    except OSError as error:
        raise OSError(error.errno, f"{name}: sharding failed: {_said_by(error)}; {out_dir} is as before, and the "
                      f"shards that are finished stay in {new}: mend that, and run the shard stage again to go on"
                      ) from error
    return read_manifest(out_dir)


def notes_of(out_dir: Path) -> Path:
    """The folder of the notes of finished shards."""
    return out_dir.parent / ".notes" / out_dir.name


def _require_as_verified(raw_dir: Path, sources: Mapping[str, str]) -> None:
    """Raises ValueError for a raw file that has changed since the download; archives that lie elsewhere have their own
    check."""
    for name, checksum in sources.items():
        path = raw_dir / name
        if path.is_file() and f"sha256:{sha256_of(path)}" != checksum:
            raise ValueError(f"{path}: other bytes than the download stage verified; run that stage of {raw_dir.name} "
                             "again")


def _said_by(error: OSError) -> object:
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror or error


def _require_space(name: str, new: Path, missing: Sequence[_Job], jobs: Sequence[_Job]) -> None:
    """Raises OSError unless the disk has room for what is missing; says so if it has none for DVC's copy of it all."""
    needed, copied = (sum(job.plan.size for job in some) for some in (missing, jobs))
    free = shutil.disk_usage(new).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"it needs about {needed / 2**30:,.3f} GiB more and {free / 2**30:,.3f} GiB are "
                      f"free on the disk of {new.parent}, so nothing was written: make room, move the repository to a "
                      "larger disk, or mount a folder of one there (mount --bind; DVC takes no symbolic link)")
    if needed + copied > free:
        say(f"{name}: warning: about {(needed + copied - free) / 2**30:,.3f} GiB are missing on the disk of "
            f"{new.parent} for the copy of the shards that DVC adds to its cache there, unless it has it already: "
            "`dvc config cache.type reflink,hardlink` lets both share their room")


def _count_oddities(name: str, params: DatasetParams, raw_dir: Path, written: Iterable[WrittenShard]) -> (
        dict[str, int] | None):
    """Over all shards and what they were made of; printed. None for a source that mends nothing."""
    if params.source not in MENDING:
        return None
    total = Counter(listed_oddities(params, raw_dir))
    for shard in written:
        total.update(shard.oddities)
    listed = ", ".join(f"{what}: {count:,}" for what, count in sorted(total.items()))
    print(f"{name}: odd images, counted, mended or left out: {listed or 'none'}", file=sys.stderr, flush=True)
    return dict(sorted(total.items()))


def _check_keys(samples: Sequence[RawSample]) -> None:
    seen: set[str] = set()
    for sample in samples:
        if "." in sample.key or sample.key in seen:
            rule = "contains a dot" if "." in sample.key else "is there twice"
            raise ValueError(f"{sample.archive}: member {sample.member}: key {sample.key!r} {rule}; a key is "
                             "unique and has no dot, where WebDataset would cut it; rename the member")
        seen.add(sample.key)


def _write_shards(name: str, params: DatasetParams, raw_dir: Path, new: Path, out_dir: Path, jobs: Sequence[_Job],
                  run: RunJobs) -> dict[str, WrittenShard]:
    """All shards in `new`; those that `out_dir` has are linked there last.

    Not earlier: before it runs the stage again, DVC copies each file of its outputs that has a second name.
    """
    written: dict[str, WrittenShard] = {}
    _remove_strangers(new, {job.plan.name for job in jobs})
    with Progress(f"sharding {name}", sum(len(job.plan.samples) for job in jobs), "samples") as progress:
        for job in jobs:
            if (found := _find_finished(job, out_dir)) is not None:
                written[job.plan.name] = found
                progress.advance(len(found.offsets))
        missing = [job for job in jobs if job.plan.name not in written]
        _require_space(name, new, missing, jobs)
        for job, result in run(_start, (raw_dir, params), write_shard, missing):
            written[job.plan.name] = result
            progress.advance(len(result.offsets))
    for job in jobs:
        if not job.path.exists():
            link_or_copy(out_dir / job.plan.name, job.path)
    return written


def _find_finished(job: _Job, out_dir: Path) -> WrittenShard | None:
    """Of an interrupted run, or in `out_dir`, by its note; a shard of an interrupted run that is not as noted goes."""
    noted = read_note(job.note, job.fingerprint)
    if noted is not None and noted.is_at(job.path):
        return noted
    job.path.unlink(missing_ok=True)
    return noted if noted is not None and noted.is_at(out_dir / job.plan.name) else None


@contextmanager
def _on_this_node(what: str) -> Iterator[None]:
    """An error of the system says what failed, and on which node; of a file that is not there, what nodes must see."""
    try:
        yield
    except OSError as error:
        rule = ""
        if isinstance(error, FileNotFoundError) and error.filename:
            rule = (": each node of a cluster must see it under this path: mount it there, or set cluster.storage, "
                    "with which the machine that runs the stage makes all shards")
        raise OSError(error.errno, f"{what} on {socket.gethostname()}: {_said_by(error)}{rule}") from error


def _start(raw_dir: Path, params: DatasetParams) -> ReadSample:
    with _on_this_node("raw files"):
        os.stat(raw_dir)  # on a node that does not see it, no source should ask for a download
        return source_of(params.source).open_raw(raw_dir, params)


def write_shard(read: ReadSample, job: _Job) -> WrittenShard:
    """One shard, then its note. Raises ValueError, naming the sample, or OSError, naming shard and node."""
    with _on_this_node(f"shard {job.plan.name}"):
        written = _write_tar(read, job)
        write_note(job.note, written)
    return written


def _write_tar(read: ReadSample, job: _Job) -> WrittenShard:
    """To a `.part`, synced, renamed.

    The `.part` has a name of its own: a node that was given up for lost may still be writing the same shard.
    """
    part = job.path.with_name(f"{job.path.name}.{uuid.uuid4().hex}.part")
    offsets, lengths = [], []
    if isinstance(read, MendingReader):
        read.oddities.clear()
    try:
        with open(part, "wb") as file:
            tar = TarWriter(file)
            for sample in job.plan.samples:
                stop_if_asked()
                content = _read_sample(read, sample, job.extension)
                offsets.append(tar.add(f"{sample.key}.{job.extension}", content))
                lengths.append(len(content))
            tar.finish()
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, job.path)
    finally:
        part.unlink(missing_ok=True)
    oddities = dict(read.oddities) if isinstance(read, MendingReader) else {}
    return WrittenShard(job.fingerprint, tar.digest.hexdigest(), tar.size, offsets, lengths, oddities)


def _read_sample(read: ReadSample, sample: RawSample, extension: str) -> bytes:
    """Raises ValueError, with archive, member and key, for whatever a library says about the sample's bytes."""
    place = f"{sample.archive}: member {sample.member} (key {sample.key})"
    try:
        content = read(sample)
    except (ValueError, InterruptedError):
        raise  # it has named the sample; or the run was given up
    except Exception as error:  # of an archive's or a codec's library: they raise about anything
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk
        raise ValueError(f"{place}: {type(error).__name__}: {said(error)}; leave the sample out") from error
    if extension in FORMATS and not isinstance(read, MendingReader):
        try:
            open_image(content, extension)
        except ValueError as error:
            raise ValueError(f"{place}: {error}; {AGAIN}") from error
    return content


def _fingerprint(params: DatasetParams, plan: ShardPlan, sources: Mapping[str, str]) -> str:
    """Of all that decides the bytes of a shard: not how they are loaded, nor splits, which `plan` follows from."""
    stored = replace(params, invert=False, margin=None, upright=False).shard_parameters()
    del stored["splits"]
    stored.pop("max_pixels", None)
    own = stored.get(params.source, {})
    own |= dict.fromkeys(own.keys() & set(LOADED_ONLY))  # None
    made_of = [FORMAT, stored, dict(sources), plan.name, plan.samples]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def _write_index(path: Path, plans: Sequence[ShardPlan], written: Mapping[str, WrittenShard],
                 class_names: list[str]) -> None:
    class_ids = {name: class_id for class_id, name in enumerate(class_names)}
    rows = [(sample, plan) for plan in plans for sample in plan.samples]
    write_index(path, {
        "key": [sample.key for sample, _ in rows],
        "shard": [plan.name for _, plan in rows],
        "offset": [offset for plan in plans for offset in written[plan.name].offsets],
        "length": [length for plan in plans for length in written[plan.name].lengths],
        "class_id": [class_ids[sample.class_name] for sample, _ in rows],
        "class_name": [sample.class_name for sample, _ in rows],
        "group": [plan.group for _, plan in rows]})


def _class_entries(samples: Sequence[RawSample], group_of: Mapping[str, str]) -> tuple[ClassEntry, ...]:
    counts = Counter(sample.class_name for sample in samples)
    return tuple(ClassEntry(name, group_of[name], counts[name]) for name in sorted(counts))


def _shard_entry(plan: ShardPlan, written: WrittenShard) -> ShardEntry:
    return ShardEntry(plan.name, plan.group, written.size, len(plan.samples), written.sha256)


def _remove_strangers(directory: Path, keep: set[str]) -> None:
    """A `.part` may go meanwhile: of a node that was given up for lost."""
    for path in directory.iterdir():
        if path.name not in keep:
            path.unlink(missing_ok=True)
