"""The index: what it says is what the tars hold; an index or shards that do not fit are refused."""

import errno
import json
import math
import os
import re
import resource
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_omniglot import NUM_CLASSES

from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.index import INDEX, read_index
from pipeline.data.shards.manifest import MANIFEST
from pipeline.data.shards.reader import ShardReader


@pytest.fixture
def shards(small_shards: Path, tmp_path: Path) -> Path:
    """Shards that a test may break."""
    return shutil.copytree(small_shards, tmp_path / "shards")


def test_each_row_is_the_place_of_its_member(small_shards: Path) -> None:
    index = read_index(small_shards / INDEX)
    rows = zip(index.shard_R, index.key_R.to_pylist(), index.offset_R, index.length_R, strict=True)
    places = {(index.shards[shard], key): (offset, length) for shard, key, offset, length in rows}
    members = {(path.name, member.name.removesuffix(".png")): (member.offset_data, member.size)
               for path in small_shards.glob("*.tar") for member in tarfile.open(path)}
    assert places == members


def test_the_columns_of_the_parquet_file(small_shards: Path) -> None:
    table = pq.read_table(small_shards / INDEX)
    assert table.column_names == ["key", "shard", "offset", "length", "class_id", "class_name", "group"]
    names = [entry.name for entry in ShardFolder(small_shards).manifest.classes]
    assert [names[class_id] for class_id in table["class_id"].to_pylist()] == table["class_name"].to_pylist()
    assert [key.rpartition("/")[0] for key in table["key"].to_pylist()] == table["class_name"].to_pylist()
    groups = [shard.rpartition("-")[0] for shard in table["shard"].to_pylist()]
    assert groups == table["group"].to_pylist()


def test_rows_in_any_order_and_more_than_once(small_shards: Path) -> None:
    rows = np.random.default_rng(0).integers(0, NUM_CLASSES * 20, 100)
    with ShardReader(ShardFolder(small_shards)) as reader:
        assert reader.read_many(rows) == [reader.read(row) for row in rows.tolist()]


def test_a_shard_cut_short_names_the_first_key_that_is_lost(shards: Path) -> None:
    index = read_index(shards / INDEX)
    shard = index.shards[0]
    last = np.flatnonzero(index.shard_R == 0)[-1]
    with open(shards / shard, "r+b") as file:
        file.truncate(index.offset_R[last] + 10)
    message = (r"cut short or edited after it was indexed; the first sample lost is shard "
               rf"{re.escape(shard)}, key {index.key_R[last]}, .* run the shard stage again")
    with pytest.raises(ValueError, match=message):
        ShardReader(ShardFolder(shards))


def test_a_shard_cut_short_while_it_is_read(shards: Path) -> None:
    with ShardReader(ShardFolder(shards)) as reader:
        row = len(reader.index) - 1
        with open(shards / reader.index.shards[reader.index.shard_R[row]], "r+b") as file:
            file.truncate(reader.index.offset_R[row] + 10)
        with pytest.raises(ValueError, match=rf"key {reader.index.key_R[row]}, offset \d+: 10 of \d+ bytes"):
            reader.read_many([0, row])


def test_a_shard_written_to_while_it_is_read(shards: Path) -> None:
    with ShardReader(ShardFolder(shards)) as reader:
        assert reader.read_many([0])
        name = reader.index.shards[reader.index.shard_R[0]]
        with open(shards / name, "r+b") as file:
            file.seek(700)
            file.write(b"x")
        other = int(np.flatnonzero(reader.index.shard_R != reader.index.shard_R[0])[0])
        assert reader.read_many([other])
        with pytest.raises(ValueError, match=rf"{re.escape(name)}: written to while it was read; run the shard stage"):
            reader.read_many([other, 0])


def test_a_disk_that_goes_away(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*place: int) -> bytes:
        raise OSError(errno.ESTALE, "Stale file handle")

    with ShardReader(ShardFolder(shards)) as reader:
        monkeypatch.setattr(os, "pread", fail)
        with pytest.raises(OSError, match=rf"key {reader.index.key_R[3]}, offset \d+: Stale file handle; is the disk"):
            reader.read_many([3, 0])


