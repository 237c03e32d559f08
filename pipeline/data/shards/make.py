"""Writes a dataset's shards, index and manifest: deterministic, resumable, swapped in whole at the end.

Processes work in parallel on shards, not on the archives' parts: a shard mixes classes, so it needs many of the parts.
A finished shard is whole whatever becomes of the others. Each process reads its shard's samples from where they lie.

A finished shard has a note; see notes.py. A later run makes only the shards that are missing or differ from their
notes. It may follow an interruption, a failure of DVC, or an edit of code or a parameter that changes no shard.
"""

import errno
import hashlib
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from matchnet.files import link_or_copy, sha256_of
from matchnet.parsing import ParamsError
from pipeline.data.formats.word_table import WORDS, write_words
from pipeline.data.raw.download import CHECKSUMS, archives_recorded, is_recorded, recorded_checksums
from pipeline.data.raw.source import (
    RawSample,
    classes_left_out,
    extension_of,
    listed_oddities,
    source_of,
    words_of,
)
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.index import INDEX, write_index
from pipeline.data.shards.manifest import (
    MANIFEST,
    ClassEntry,
    Manifest,
    ShardEntry,
    WordsEntry,
    write_manifest,
)
from pipeline.data.shards.notes import WrittenShard, notes_of, read_note
from pipeline.data.shards.plan import ShardPlan, group_classes, plan_shards
from pipeline.data.shards.write import ShardTask, open_raw_files, said_by, write_shard
from pipeline.data.spec import LOADED_ONLY, MENDING, DatasetParams
from pipeline.data.splits import Split, make_split
from pipeline.system.progress import Progress, say
from pipeline.system.swap import building_folder, swap_in
from pipeline.workers.processes import RunTasks, run_in_processes

FORMAT = 1  # raise it when the same samples get other bytes, by our code or a library's: shards are then made again
MOST_NAMED = 10  # classes left out that are named in the terminal; the manifest names all


def shard_dataset(name: str, params: DatasetParams, raw_dir: Path, out_dir: Path,
                  num_processes: int = 1, run: RunTasks | None = None) -> Manifest:
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
    _require_as_verified(raw_dir, sources, archives_recorded(params))
    samples = source_of(params.source).read_raw(raw_dir, params)
    _check_keys(samples)
    left_out = _say_left_out(name, params, raw_dir)
    class_names, words = sorted({sample.class_name for sample in samples}), words_of(params, raw_dir)
    divided = words.classes if words else class_names
    splits = _make_splits(name, params, divided)
    # a split of words takes sentences from all over a class: each class is a group of its own
    group_of = {name: name for name in class_names} if words else group_classes(class_names, splits)
    plans = plan_shards(samples, group_of, params.seed, int(params.shard_size_mib * 2**20))
    new, notes = building_folder(out_dir), notes_of(out_dir)
    tasks = _tasks(plans, new, notes, params, sources)
    run = run or partial(run_in_processes, num_processes=num_processes, setting="cluster.num_processes")
    try:
        written = _write_shards(name, tasks, new, out_dir, partial(run, open_raw_files, (raw_dir, params), write_shard))
        oddities = _count_oddities(name, params, raw_dir, written.values())
        _write_index(new / INDEX, plans, written, class_names)
        if words:
            write_words(new / WORDS, words)
        write_manifest(new, Manifest(
            name=name, num_samples=len(samples), classes=_class_entries(samples, group_of), splits=splits,
            shards=tuple(_shard_entry(plan, written[plan.name]) for plan in plans),
            index_sha256=sha256_of(new / INDEX), parameters=params.shard_parameters(), sources=sources,
            words=WordsEntry(sha256_of(new / WORDS), len(words.word_P), len(words.vocabulary)) if words else None,
            oddities=oddities, left_out=left_out))
        _remove_strangers(new, {plan.name for plan in plans} | {INDEX, MANIFEST} | ({WORDS} if words else set()))
        _remove_strangers(notes, {task.note.name for task in tasks})
        swap_in(new, out_dir)
    except OSError as error:
        raise OSError(error.errno, f"{name}: sharding failed: {said_by(error)}; {out_dir} is as before, and the "
                      f"shards that are finished stay in {new}: mend that, and run the shard stage again to go on"
                      ) from error
    return ShardFolder(out_dir).manifest


def _tasks(plans: Sequence[ShardPlan], new: Path, notes: Path, params: DatasetParams,
           sources: Mapping[str, str]) -> list[ShardTask]:
    extension = extension_of(params.shard_parameters())
    return [ShardTask(plan, new / plan.name, notes / f"{plan.name}.json", extension,
                      _fingerprint(params, plan, sources)) for plan in plans]


