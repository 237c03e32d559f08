"""ImageNet's archives: listed without unpacking, sharded whole, and refused with a name where they are not right."""

import errno
import gzip
import io
import itertools
import os
import re
import shutil
import socket
import tarfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from small_imagenet import (
    ARCHIVE,
    PARAMS,
    SYNSETS,
    brought,
    encoded,
    picture,
    small_archive,
    small_raw,
    synset_images,
    take_for_real,
    tar_of,
    tar_of_synsets,
    write_folder,
)
from small_omniglot import mirror

from matchnet.files import sha256_of
from pipeline.data.raw.datasets import imagenet
from pipeline.data.raw.fetch_file import is_address
from pipeline.data.raw.linked_archives import archive_path
from pipeline.data.raw.readers import ilsvrc_devkit, imagenet_tars
from pipeline.data.raw.readers.imagenet_tars import ArchiveReader, scan_synsets
from pipeline.data.raw.readers.photographs import to_jpeg
from pipeline.data.shards import make as shards
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.index import INDEX, read_index
from pipeline.data.shards.make import shard_dataset
from pipeline.data.shards.reader import ShardReader
from pipeline.data.source_spec import ImagenetParams
from pipeline.data.spec import DatasetParams, ListSplit

ODD = {"0 bytes": 1, "CMYK JPEG": 2, "EXIF rotation": 1, "PNG named JPEG": 1}


def with_images(**changes: object) -> DatasetParams:
    return replace(PARAMS, imagenet=ImagenetParams(sample=True, **changes))  # type: ignore[arg-type]


def make(raw: Path, out: Path, params: DatasetParams = PARAMS, num_processes: int = 1) -> Path:
    shard_dataset("small", params, raw, out, num_processes)
    return out


def contents_of(out: Path) -> dict[str, bytes]:
    """Key -> bytes, through the index."""
    with ShardReader(ShardFolder(out)) as reader:
        return dict(zip(reader.index.key_R.to_pylist(), reader.read_many(range(len(reader.index))), strict=True))


def keys_of(out: Path) -> set[str]:
    return set(read_index(out / INDEX).key_R.to_pylist())


def sums(directory: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(directory.iterdir())}


def real_archive() -> Path:
    if is_address(mirror()):
        pytest.skip("the mirror is an address")
    return Path(mirror()) / "imagenet" / ARCHIVE


def test_the_listing_of_the_stand_in_is_what_tarfile_reads() -> None:
    archive = real_archive()
    found = {(member.class_name, member.name): member for members in scan_synsets(archive) for member in members}
    content = archive.read_bytes()
    with tarfile.open(archive) as outer:
        for synset_tar in outer:
            with tarfile.open(fileobj=io.BytesIO(outer.extractfile(synset_tar).read())) as inner:  # type: ignore[union-attr]
                for header in inner:
                    member = found.pop((synset_tar.name.removesuffix(".tar"), header.name))
                    bytes_there = content[member.offset:member.offset + member.size]
                    assert bytes_there == inner.extractfile(header).read()  # type: ignore[union-attr]
    assert not found


def test_the_shards_hold_every_image_and_what_was_odd_is_counted(tmp_path: Path) -> None:
    out = make(small_raw(tmp_path), tmp_path / "out")
    expected = {f"{synset}/{name.removesuffix('.JPEG')}": to_jpeg(content, None, 90, Counter())
                for synset, members in small_archive().items() for name, content in members.items() if content}
    assert contents_of(out) == expected
    manifest = ShardFolder(out).manifest
    assert manifest.oddities == ODD
    assert {entry.name: entry.num_samples for entry in manifest.classes} == dict(zip(SYNSETS, (6, 10, 6), strict=True))


def test_the_same_bytes_whatever_the_processes(tmp_path: Path) -> None:
    params = with_images(shorter_side=24)
    raw = small_raw(tmp_path, params)
    out = make(raw, tmp_path / "one", params)
    assert len(ShardFolder(out).manifest.shards) > 2
    assert sums(out) == sums(make(raw, tmp_path / "two", params, num_processes=2))


