"""Archives that are not as they should be: each is refused with archive, member and what to do."""

import gzip
import re
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from small_omniglot import PARAMS, members_of, small_omniglot, write_zip

from pipeline.data.raw.datasets import mnist, omniglot, ptb_sample
from pipeline.data.shards.make import shard_dataset
from pipeline.data.spec import DatasetParams, WholeSplit

ARCHIVE = "images_evaluation.zip"
FIRST = "images_evaluation/Tibetan/character01/0001_01.png"
MNIST = DatasetParams(source="mnist", splits={"all": WholeSplit()})


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return small_omniglot(tmp_path / "raw", monkeypatch)


def refused(raw: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        omniglot.read_raw(raw, PARAMS)


LEADING_OUT = ["../out.png", "/etc/out.png", "a/../../out.png", "..\\out.png", "C:\\out.png"]


@pytest.mark.parametrize("name", LEADING_OUT)
def test_a_member_that_leads_out_of_the_archive(raw: Path, name: str) -> None:
    write_zip(raw / ARCHIVE, members_of(ARCHIVE) | {name: b"x"})
    refused(raw, rf"{ARCHIVE}: member {re.escape(repr(name))} is refused: its path leads out of the archive;")


def test_a_member_that_is_a_link(raw: Path) -> None:
    link = zipfile.ZipInfo("images_evaluation/Tibetan/character01/link")
    link.external_attr = 0o120777 << 16
    write_zip(raw / ARCHIVE, {**members_of(ARCHIVE), link: b"/etc/passwd"})
    refused(raw, rf"{ARCHIVE}: member '{link.filename}' is refused: it is a link")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice(raw: Path) -> None:
    with zipfile.ZipFile(raw / ARCHIVE, "a") as archive:
        archive.writestr(FIRST, b"another")
    refused(raw, rf"{ARCHIVE}: member '{FIRST}' is refused: it is there twice")


def test_an_image_of_0_bytes(raw: Path) -> None:
    write_zip(raw / ARCHIVE, members_of(ARCHIVE) | {FIRST: b""})
    refused(raw, rf"{ARCHIVE}: member '{FIRST}' is refused: it is an image of 0 bytes")


def test_missing_drawers(raw: Path) -> None:
    left = {name: content for name, content in members_of(ARCHIVE).items()
            if not re.search(r"Ge_ez/character02/\d+_(07|12)", name)}
    write_zip(raw / ARCHIVE, left)
    refused(raw, rf"{ARCHIVE}: Ge_ez/character02 has 18 drawers, not 20 \(missing: 7, 12\); fetch")


def test_a_missing_character(raw: Path) -> None:
    write_zip(raw / ARCHIVE, {name: content for name, content in members_of(ARCHIVE).items()
                              if "Ge_ez/character02" not in name})
    refused(raw, rf"{ARCHIVE}: 4 characters and 80 drawings, expected 5 and 100; fetch the archive again")


def test_a_zip_cut_short(raw: Path) -> None:
    content = (raw / ARCHIVE).read_bytes()
    (raw / ARCHIVE).write_bytes(content[:len(content) // 2])
    refused(raw, rf"{ARCHIVE}: not a whole zip \(.*; {len(content) // 2:,} bytes\); fetch the archive again")


def test_no_archive(raw: Path) -> None:
    (raw / ARCHIVE).unlink()
    refused(raw, rf"{ARCHIVE}: no such file; run the download first")


@pytest.mark.parametrize("num_processes", [1, 2])
def test_an_image_that_cannot_be_decoded(raw: Path, tmp_path: Path, num_processes: int) -> None:
    png = members_of(ARCHIVE)[FIRST]
    write_zip(raw / ARCHIVE, members_of(ARCHIVE) | {FIRST: png[:60]})
    message = rf"{ARCHIVE}: member {FIRST} \(key Tibetan/character01/01\): not a whole png image \(60 bytes: "
    with pytest.raises(ValueError, match=message):
        shard_dataset("small", PARAMS, raw, tmp_path / "shards", num_processes)
    assert not (tmp_path / "shards").exists()


def test_a_picture_of_another_format_under_the_name_of_a_png(raw: Path, tmp_path: Path) -> None:
    write_zip(raw / ARCHIVE, members_of(ARCHIVE) | {FIRST: b"GIF89a" + b"\1" * 50})
    with pytest.raises(ValueError, match="not a whole png image"):
        shard_dataset("small", PARAMS, raw, tmp_path / "shards")


def test_a_member_whose_bytes_are_damaged(raw: Path, tmp_path: Path) -> None:
    content = bytearray((raw / ARCHIVE).read_bytes())
    place = content.index(members_of(ARCHIVE)[FIRST]) + 70
    content[place] ^= 255
    (raw / ARCHIVE).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{ARCHIVE}: member '{FIRST}': Bad CRC-32 .*; fetch the archive"):
        shard_dataset("small", PARAMS, raw, tmp_path / "shards")


def lying_zip(path: Path, members: dict[str, bytes], name: str, size: int) -> None:
    """The member `name` says, in both of its headers, that it unpacks to `size` bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        actual = archive.getinfo(name).file_size
    content = path.read_bytes()
    before = content.count(struct.pack("<I", actual))
    content = content.replace(struct.pack("<I", actual), struct.pack("<I", size))
    assert before == 2, "the size occurs elsewhere, too"
    path.write_bytes(content)


def test_a_member_that_unpacks_to_more_than_a_drawing_can_have(raw: Path) -> None:
    with zipfile.ZipFile(raw / ARCHIVE, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (members_of(ARCHIVE) | {FIRST: bytes(20_000_000)}).items():
            archive.writestr(name, content)
    refused(raw, rf"{ARCHIVE}: member '{FIRST}' is refused: it unpacks to 20,000,000 bytes, and members of this "
                 r"archive have at most 1,048,576; delete the archive and take it from a source that you trust")


def test_a_member_that_unpacks_to_more_than_it_says_is_read_no_further(raw: Path, tmp_path: Path) -> None:
    lying_zip(raw / ARCHIVE, members_of(ARCHIVE) | {FIRST: bytes(200_000_003)}, FIRST, 500)
    tracemalloc.start()
    with pytest.raises(ValueError, match=rf"{ARCHIVE}: member '{FIRST}': Bad CRC-32 .*; fetch the archive again"):
        shard_dataset("small", PARAMS, raw, tmp_path / "shards")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40_000_000


def test_a_member_compressed_by_a_method_without_a_bound(raw: Path) -> None:
    with zipfile.ZipFile(raw / ARCHIVE, "a", zipfile.ZIP_LZMA) as archive:
        archive.writestr("images_evaluation/more.png", bytes(1000))
    refused(raw, "more.png' is refused: it is compressed by method 14, neither stored nor deflated; delete the archive")


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_a_member_without_a_name(raw: Path, name: str) -> None:
    member = zipfile.ZipInfo(FIRST)
    member.filename = member.orig_filename = name
    member.external_attr = 0o100644 << 16
    write_zip(raw / ARCHIVE, members_of(ARCHIVE) | {member: b"x"})
    if name != "/":  # which is a folder
        refused(raw, rf"{ARCHIVE}: member {name!r} is refused: its path leads out of the archive")


def test_trees_that_unpack_to_more_than_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nltk reads them, without a bound of its own."""
    monkeypatch.setattr(ptb_sample, "WSJ_FILES", {"train": range(1, 2), "valid": range(2, 3), "test": range(3, 4)})
    trees = {f"treebank/combined/wsj_{number:04d}.mrg": b"( (S (NN word)) )" for number in (1, 2, 3)}
    name = "treebank/combined/wsj_0002.mrg"
    lying_zip(tmp_path / ptb_sample.ARCHIVE, trees | {name: bytes(3_000_003)}, name, 600)
    with pytest.raises(ValueError, match=rf"treebank.zip: member '{name}': Bad CRC-32 .*; fetch the archive again"):
        ptb_sample.prepare_raw(tmp_path, PARAMS)


def write_idx(path: Path, values: np.ndarray) -> None:
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()))


def write_mnist(raw: Path, num_images: int = 10_000, num_labels: int = 10_000, largest: int = 9) -> Path:
    raw.mkdir()
    write_idx(raw / mnist.IMAGES, np.zeros((num_images, 28, 28)))
    write_idx(raw / mnist.LABELS, np.arange(num_labels) % (largest + 1))
    return raw


@pytest.mark.parametrize(("wrong", "message"), [
    ({"num_images": 9_999}, r"images \(9999, 28, 28\) and labels \(10000,\), expected \(10000, 28, 28\)"),
    ({"num_labels": 60_000}, r"labels \(60000,\), expected .*; delete t10k-images-idx3-ubyte.gz and"),
    ({"largest": 10}, "label 10 at 10, but digits are 0 to 9; delete t10k-labels-idx1-ubyte.gz")])
def test_other_digits_than_the_test_set(tmp_path: Path, wrong: dict[str, int], message: str) -> None:
    raw = write_mnist(tmp_path / "raw", **wrong)
    with pytest.raises(ValueError, match=message):
        mnist.read_raw(raw, MNIST)


def test_digits_cut_short(tmp_path: Path) -> None:
    path = write_mnist(tmp_path / "raw") / mnist.IMAGES
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(ValueError, match=r"images-idx3-ubyte.gz: not a whole gzip file \(.*\); delete"):
        mnist.read_raw(tmp_path / "raw", MNIST)
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:-1]))
    with pytest.raises(ValueError, match=r"not an IDX file of bytes: shape \(10000, 28, 28\)"):
        mnist.read_raw(tmp_path / "raw", MNIST)
    path.write_bytes(gzip.compress(bytes(60_000_000)))
    with pytest.raises(ValueError, match=r"ubyte.gz: more than 47,040,016 bytes come out of its [\d,]+, and it has"):
        mnist.read_raw(tmp_path / "raw", MNIST)
    path.write_bytes(gzip.compress(b"hello"))
    with pytest.raises(ValueError, match="not an IDX file of bytes"):
        mnist.read_raw(tmp_path / "raw", MNIST)