def test_an_edited_shard_is_found_by_its_sha256(shards: Path) -> None:
    tar = sorted(shards.glob("*.tar"))[1]
    content = bytearray(tar.read_bytes())
    content[700] ^= 1
    tar.write_bytes(content)
    ShardReader(ShardFolder(shards)).close()  # the sizes are right
    with pytest.raises(ValueError, match=re.escape(f"{tar.name}: edited after it was written: SHA-256")):
        ShardFolder(shards).verify()


def test_a_missing_shard(shards: Path) -> None:
    tar = sorted(shards.glob("*.tar"))[0]
    tar.unlink()
    with pytest.raises(ValueError, match=re.escape(f"{tar.name}: 0 bytes, but dataset.json says")):
        ShardReader(ShardFolder(shards))


@pytest.fixture
def few_files() -> Iterator[int]:
    """This process may open no more than these, until it raises its own limit."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = len(os.listdir("/dev/fd")) + 5
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, limits[1]))
    yield few
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_more_shards_than_a_process_may_open_as_it_is(small_shards: Path, few_files: int) -> None:
    assert len(ShardFolder(small_shards).manifest.shards) > few_files - len(os.listdir("/dev/fd"))
    with ShardReader(ShardFolder(small_shards)) as reader:
        assert reader.read(0)
    assert few_files < resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_more_shards_than_a_process_may_ever_open(small_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = len(ShardFolder(small_shards).manifest.shards)
    monkeypatch.setattr(resource, "getrlimit", Mock(return_value=(50, 70)))
    message = (rf"{small_shards}: \d+ open files are needed, {count} of them at once, and this process may have 70 "
               r"\(its hard limit\): raise that .*; or write a larger shard_size_mib for small, and run the shard")
    with pytest.raises(OSError, match=message):
        ShardReader(ShardFolder(small_shards))


@pytest.mark.parametrize("version", ["2", None])
def test_an_index_of_another_version(shards: Path, version: str | None) -> None:
    table = pq.read_table(shards / INDEX)
    metadata = {"matchnet.index.format": version} if version else {}
    pq.write_table(table.replace_schema_metadata(metadata), shards / INDEX)
    found = version or "none"
    with pytest.raises(ValueError, match=f"index of format {found}, but this program reads format 1; run"):
        read_index(shards / INDEX)


def test_an_index_that_is_not_parquet(shards: Path) -> None:
    (shards / INDEX).write_bytes((shards / INDEX).read_bytes()[:100])
    with pytest.raises(ValueError, match=r"index\.parquet: not a whole Parquet file"):
        read_index(shards / INDEX)


def test_an_index_of_other_shards(shards: Path) -> None:
    manifest = (shards / MANIFEST).read_text()
    (shards / MANIFEST).write_text(manifest.replace('"num_samples": 320,', '"num_samples": 321,'))
    with pytest.raises(ValueError, match=r"dataset.json: num_samples: 321, but its shards have 320; run the"):
        ShardReader(ShardFolder(shards))


def test_a_manifest_of_another_version_or_cut_short(shards: Path) -> None:
    text = (shards / MANIFEST).read_text()
    (shards / MANIFEST).write_text(text.replace('"format": 1', '"format": 7'))
    with pytest.raises(ValueError, match="format 7, but this program reads format 1; run the shard stage"):
        _ = ShardFolder(shards).manifest
    (shards / MANIFEST).write_text(text[:200])
    with pytest.raises(ValueError, match=r"dataset.json: not a manifest .* run the shard stage again"):
        _ = ShardFolder(shards).manifest


@pytest.mark.parametrize(("source", "change", "message"), [
    ("omniglot", {"margin": 0.7}, r"parameters: margin: 0\.7 is not possible: the share left free"),
    ("omniglot", {"margin": math.nan}, r"parameters: margin: nan is not possible"),
    ("omniglot", {"margin": [0.1]}, r"parameters\.margin: found \[0\.1\]; it must be a number"),
    ("omniglot", {"margin": 10**400}, "parameters: int too large"),
    ("omniglot", {"max_pixels": "big"}, r"parameters\.max_pixels: found 'big'; it must be a whole number"),
    ("omniglot", {"max_pixels": 0}, "parameters: max_pixels: 0 is not possible"),
    ("omniglot", {"upright": True}, "parameters: upright: True is not possible"),
    ("omniglot", {"seed": 1.5}, r"parameters\.seed: found 1\.5; it must be a whole number"),
    ("omniglot", {"source": ["omniglot"]}, r"parameters\.source: \['omniglot'\] is none of"),
    ("imagenet", {"imagenet": 5}, r"parameters\.imagenet: found 5; it must be a section"),
    ("imagenet", {"imagenet": {"central_crop": 1.5}}, r"parameters\.imagenet: central_crop: 1\.5 is not possible"),
    ("folder", {}, r"parameters\.folder: it is missing"),
    ("folder", {"folder": 5}, r"parameters\.folder: found 5; it must be a section"),
    ("folder", {"folder": {}}, r"parameters\.folder\.format: it is missing"),
    ("folder", {"folder": {"format": "xyz"}}, r"parameters\.folder\.format: found 'xyz'; write one of png, jpg"),
    ("folder", {"folder": {"format": "png", "central_crop": "half"}}, r"parameters\.folder\.central_crop: found 'half"),
    ("webdataset", {"webdataset": None}, r"parameters\.webdataset: found None; it must be a section"),
    ("mini_imagenet", {}, r"parameters\.mini_imagenet: it is missing"),
    ("mini_imagenet", {"mini_imagenet": {"prepared": 1}}, r"parameters\.mini_imagenet\.prepared: found 1; it must"),
])
def test_damaged_parameters_of_a_manifest_are_named(shards: Path, source: str, change: dict[str, Any],
                                                    message: str) -> None:
    content = json.loads((shards / MANIFEST).read_text())
    content["parameters"] |= {"source": source, **change}
    (shards / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"^{shards}/dataset\.json: ({message})") as refusal:
        _ = ShardFolder(shards).manifest
    assert str(refusal.value).endswith("; run the shard stage again") and "\n" not in str(refusal.value)


def test_a_missing_margin_and_names_that_lead_elsewhere_are_refused(shards: Path) -> None:
    text = (shards / MANIFEST).read_text()
    without_margin = {"source": "omniglot", "invert": True}
    for change, message in (({"name": "../../x"}, "name: String should match"), ({"name": ""}, "name: String should"),
                            ({"parameters": without_margin}, "parameters.margin: it is missing")):
        (shards / MANIFEST).write_text(json.dumps(json.loads(text) | change))
        with pytest.raises(ValueError, match=rf"^{shards}/dataset\.json: {message}.*; run the shard stage again$"):
            _ = ShardFolder(shards).manifest
    group = json.loads(text)["shards"][0]["group"]
    (shards / MANIFEST).write_text(text.replace(f'"group": "{group}"', '"group": "../../g"'))
    with pytest.raises(ValueError, match=r"classes\.\d+\.group: String should match|shards\.\d+\.group: String should"):
        _ = ShardFolder(shards).manifest


@pytest.mark.parametrize(("source", "change"), [
    ("imagenet", {}), ("imagenet", {"imagenet": {"central_crop": 0.875, "of_another_version": 1}}),
    ("folder", {"folder": {"format": "jpg"}}), ("mini_imagenet", {"mini_imagenet": {"prepared": True, "list": "ravi"}}),
    ("omniglot", {"of_another_version": 1, "margin": 0, "max_pixels": 100})])
def test_parameters_that_say_what_is_needed_are_read(shards: Path, source: str, change: dict[str, Any]) -> None:
    content = json.loads((shards / MANIFEST).read_text())
    content["parameters"] = {"source": source, "invert": True, "margin": None, **change}
    (shards / MANIFEST).write_text(json.dumps(content))
    assert ShardFolder(shards).manifest.parameters == content["parameters"]


def test_shards_that_are_not_finished(shards: Path) -> None:
    (shards / MANIFEST).unlink()
    with pytest.raises(ValueError, match=r"dataset\.json: no such file: dataset shards has no finished shards"):
        ShardReader(ShardFolder(shards))