def _require_as_verified(raw_dir: Path, sources: Mapping[str, str], archives: set[str]) -> None:
    """Raises ValueError for a raw file that has changed since the download, or that the download did not record.

    Archives that lie elsewhere have their own check. A folder without any record comes from no download.
    """
    again = f"run the download stage of {raw_dir.name} again"
    for name, checksum in sources.items():
        path = raw_dir / name
        if path.is_file() and f"sha256:{sha256_of(path)}" != checksum:
            raise ValueError(f"{path}: other bytes than the download stage verified; {again}")
    there = {path.name for path in raw_dir.iterdir() if is_recorded(path)} if sources else set()
    if sources and (unknown := sorted((there | archives) - sources.keys())):
        raise ValueError(f"{raw_dir / CHECKSUMS}: no line for {unknown[0]}, so nobody has verified that file; {again}")


def _require_space(name: str, new: Path, missing: Sequence[ShardTask], tasks: Sequence[ShardTask]) -> None:
    """Raises OSError unless the disk has room for the missing shards; warns if it has none for DVC's copy of all."""
    needed, copied = (sum(task.plan.size for task in some) for some in (missing, tasks))
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
    """Count oddities over all shards and their raw files, and print them. None for a source that mends nothing."""
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
                             "unique and has no dot, where WebDataset would cut it; rename the member, or make another "
                             "key of it in the source's read_raw")
        seen.add(sample.key)


def _say_left_out(name: str, params: DatasetParams, raw_dir: Path) -> Mapping[str, int] | None:
    """Print the classes that have too few pictures; see `classes_left_out`."""
    left_out = classes_left_out(params, raw_dir)
    if left_out:
        least = params.picture_files.min_pictures
        named = [f"{class_name} ({count:,} picture{'' if count == 1 else 's'} of at least {least:,})"
                 for class_name, count in list(left_out.items())[:MOST_NAMED]]
        others = f" and {len(left_out) - MOST_NAMED:,} more" if len(left_out) > MOST_NAMED else ""
        say(f"{name}: left out: {', '.join(named)}{others}")
    return left_out


def _make_splits(name: str, params: DatasetParams, divided: Sequence[str]) -> dict[str, Split]:
    """Raises ParamsError, which begins with the field of a split that the classes cannot fill."""
    splits = {}
    for split, split_params in params.splits.items():
        try:
            splits[split] = make_split(split_params, divided, sample=params.sample)
        except ValueError as error:
            raise ParamsError(f"datasets.{name}.splits.{split}: {error}") from error
    return splits


def _write_shards(name: str, tasks: Sequence[ShardTask], new: Path, out_dir: Path,
                  write: Callable[[Sequence[ShardTask]], Iterable[tuple[ShardTask, WrittenShard]]]
                  ) -> dict[str, WrittenShard]:
    """Put all shards into `new`: missing ones are written, then those that `out_dir` has are linked.

    They are linked last because, before it runs the stage again, DVC copies each file of its outputs that has a
    second name.
    """
    written: dict[str, WrittenShard] = {}
    _remove_strangers(new, {task.plan.name for task in tasks})
    with Progress(f"sharding {name}", sum(len(task.plan.samples) for task in tasks), "samples") as progress:
        for task in tasks:
            if (found := _find_finished(task, out_dir)) is not None:
                written[task.plan.name] = found
                progress.advance(len(found.offsets))
        missing = [task for task in tasks if task.plan.name not in written]
        _require_space(name, new, missing, tasks)
        for task, result in write(missing):
            written[task.plan.name] = result
            progress.advance(len(result.offsets))
    for task in tasks:
        if not task.path.exists():
            link_or_copy(out_dir / task.plan.name, task.path)
    return written


def _find_finished(task: ShardTask, out_dir: Path) -> WrittenShard | None:
    """Find a finished shard, of an interrupted run or in `out_dir`, by its note.

    A shard of an interrupted run that differs from its note is removed.
    """
    noted = read_note(task.note, task.fingerprint)
    if noted is not None and noted.is_at(task.path):
        return noted
    task.path.unlink(missing_ok=True)
    return noted if noted is not None and noted.is_at(out_dir / task.plan.name) else None


def _fingerprint(params: DatasetParams, plan: ShardPlan, sources: Mapping[str, str]) -> str:
    """Hash of all that decides a shard's bytes. It leaves out loading, and splits, since `plan` follows from them."""
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
    """Remove files that are no shard of this run; a `.part` of a node given up for lost may vanish meanwhile."""
    for path in directory.iterdir():
        if path.name not in keep:
            path.unlink(missing_ok=True)