def test_a_run_that_was_interrupted_counts_what_it_had_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = small_raw(tmp_path)
    whole, write_shard, done = make(raw, tmp_path / "whole"), shards.write_shard, []

    def break_off(read: Callable, task: object) -> object:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(task)
        return write_shard(read, task)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shards, "write_shard", break_off)
        make(raw, tmp_path / "out")
    left = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out.new").glob("*.tar")}
    assert len(left) == 3
    out = make(raw, tmp_path / "out")
    assert sums(out) == sums(whole)
    assert left.items() <= {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}.items()


def test_another_crop_makes_no_shard_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = small_raw(tmp_path)
    out = make(raw, tmp_path / "out")
    monkeypatch.setattr(shards, "write_shard", None)
    make(raw, out, with_images(central_crop=0.875))
    manifest = ShardFolder(out).manifest
    assert manifest.parameters["imagenet"]["central_crop"] == 0.875 and manifest.oddities == ODD
    with pytest.raises(TypeError):
        make(raw, out, with_images(quality=80))


def test_images_held_out_are_the_last_of_each_class_and_in_no_other_dataset(tmp_path: Path) -> None:
    raw = small_raw(tmp_path, with_images(held_out=2))
    trained = keys_of(make(raw, tmp_path / "train", with_images(held_out=2)))
    held_out = keys_of(make(raw, tmp_path / "held", with_images(held_out=2, images="held_out")))
    for synset in SYNSETS:
        of_class = sorted(f"{synset}/{name.removesuffix('.JPEG')}" for name, content in small_archive()[synset].items()
                          if content)
        assert {key for key in held_out if key.startswith(synset)} == set(of_class[-2:])
        assert {key for key in trained if key.startswith(synset)} == set(of_class[:-2])


def test_scaled_images_have_the_shorter_side_asked_for(tmp_path: Path) -> None:
    params = with_images(shorter_side=24)
    for content in contents_of(make(small_raw(tmp_path, params), tmp_path / "out", params)).values():
        assert min(Image.open(io.BytesIO(content)).size) == 24


@pytest.mark.parametrize("shorter_side", [64, 128, 256])
def test_the_guess_of_stored_sizes(shorter_side: int) -> None:
    folder = real_archive().parent / "full_size"
    contents = [path.read_bytes() for path in sorted(folder.iterdir())[::3]]
    params = ImagenetParams(shorter_side=shorter_side)
    real = sum(len(to_jpeg(content, shorter_side, 90, Counter())) for content in contents)
    guess = sum(imagenet._stored_size(len(content), params) for content in contents)
    assert 3 / 4 < guess / real < 4 / 3


def test_holding_out_more_than_a_class_has(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"held_out: 6 of each class, but {SYNSETS[0]} has 6 images in .*fewer"):
        small_raw(tmp_path, with_images(held_out=6))


@pytest.fixture(scope="module")
def whole_tar() -> bytes:
    return tar_of_synsets({synset: synset_images(synset, 2) for synset in SYNSETS[:2]})


def listed(path: Path, content: bytes) -> list:
    path.write_bytes(content)
    return list(itertools.chain(*scan_synsets(path)))


def test_an_archive_that_is_cut_short_anywhere(tmp_path: Path, whole_tar: bytes) -> None:
    archive = tmp_path / ARCHIVE
    assert len(listed(archive, whole_tar)) == 4
    end = len(whole_tar.rstrip(b"\0"))
    for place in range(0, end, 300):
        with pytest.raises(ValueError, match=rf"{ARCHIVE}: (n01.*: )?cut short (in|after) .*download it again"):
            listed(archive, whole_tar[:place])


