"""Photographs of real size in shards, for the benchmarks that read them."""

from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from matchnet.files import sha256_of
from pipeline.data.formats.tar import TarWriter
from pipeline.data.shards.index import INDEX, write_index
from pipeline.data.shards.manifest import ClassEntry, Manifest, ShardEntry, write_manifest

SHARD_BYTES = 256 * 2**20


def read_photographs(folder: Path) -> list[bytes]:
    """The JPEGs of a folder, by name."""
    contents = [path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix.lower() in (".jpeg", ".jpg")]
    if not contents:
        raise SystemExit(f"{folder}: no photographs (.jpg, .jpeg) in it")
    return contents


def write_shards(folder: Path, contents: list[bytes], num_images: int, num_classes: int = 1) -> None:
    """`num_images` images, over and over: shards, index and manifest of one group of classes photo0, photo1, ..."""
    columns: dict[str, list] = {name: [] for name in ("key", "shard", "offset", "length")}
    images = enumerate(islice(cycle(contents), num_images))
    entries: list[ShardEntry] = []
    while len(columns["key"]) < num_images:
        entries.append(_write_shard(folder / f"all_train-{len(entries):06d}.tar", images, columns))
    class_ids = [number % num_classes for number in range(num_images)]
    of_class: dict[str, list] = {"class_id": class_ids, "class_name": [f"photo{class_id}" for class_id in class_ids]}
    write_index(folder / INDEX, {**columns, **of_class, "group": ["all_train"] * num_images})
    names = [f"photo{class_id}" for class_id in range(num_classes)]
    write_manifest(folder, Manifest(
        name="photographs", num_samples=num_images,
        classes=tuple(ClassEntry(name, "all_train", class_ids.count(c)) for c, name in enumerate(names)),
        splits={"all": {"train": names, "valid": [], "test": []}}, shards=tuple(entries),
        index_sha256=sha256_of(folder / INDEX), parameters={"invert": False, "margin": None, "source": "imagenet"},
        sources={}))


def _write_shard(path: Path, images: Iterator[tuple[int, bytes]], columns: dict[str, list]) -> ShardEntry:
    first = len(columns["key"])
    with open(path, "wb") as file:
        tar = TarWriter(file)
        for number, content in images:
            columns["key"].append(f"photo/{number}")
            columns["shard"].append(path.name)
            columns["offset"].append(tar.add(f"photo/{number}.jpg", content))
            columns["length"].append(len(content))
            if tar.size > SHARD_BYTES:
                break
        tar.finish()
    return ShardEntry(path.name, "all_train", tar.size, len(columns["key"]) - first, tar.digest.hexdigest())