def test_a_cut_names_synset_tar_and_member(tmp_path: Path) -> None:
    members = synset_images(SYNSETS[1], 2)
    cut = tar_of({f"{SYNSETS[1]}.tar": tar_of(members)[:900]})
    message = rf"{ARCHIVE}: {SYNSETS[1]}.tar: cut short in member '{SYNSETS[1]}_1.JPEG', which has [\d,]+ bytes from"
    with pytest.raises(ValueError, match=message):
        listed(tmp_path / ARCHIVE, cut)


def test_garbage_where_a_header_should_be(tmp_path: Path, whole_tar: bytes) -> None:
    second = whole_tar.index(f"{SYNSETS[0]}_2.JPEG".encode())
    broken = whole_tar[:second] + b"\xff" * 512 + whole_tar[second + 512:]
    message = rf"{SYNSETS[0]}.tar: no header of a tar's member at byte {second:,}, after member '{SYNSETS[0]}_1.JPEG'"
    with pytest.raises(ValueError, match=message):
        listed(tmp_path / ARCHIVE, broken)


def link() -> tarfile.TarInfo:
    header = tarfile.TarInfo(f"{SYNSETS[0]}_9.JPEG")
    header.type, header.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return header


@pytest.mark.parametrize(("name", "content", "message"), [
    ("n01443537_1.JPEG", b"x", r"member 'n01443537_1.JPEG' is not called like n01440764_1152.JPEG; it is not as"),
    ("../n01440764_1.JPEG", b"x", r"member '../n01440764_1.JPEG' is not called like"),
    ("n01440764_9.JPEG", link(), r"member 'n01440764_9.JPEG' is no plain file")])
def test_a_member_that_does_not_belong(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    inner = tar_of({**synset_images(SYNSETS[0], 2), name: content})
    with pytest.raises(ValueError, match=rf"{ARCHIVE}: {SYNSETS[0]}\.tar: {message}"):
        listed(tmp_path / ARCHIVE, tar_of({f"{SYNSETS[0]}.tar": inner}))


def test_a_member_of_negative_size(tmp_path: Path) -> None:
    """Its header's number is GNU's of base 256: the next member would be this one again."""
    header = tarfile.TarInfo(f"{SYNSETS[0]}_1.JPEG")
    header.size = -512
    inner = header.tobuf(tarfile.GNU_FORMAT) + tar_of(synset_images(SYNSETS[0], 1))
    with pytest.raises(ValueError, match=rf"{SYNSETS[0]}.tar: member '{header.name}' says that it has -512 bytes; it"):
        listed(tmp_path / ARCHIVE, tar_of({f"{SYNSETS[0]}.tar": inner}))


def test_a_member_larger_than_a_photograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet_tars, "MOST_OF_IMAGE", 1000)
    inner = tar_of({f"{SYNSETS[0]}_1.JPEG": bytes(1001)})
    message = rf"tar: member '{SYNSETS[0]}_1.JPEG' has 1,001 bytes, and an image of ImageNet has at most 1,000; it is"
    with pytest.raises(ValueError, match=message):
        listed(tmp_path / ARCHIVE, tar_of({f"{SYNSETS[0]}.tar": inner}))


def written_by(members: Mapping[str, bytes], form: int, **about: object) -> bytes:
    """As Python's tarfile writes it, with a folder first."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        folder = tarfile.TarInfo("./")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in members.items():
            header = tarfile.TarInfo(f"./{name}")
            header.size = len(content)
            for field, value in about.items():
                setattr(header, field, value)
            tar.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


ABOUT = {"mtime": 1234567890.25, "uname": "Jürgen"}  # neither fits into a plain header


@pytest.mark.parametrize(("form", "about"), [
    (tarfile.PAX_FORMAT, ABOUT), (tarfile.PAX_FORMAT, {"pax_headers": {"comment": "x" * 3000, "size": "7"}}),
    (tarfile.GNU_FORMAT, {}), (tarfile.USTAR_FORMAT, {})], ids=["pax", "pax with more", "gnu", "ustar"])
def test_an_archive_that_another_program_wrote(tmp_path: Path, form: int, about: dict[str, object]) -> None:
    images = synset_images(SYNSETS[0], 3)
    if "pax_headers" in about:  # its size goes before that of the plain header
        images = dict.fromkeys(images, b"7 bytes")
    outer = written_by({f"{SYNSETS[0]}.tar": written_by(images, form, **about)}, form,
                       **({} if "pax_headers" in about else about))
    found = listed(tmp_path / ARCHIVE, outer)
    assert {member.name: outer[member.offset:member.offset + member.size] for member in found} == images


def test_long_names_of_gnu_tar_are_read(tmp_path: Path) -> None:
    name = "n01440764_" + "1" * 150 + ".JPEG"
    outer = tar_of({f"{SYNSETS[0]}.tar": tar_of({name: b"content"})})
    assert [member.name for member in listed(tmp_path / ARCHIVE, outer)] == [name]


def pax(records: bytes, kind: bytes = tarfile.XHDTYPE, size: int | None = None) -> bytes:
    header = tarfile.TarInfo("about")
    header.type, header.size = kind, len(records) if size is None else size
    return header.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512)


@pytest.mark.parametrize(("before", "message"), [
    (pax(b"99 path=x\n"), "the pax header at byte [0-9,]+ is damaged; it is"),
    (pax(b"x"), "the pax header at byte [0-9,]+ is damaged"), (pax(b"12 size=-1 \n"), "says that it has '-1 ' bytes"),
    (pax(b"19 size=9999999999\n"), r"cut short in member 'n01440764_1.JPEG', which has 9,999,999,999 bytes from byte"),
    (pax(b"17 path=n1.JPEG\n"), "the pax header .* is damaged"), (pax(b"16 path=n1.JPEG\n"), "'n1.JPEG' is not called"),
    (pax(b"10 size=9\n", tarfile.XGLTYPE), "the pax header at byte [0-9,]+ gives all members one name or size"),
    (pax(b"22 GNU.sparse.major=1\n"), "member 'n01440764_1.JPEG' is no plain file"),
    (pax(bytes(70_000)), "the header at byte [0-9,]+ has 70,000 bytes, more than the 65,536 that one can have")])
def test_headers_that_are_damaged(tmp_path: Path, before: bytes, message: str) -> None:
    inner = before + tar_of(synset_images(SYNSETS[0], 1))
    with pytest.raises(ValueError, match=rf"{ARCHIVE}: {SYNSETS[0]}\.tar: .*{message}"):
        listed(tmp_path / ARCHIVE, tar_of({f"{SYNSETS[0]}.tar": inner}))


def test_members_that_are_there_twice(tmp_path: Path) -> None:
    name = f"{SYNSETS[0]}_1.JPEG"
    images = tar_of({"first": tarfile.TarInfo(name), "second": tarfile.TarInfo(name)})
    with pytest.raises(ValueError, match=rf"{SYNSETS[0]}.tar: member '{SYNSETS[0]}_1.JPEG' is there twice"):
        listed(tmp_path / ARCHIVE, tar_of({f"{SYNSETS[0]}.tar": images}))
    with pytest.raises(ValueError, match=rf"{ARCHIVE}: member '{SYNSETS[0]}.tar' is there twice"):
        inner = tar_of({name: b"x"})
        listed(tmp_path / ARCHIVE, tar_of({f"{SYNSETS[0]}.tar": inner})[:512 + len(inner)] * 2)


def test_a_member_of_the_archive_that_is_no_synset(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"{ARCHIVE}: member 'readme.txt' is no tar of a synset, such as"):
        listed(tmp_path / ARCHIVE, tar_of({"readme.txt": b"x"}))


def test_an_archive_that_is_not_whole_and_not_called_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = replace(PARAMS, imagenet=ImagenetParams())
    take_for_real(tmp_path / "archives" / ARCHIVE, monkeypatch)
    monkeypatch.setattr(imagenet, "read_list", lambda name: list(SYNSETS))
    monkeypatch.setattr(imagenet, "NUM_IMAGES", {ARCHIVE: 23})
    small_raw(tmp_path, params)  # all 23 of the three synsets
    monkeypatch.setattr(imagenet, "NUM_IMAGES", {ARCHIVE: 24})
    with pytest.raises(ValueError, match=rf"{ARCHIVE}: 23 images, not 24: .* download it again, .* write sample"):
        small_raw(tmp_path, params)
    monkeypatch.setattr(imagenet, "read_list", lambda name: [*SYNSETS, "n09999999"])
    with pytest.raises(ValueError, match=rf"{ARCHIVE}: synsets missing: 1 \(n09999999 is the first\); 23 images, not"):
        small_raw(tmp_path, params)


def test_the_stand_in_is_refused_as_the_real_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take_for_real(tmp_path / "archives" / ARCHIVE, monkeypatch)
    folder = write_folder(tmp_path / "archives", {ARCHIVE: tar_of_synsets(small_archive())})
    message = rf"{ARCHIVE}: synsets missing: 997 \(n\d+ is the first\); 23 images, not 1,281,167: "
    with pytest.raises(ValueError, match=message):
        brought(folder.parent, replace(PARAMS, imagenet=ImagenetParams()))


@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_corrupt_jpeg_in_the_middle(tmp_path: Path, num_processes: int) -> None:
    archive, name = small_archive(), f"{SYNSETS[1]}_3.JPEG"
    archive[SYNSETS[1]][name] = archive[SYNSETS[1]][name][:400]
    message = (rf"{ARCHIVE}: {SYNSETS[1]}/{name}@\d+\+400 \(synset/name@offset\+bytes\): not a whole JPEG \(400 bytes: "
               r".*; nothing of it can be decoded: .*touch the archive and run the download stage")
    raw = small_raw(tmp_path, synsets=archive)
    for keep_damaged in (False, True):
        with pytest.raises(ValueError, match=message) as caught:
            make(raw, tmp_path / "out", with_images(keep_damaged=keep_damaged), num_processes)
        assert "keep_damaged" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_picture_that_cannot_be_encoded_is_named(tmp_path: Path) -> None:
    archive, name = small_archive(), f"{SYNSETS[1]}_3.JPEG"
    archive[SYNSETS[1]][name] = encoded(Image.new("L", (65_501, 1)), "PNG")
    with pytest.raises(ValueError, match=rf"{ARCHIVE}: {SYNSETS[1]}/{name}@.*: a picture of 65,501 x 1 pixels cannot "
                                         r"be a JPEG \(.*\); write a shorter_side, or leave it out"):
        make(small_raw(tmp_path, synsets=archive), tmp_path / "out")


def test_max_pixels_is_a_parameter(tmp_path: Path) -> None:
    raw = small_raw(tmp_path)
    with pytest.raises(ValueError, match=r"@.*: not a whole JPEG \(.* pixels, more than max_pixels \(99\)\); raise"):
        make(raw, tmp_path / "out", replace(PARAMS, max_pixels=99))
    before = sums(make(raw, tmp_path / "out"))
    raised = sums(make(raw, tmp_path / "out", replace(PARAMS, max_pixels=10**9)))
    assert {name for name in before if before[name] != raised[name]} == {"dataset.json"}


def test_a_jpeg_without_its_end_is_kept_where_that_is_asked(tmp_path: Path) -> None:
    archive, name = small_archive(), f"{SYNSETS[1]}_3.JPEG"
    archive[SYNSETS[1]][name] = archive[SYNSETS[1]][name][:-2]
    raw = small_raw(tmp_path, synsets=archive)
    with pytest.raises(ValueError, match=rf"{name}@.*: not a whole JPEG \(.*\); write keep_damaged: true, which keeps "
                                         "it as it decodes: the archive was verified, so another copy is no better$"):
        make(raw, tmp_path / "out")
    kept = make(raw, tmp_path / "out", with_images(keep_damaged=True))
    assert ShardFolder(kept).manifest.oddities == ODD | {"damaged JPEG": 1}


def test_an_archive_that_changed_after_it_was_listed(tmp_path: Path) -> None:
    raw = small_raw(tmp_path)
    archive = tmp_path / "archives" / ARCHIVE
    archive.write_bytes(archive.read_bytes()[:-512])
    message = rf"{ARCHIVE}: written to or replaced since it was verified: .*; run the download stage again: python"
    with pytest.raises(ValueError, match=message):
        make(raw, tmp_path / "out")
    archive.unlink()
    with pytest.raises(ValueError, match=rf"{ARCHIVE}: no such file: .* moved; run the download stage again: .* small"):
        make(raw, tmp_path / "out")


def test_an_archive_of_the_same_size_is_not_read_at_the_places_of_another(tmp_path: Path) -> None:
    raw, archive = small_raw(tmp_path), tmp_path / "archives" / ARCHIVE
    expected, size = contents_of(make(raw, tmp_path / "before")), archive.stat().st_size
    write_folder(tmp_path / "archives", {ARCHIVE: tar_of_synsets(dict(reversed(small_archive().items())))})
    assert archive.stat().st_size == size
    with pytest.raises(ValueError, match=rf"{ARCHIVE}: written to or replaced since it was verified"):
        make(raw, tmp_path / "out")
    other = brought(tmp_path, PARAMS, name="other")  # which verifies it
    message = rf"{ARCHIVE}: sha256:\w+, but {raw} has the listing of sha256:\w+; run the .* stages.download small"
    with pytest.raises(ValueError, match=message):
        make(raw, tmp_path / "out")
    assert contents_of(make(other, tmp_path / "other")) == expected
    assert contents_of(make(brought(tmp_path, PARAMS), tmp_path / "out")) == expected


def test_an_archive_is_listed_once_for_all_datasets_that_are_made_of_it(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []

    def write_listing(path: Path, *of_what: object) -> None:
        listed.append(path)
        write(path, *of_what)

    write = imagenet.write_listing
    monkeypatch.setattr(imagenet, "write_listing", write_listing)
    raw = small_raw(tmp_path)
    other = brought(tmp_path, with_images(held_out=2), name="other")
    brought(tmp_path, with_images(shorter_side=24))
    assert len(listed) == 1 and sums(raw)[imagenet.LISTING] == sums(other)[imagenet.LISTING]
    listed[0].write_bytes(listed[0].read_bytes()[:-9])  # a listing that is broken is made again
    assert sums(brought(tmp_path, PARAMS)) == sums(other) and len(listed) == 2
    small_raw(tmp_path, synsets={SYNSETS[0]: synset_images(SYNSETS[0])})
    assert len(listed) == 3


def test_an_archive_that_no_download_has_verified(tmp_path: Path) -> None:
    """As benchmarks make one."""
    archive = archive_path(tmp_path / "raw/small", ARCHIVE)
    write_folder(archive.parent, {ARCHIVE: tar_of_synsets(small_archive())})
    (tmp_path / "raw/small").mkdir()
    imagenet.prepare_raw(tmp_path / "raw/small", PARAMS)
    assert len(contents_of(make(tmp_path / "raw/small", tmp_path / "out"))) == 22


def test_a_disk_that_fails_names_archive_image_and_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = small_raw(tmp_path)
    sample, archive = imagenet.read_raw(raw, PARAMS)[0], archive_path(raw, ARCHIVE)
    reader = ArchiveReader(archive)

    def pread(*args: int) -> bytes:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with monkeypatch.context() as patch, pytest.raises(OSError) as raised:
        patch.setattr(os, "pread", pread)
        reader.read(sample)
    assert raised.value.errno == errno.ESTALE
    place = f"{archive}: {sample.member} (synset/name@offset+bytes)"
    assert f"{place}: Stale file handle on {socket.gethostname()}; is the disk" in str(raised.value)
    os.truncate(tmp_path / "archives" / ARCHIVE, 600)
    with pytest.raises(ValueError, match=rf"{archive}: {re.escape(sample.member)} .*: 0 of \d+ bytes: .* cut short"):
        reader.read(sample)


def test_a_machine_that_does_not_see_the_archive(tmp_path: Path) -> None:
    link, archive = archive_path(small_raw(tmp_path), ARCHIVE), tmp_path / "archives" / ARCHIVE
    archive.unlink()
    message = (rf"{link}: No such file or directory on {socket.gethostname()}: each node must see this, and {archive}, "
               "under the same path: mount it there")
    with pytest.raises(FileNotFoundError, match=message):
        ArchiveReader(link)


def test_a_disk_without_room_is_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = small_raw(tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=2**14)
    monkeypatch.setattr(shards.shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(shards, "write_shard", None)
    message = (r"small: sharding failed: it needs about 0\.000 GiB more and 0\.000 GiB are free on the disk of "
               rf"{re.escape(str(tmp_path))}, so nothing was written: make room, .*out is as before")
    with pytest.raises(OSError, match=message):
        make(raw, tmp_path / "out")


def test_what_is_needed_is_nearly_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = small_raw(tmp_path)
    written = sum(entry.size for entry in ShardFolder(make(raw, tmp_path / "out")).manifest.shards)
    for free, fits in ((written * 1.2, True), (written * 0.5, False)):
        usage = shutil.disk_usage(tmp_path)._replace(free=int(free))
        monkeypatch.setattr(shards.shutil, "disk_usage", lambda path, usage=usage: usage)
        if fits:
            make(raw, tmp_path / "fits")
        else:
            with pytest.raises(OSError, match="nothing was written"):
                make(raw, tmp_path / "fits not")


def test_room_that_a_killed_run_took_is_free_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = small_raw(tmp_path)
    left_behind = shards.building_folder(tmp_path / "out") / "rand_test-000000.tar.5f3.part"
    left_behind.write_bytes(b"0" * 2**20)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shards.shutil, "disk_usage",
                        lambda path: usage._replace(free=0 if left_behind.exists() else 2**20))
    make(raw, tmp_path / "out")


def test_a_class_of_a_split_that_the_archive_has_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.splits.read_list", lambda name: [SYNSETS[0], "n02110185"])
    params = replace(PARAMS, splits={"dogs": ListSplit(test="some.txt", num_valid=1)})
    raw = small_raw(tmp_path, params)
    assert ShardFolder(make(raw, tmp_path / "out", params)).manifest.splits["dogs"]["test"] == [SYNSETS[0]]
    whole = replace(params, imagenet=ImagenetParams())
    with pytest.raises(ValueError, match=r"test: some.txt names 'n02110185', no class or family of this dataset"):
        make(raw, tmp_path / "whole", whole)


def devkit(labels: list[int], synsets: dict[int, str]) -> bytes:
    """As the real one: inner nodes of the hierarchy follow after the synsets."""
    rows = [(number, wnid, f"words of {wnid}", 0) for number, wnid in synsets.items()]
    rows.append((1001, "n00001740", "entity", 2))
    kinds = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("num_children", object)]
    meta = io.BytesIO()
    savemat(meta, {"synsets": np.array(rows, dtype=kinds)[:, None]})
    folder = "ILSVRC2012_devkit_t12/data"
    tar = tar_of({f"{folder}/meta.mat": meta.getvalue(), "ILSVRC2012_devkit_t12/readme.txt": b"",
                  f"{folder}/ILSVRC2012_validation_ground_truth.txt": "".join(f"{i}\n" for i in labels).encode()})
    return gzip.compress(tar)


VALIDATION, DEVKIT = "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
LABELS, NUMBERS = [3, 1, 2, 3, 1, 1], dict(enumerate(SYNSETS, start=1))


def validation_folder(place: Path, labels: list[int] = LABELS, kit: bytes | None = None) -> Path:
    images = {f"ILSVRC2012_val_{number:08d}.JPEG": encoded(picture(f"val {number}")) for number in range(1, 7)}
    files = {VALIDATION: tar_of(images), DEVKIT: devkit(labels, NUMBERS) if kit is None else kit}
    return write_folder(place / "archives", files)


def test_validation_images_have_the_labels_of_the_devkit(tmp_path: Path) -> None:
    validation_folder(tmp_path)
    params = with_images(images="validation")
    found = contents_of(make(brought(tmp_path, params), tmp_path / "out", params))
    assert found == {f"{NUMBERS[label]}/ILSVRC2012_val_{number:08d}": encoded(picture(f"val {number}"))
                     for number, label in enumerate(LABELS, start=1)}


def test_another_devkit_makes_another_listing(tmp_path: Path) -> None:
    params = with_images(images="validation")
    for labels in (LABELS, LABELS[::-1]):
        validation_folder(tmp_path, labels)
        expected = {f"{NUMBERS[label]}/ILSVRC2012_val_{number:08d}" for number, label in enumerate(labels, start=1)}
        assert keys_of(make(brought(tmp_path, params), tmp_path / "out", params)) == expected


@pytest.mark.parametrize(("wrong", "message"), [
    ({"labels": LABELS[:4]}, rf"{VALIDATION}: member 'ILSVRC2012_val_00000005.JPEG' has no label: .*{DEVKIT} has 4;"),
    ({"labels": [*LABELS[:5], 1001]}, rf"{DEVKIT}: data/ILSVRC2012_validation_ground_truth.txt: a label is 1001, not"),
    ({"kit": b"no gzip"}, rf"{DEVKIT}: not a whole gzip file \(.*; download the devkit again"),
    ({"kit": devkit(LABELS, NUMBERS)[:300]}, rf"{DEVKIT}: not a whole gzip file \("),
    ({"kit": gzip.compress(b"no tar")}, rf"{DEVKIT}: not a whole tar.gz \("),
])
def test_a_devkit_that_is_not_right(tmp_path: Path, wrong: dict, message: str) -> None:
    validation_folder(tmp_path, **wrong)
    with pytest.raises(ValueError, match=message):
        brought(tmp_path, with_images(images="validation"))


def test_a_devkit_that_unpacks_to_more_than_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ilsvrc_devkit, "MOST_BYTES", 1 << 20)
    validation_folder(tmp_path, kit=gzip.compress(bytes(2 << 20)))
    with pytest.raises(ValueError, match=rf"{DEVKIT}: more than 1,048,576 bytes come out of its [\d,]+, and it has"):
        brought(tmp_path, with_images(images="validation"))


def test_a_devkit_without_labels(tmp_path: Path) -> None:
    validation_folder(tmp_path, kit=gzip.compress(tar_of({"a/data/meta.mat": b"x"})))
    with pytest.raises(ValueError, match=rf"{DEVKIT}: no data/ILSVRC2012_validation_ground_truth.txt in it; it is not"):
        brought(tmp_path, with_images(images="validation"))


def test_the_1000_synsets() -> None:
    known = imagenet.read_list(imagenet.SYNSETS)
    assert len(set(known)) == len(known) == 1000 and known == sorted(known)
    with open(real_archive().parent / "synset_words.txt", encoding="utf-8") as words:
        assert known == sorted(line.split()[0] for line in words)
    assert {members[0].class_name for members in scan_synsets(real_archive())} <= set(known)
