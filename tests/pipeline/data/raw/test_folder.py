"""Anybody's pictures: listed, verified and stored from a folder, a zip, a tar, WebDataset tars; or refused by name."""

import json
import os
import re
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_folder import drawn, encoded, folder_params, small_files, write_folder, write_tar, write_zip

from matchnet.files import sha256_of
from pipeline.data.load.samples import load_samples
from pipeline.data.raw.download import download_dataset
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.make import shard_dataset
from pipeline.data.shards.manifest import Manifest
from pipeline.data.shards.reader import ShardReader
from pipeline.data.source_spec import FolderParams, WebdatasetParams
from pipeline.data.spec import PARTS, DatasetParams, ListSplit, RandomSplit

FILES = small_files()
CLASSES = [f"class {number}" for number in range(6)]


def made(tmp_path: Path, params: DatasetParams, name: str = "own", num_processes: int = 1) -> Manifest:
    download_dataset(name, params, tmp_path / "raw" / name)
    return shard_dataset(name, params, tmp_path / "raw" / name, tmp_path / "shards" / name, num_processes)


def refused(tmp_path: Path, params: DatasetParams, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        made(tmp_path, params)
    assert "\n" not in str(caught.value) and " at 0x" not in str(caught.value)
    assert not (tmp_path / "shards").exists() or not (tmp_path / "shards/own").exists()


def contents(folder: Path) -> dict[str, bytes]:
    with ShardReader(ShardFolder(folder)) as reader:
        return dict(zip(reader.index.key_R.to_pylist(), reader.read_many(range(len(reader.index))), strict=True))


WRITERS: dict[str, Callable] = {"folder": write_folder, "zip": write_zip, "tar": write_tar}


@pytest.mark.parametrize("kind", WRITERS)
def test_pictures_are_stored_alike_wherever_they_lie(tmp_path: Path, kind: str) -> None:
    """Under a common folder in the archives, as people make them; all six formats; the same bytes."""
    files = FILES if kind == "folder" else {f"./flowers/train/{name}": content for name, content in FILES.items()}
    origin = WRITERS[kind](tmp_path / f"origin.{kind}", files)
    manifest = made(tmp_path, folder_params(origin))
    assert [entry.name for entry in manifest.classes] == CLASSES and manifest.num_samples == 30
    assert manifest.oddities == {} and manifest.left_out == {}
    sizes = {part: len(names) for part, names in manifest.splits["random"].items()}
    assert sizes == {"train": 3, "valid": 1, "test": 2}
    stored = contents(tmp_path / "shards/own")
    assert set(stored) == {f"class {number}/{hand:02d}" for number in range(6) for hand in range(5)}
    dataset = load_samples(ShardFolder(tmp_path / "shards/own"), "random", PARTS, (3, 30, 30))
    assert dataset.store.samples.shape == (30, 3, 30, 30)
    reference = write_folder(tmp_path / "reference", FILES)
    made(tmp_path, folder_params(reference), "reference", num_processes=2 if kind == "zip" else 1)
    for path in (tmp_path / "shards/reference").glob("*.tar"):
        assert sha256_of(path) == sha256_of(tmp_path / "shards/own" / path.name)
    assert str(tmp_path) not in (tmp_path / "shards/own/dataset.json").read_text()


def test_png_keeps_every_pixel_and_jpg_keeps_the_bytes_of_jpegs(tmp_path: Path) -> None:
    write_folder(tmp_path / "own", FILES)
    made(tmp_path, folder_params(tmp_path / "own", shorter_side=None))
    stored = contents(tmp_path / "shards/own")
    assert stored["class 0/00"] != FILES["class 0/00.png"]  # deflated anew, the same for every version of zlib
    made(tmp_path, folder_params(tmp_path / "own", format="jpg", shorter_side=None), "jpg")
    as_jpg = contents(tmp_path / "shards/jpg")
    assert as_jpg["class 0/01"] == FILES["class 0/01.jpg"] and as_jpg["class 0/00"] != FILES["class 0/00.png"]
    assert load_samples(ShardFolder(tmp_path / "shards/jpg"), "random", PARTS, (1, 30, 30)).store.samples.shape[0] == 30
    with ShardReader(ShardFolder(tmp_path / "shards/own")) as reader:
        row = reader.index.key_R.to_pylist().index("class 0/00")
        (tmp_path / "one.png").write_bytes(reader.read(row))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "one.png")), np.asarray(drawn(0, 0)))


def test_what_is_mended_is_counted(tmp_path: Path) -> None:
    deep = Image.fromarray((np.arange(1200).reshape(30, 40) * 54).astype(np.uint16))
    ink = Image.merge("LA", [Image.new("L", (40, 30)), Image.fromarray(np.eye(30, 40, dtype=np.uint8) * 255)])
    exif = Image.Exif()
    exif[0x0112] = 6
    cut = encoded(drawn(1, 1), "JPEG")[:-2]
    odd = {"class 0/deep.png": encoded(deep), "class 0/ink.png": encoded(ink), "class 1/cut.jpeg": cut,
           "class 1/turned.jpg": encoded(drawn(1, 2), "JPEG", exif=exif), "class 1/labels.csv": b"a,b",
           "README.txt": b"hello", ".DS_Store": b"x", "class 1/._a.png": b"x", "__MACOSX/class 1/a.png": b"x"}
    write_folder(tmp_path / "own", FILES | odd)
    params = folder_params(tmp_path / "own", keep_damaged=True)
    manifest = made(tmp_path, params)
    assert manifest.oddities == {"grey of 16 bits scaled to 8": 1, "transparency laid on paper": 1, "damaged JPEG": 1,
                                 "EXIF rotation": 1, "files that are no pictures": 2}
    (tmp_path / "ink.png").write_bytes(contents(tmp_path / "shards/own")["class 0/ink"])
    assert (np.asarray(Image.open(tmp_path / "ink.png")) == 255 - np.eye(30, 40, dtype=np.uint8) * 255).all()
    refused(tmp_path / "again", folder_params(tmp_path / "own"), r"class 1/cut\.jpeg: not a whole JPEG \(.*\); delete "
            r"the picture, or write keep_damaged: true in datasets\.own\.folder, which keeps it as it decodes$")


def test_a_picture_more_makes_another_listing_and_a_changed_one_is_noticed(tmp_path: Path) -> None:
    own, listing = write_folder(tmp_path / "own", FILES), tmp_path / "raw/own/pictures.parquet"
    params = folder_params(own)
    download_dataset("own", params, tmp_path / "raw/own")
    first = sha256_of(listing)
    os.utime(own / "class 0/00.png", (1, 1))
    download_dataset("own", params, tmp_path / "raw/own")
    assert sha256_of(listing) == first, "times are no part of it"
    write_folder(own, {"class 0/more.png": encoded(drawn(0, 9))})
    download_dataset("own", params, tmp_path / "raw/own")
    assert sha256_of(listing) != first
    changed = bytearray(FILES["class 2/04.png"] if "class 2/04.png" in FILES else FILES["class 2/04.gif"])
    path = own / next(name for name in FILES if name.startswith("class 2/04"))
    path.write_bytes(bytes(changed[:-1]) + bytes([changed[-1] ^ 255]))
    with pytest.raises(ValueError, match=rf"{path}: changed since it was listed; run the download stage again"):
        shard_dataset("own", params, tmp_path / "raw/own", tmp_path / "out")
    path.unlink()
    with pytest.raises(ValueError, match=rf"{path}: not there any more; run the download stage again"):
        shard_dataset("own", params, tmp_path / "raw/own", tmp_path / "out")


def test_classes_with_few_pictures_are_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_folder(tmp_path / "own", FILES | {"few/a.png": encoded(drawn(7, 0)), "few/b.png": encoded(drawn(7, 1))})
    (tmp_path / "own/none").mkdir()
    manifest = made(tmp_path, folder_params(tmp_path / "own", min_pictures=3))
    assert manifest.left_out == {"few": 2, "none": 0}
    assert "own: left out: few (2 pictures of at least 3), none (0 pictures of at least 3)\n" in capsys.readouterr().err
    assert [entry.name for entry in manifest.classes] == CLASSES
    refused(tmp_path / "all", folder_params(tmp_path / "own", min_pictures=6),
            r"own: no class with min_pictures \(6\) or more, and at least two are told apart; write a lower")
    write_folder(tmp_path / "own", {f"star{number:02}/a.png": FILES["class 0/00.png"] for number in range(11)})
    made(tmp_path / "many", folder_params(tmp_path / "own", min_pictures=3))
    assert re.search(r"star00 \(1 picture of at least 3\), .*star07 \(1 picture of at least 3\) and 3 more\n",
                     capsys.readouterr().err)


def test_a_split_that_the_classes_cannot_fill_is_named(tmp_path: Path) -> None:
    params = replace(folder_params(write_folder(tmp_path / "own", FILES)),
                     splits={"random": RandomSplit(num_valid=5, num_test=5)})
    refused(tmp_path, params, r"^datasets\.own\.splits\.random: num_valid, num_test: 5 \+ 5 are more than the 6 "
            "classes; ask for fewer$")


def test_families_are_the_folders_of_classes_and_lists_are_named_by_path(tmp_path: Path) -> None:
    files = {f"{'Greek' if number < 3 else 'Hebrew'}/{name}": content for name, content in FILES.items()
             for number in [int(name[6])]}
    (tmp_path / "test.txt").write_text("# to test\nHebrew\n", encoding="utf-8-sig")
    params = replace(folder_params(write_folder(tmp_path / "own", files)), splits={
        "mine": ListSplit(test=str(tmp_path / "test.txt"), num_valid=0)})
    manifest = made(tmp_path, params)
    assert manifest.splits["mine"] == {"train": [f"Greek/class {n}" for n in range(3)], "valid": [],
                                      "test": [f"Hebrew/class {n}" for n in range(3, 6)]}
    gone = replace(params, splits={"mine": ListSplit(test="./nothing.txt", num_valid=0)})
    refused(tmp_path / "gone", gone, r"^datasets\.own\.splits\.mine: no list './nothing\.txt'; name one of .*, or the "
            "path of your own, with a")
    (tmp_path / "test.txt").write_text("Latin\n")
    refused(tmp_path / "stranger", params, r"test\.txt names 'Latin', no class or family of this dataset")


def one_class(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name.startswith("class 0/")}


BAD: dict[str, tuple[dict[str, bytes], str]] = {
    "no picture": ({"a/notes.txt": b"hello"}, r"own: no picture in it \(1 other files\); pictures lie in"),
    "one class": (one_class(FILES), r"own: one class, 'class 0', and at least two are told apart; give"),
    "no class": (FILES | {"a.png": FILES["class 0/00.png"]}, r"own/a\.png: a picture that lies in no class's "
                 r"folder; put it into one, such as class/a\.png"),
    "twice by case": (FILES | {"CLASS 0/x.png": FILES["class 0/00.png"]},
                      r"own: classes 'CLASS 0' and 'class 0' differ in how they are spelt alone"),
    "twice by accents": ({"\u00e9/a.png": FILES["class 0/00.png"], "e\u0301/a.png": FILES["class 0/00.png"]},
                         "differ in how they are spelt alone"),
    "a text called png": (FILES | {"class 1/x.png": b"hello, I am text"},
                          r"own/class 1/x\.png: called like a picture, but it begins with b'hello, I am ', and no "
                          r"picture does \(JPEG, .*\); save it again, or take it out"),
    "0 bytes": (FILES | {"class 1/x.JPG": b""}, r"class 1/x\.JPG: called like a picture, but it has 0 bytes"),
    "unreadable": (FILES | {"class 1/x.png": FILES["class 0/00.png"][:60]},
                   r"own/class 1/x\.png: not a whole PNG \(.*\); replace it with a whole copy, or leave it out$"),
    "20,000 x 20,000": (FILES | {"class 1/x.png": encoded(Image.new("1", (20_000, 20_000)))},
                        r"own/class 1/x\.png: a picture of 20,000 x 20,000 pixels, more than max_pixels "
                        r"\(120,000,000\); raise that"),
    "a class that is not seen": (FILES | {"\u200b/x.png": FILES["class 0/00.png"]},
                                 r"own/\u200b/x\.png: its class would be called '\\u200b'; use a name of letters"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_folders_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    files, message = BAD[kind]
    refused(tmp_path, folder_params(write_folder(tmp_path / "own", files)), message)


def test_empty_folders_missing_ones_and_class_folders_without_a_picture(tmp_path: Path) -> None:
    (tmp_path / "own/a/b").mkdir(parents=True)
    refused(tmp_path, folder_params(tmp_path / "own"), r"own: no picture in it; pictures lie in a folder")
    refused(tmp_path, folder_params(tmp_path / "gone"), r"gone: no such file or folder; name a folder, a zip or a tar")
    write_folder(tmp_path / "own", FILES)
    refused(tmp_path, folder_params(tmp_path / "own"), r"own/a: a class without a picture \(1 such\); put pictures "
            "there, remove it, or write min_pictures: 1, which leaves such classes out")
    with pytest.raises(ValueError, match=r"^folder\.path: '' is not possible: it names where the pictures lie; write"):
        DatasetParams(source="folder", splits={"all": RandomSplit(num_valid=0, num_test=1)})


def test_links_and_devices(tmp_path: Path) -> None:
    """Links to pictures and folders are followed; those that lead nowhere or back, and pipes, are refused."""
    write_folder(tmp_path / "elsewhere", FILES)
    own = tmp_path / "own"
    own.mkdir()
    for name in CLASSES:
        (own / name).symlink_to(tmp_path / "elsewhere" / name)
    assert made(tmp_path, folder_params(own)).num_samples == 30
    (own / "back").symlink_to(own)
    refused(tmp_path / "1", folder_params(own), "own/back: this link leads back to a folder that it is in; remove it")
    (own / "back").unlink()
    (own / "nowhere").symlink_to(tmp_path / "nothing")
    refused(tmp_path / "2", folder_params(own), "own/nowhere: a link to a file that is not there; remove it")
    (own / "nowhere").unlink()
    os.mkfifo(own / "pipe.png")
    refused(tmp_path / "3", folder_params(own), r"own/pipe\.png: neither a file nor a folder; remove it")


def test_odd_names_are_stored_under_names_that_a_tar_can_have(tmp_path: Path) -> None:
    png = encoded(drawn(0, 0))
    names = ["a.b.c.png", "a.jpg.png", "a_jpg.webp", "ünïcödé 'quotes' \"; rm -rf.png", "new\nline.png",
             "x" * 200 + ".png", "no extension", "same.png", "same.PNG", "日本語.png", "=1+2.png", "<script>.png"]
    files = {f"{class_name}/{name}": png for class_name in ("one.two", "long " * 40) for name in names}
    params = folder_params(write_folder(tmp_path / "own", files))
    made(tmp_path, replace(params, splits={"random": RandomSplit(num_valid=0, num_test=1)}))
    keys = list(contents(tmp_path / "shards/own"))
    assert len(keys) == len(set(keys)) == 2 * len(names)
    assert not any(re.search(r"[.\n<;'\"]", key) for key in keys)
    assert {"one_two/a_b_c", "one_two/a_jpg", "one_two/a_jpg~2", "one_two/same", "one_two/same~2", "one_two/日本語",
            "one_two/new_line", "one_two/=1+2"} <= set(keys)
    (tmp_path / "bad").mkdir()
    write_folder(tmp_path / "bad", FILES)
    with open(os.fsencode(tmp_path / "bad") + b"/class 0/\xff.png", "wb") as file:
        file.write(png)
    refused(tmp_path / "again", folder_params(tmp_path / "bad"), r"bad: b'class 0/\\xff\.png' is not a name in UTF-8")


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 2)])
def test_pictures_of_few_pixels_are_stored_as_they_are(tmp_path: Path, size: tuple[int, int]) -> None:
    write_folder(tmp_path / "own", {f"{name}/x.png": encoded(Image.new("L", size, 9)) for name in "abcd"})
    made(tmp_path, folder_params(tmp_path / "own"))
    assert (load_samples(ShardFolder(tmp_path / "shards/own"), "random", PARTS, (1, 28, 28)).store.samples == 9).all()


def test_archives_that_are_damaged(tmp_path: Path) -> None:
    for kind, message in (("zip", r"x\.zip.*(not a whole zip|begins with)"), ("tar", r"x\.tar: cut short .*; make")):
        path = WRITERS[kind](tmp_path / f"x.{kind}", FILES)
        path.write_bytes(path.read_bytes()[:-5000])
        refused(tmp_path / kind, folder_params(path), message)
    path = write_zip(tmp_path / "y.zip", FILES)
    content = bytearray(path.read_bytes())
    content[content.index(b"class 3/02") + 200] ^= 255
    path.write_bytes(content)
    refused(tmp_path / "crc", folder_params(path), r"y\.zip: 'class 3/0\d\.\w+': .*; take it out, or make the")
    (tmp_path / "z.tar.gz").write_bytes(b"\x1f\x8b\x08" + bytes(600))
    refused(tmp_path / "gz", folder_params(tmp_path / "z.tar.gz"), r"z\.tar\.gz: it begins with b'.*', and a folder, a "
            "zip or a tar that is not compressed is wanted; unpack it")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_cannot_be_read_in_pieces(tmp_path: Path, method: int) -> None:
    """Such a file of 300 bytes can unpack to any number of bytes at once."""
    path = write_zip(tmp_path / "x.zip", FILES)
    params = folder_params(path)
    download_dataset("own", params, tmp_path / "raw/own")
    path.unlink()
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    reason = f"it is compressed by method {method}, neither stored nor deflated"
    with pytest.raises(ValueError, match=rf"x\.zip: 'class \d/0\d\.\w+': {reason}; run the download stage again$"):
        shard_dataset("own", params, tmp_path / "raw/own", tmp_path / "shards/own")
    refused(tmp_path, params, rf"x\.zip: member 'class 0/00\.\w+': {reason}; unpack the zip and name the folder")


def test_a_zip_with_a_password(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", FILES)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    refused(tmp_path, folder_params(path), r"x\.zip: member 'class 0/00\.\w+': it is encrypted, and needs a password")


@pytest.mark.parametrize("member", ["notes.bin", "class 0/huge.png"])
def test_a_large_member_of_a_tar_takes_no_memory(tmp_path: Path, member: str) -> None:
    header = tarfile.TarInfo(member)
    header.size = 300 << 20
    whole = write_tar(tmp_path / "x.tar", FILES).read_bytes()
    with open(tmp_path / "x.tar", "wb") as file:
        file.write(header.tobuf() + (FILES["class 0/00.png"] if member.endswith(".png") else b""))
        file.seek(512 + header.size)
        file.write(whole)
    tracemalloc.start()
    if member == "notes.bin":
        download_dataset("own", folder_params(tmp_path / "x.tar"), tmp_path / "raw/own")
    else:
        with pytest.raises(ValueError, match=r"huge\.png': 314,572,800 bytes, and a picture has at most 268,435,456; "):
            download_dataset("own", folder_params(tmp_path / "x.tar"), tmp_path / "raw/own")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def samples(class_from: str, tar: int) -> dict[str, bytes]:
    """Ten samples of a tar, as people write them; keys begin anew in each."""
    files = {}
    for number in range(10):
        label, key = number % 5, f"{number:04d}"
        if class_from == "folder":
            key = f"./train/bird {label}/{key}"
        files[f"{key}.jpg"] = encoded(drawn(label, 10 * tar + number), "JPEG")
        if class_from == "cls":
            files[f"{key}.cls"] = str(label).encode()
        if class_from == "json":
            files[f"{key}.json"] = json.dumps({"label": f"bird {label}", "id": number}).encode()
    return files


def webdataset_params(path: Path, **changes: object) -> DatasetParams:
    return DatasetParams(source="webdataset", splits={"random": RandomSplit(num_valid=1, num_test=2)},
                         webdataset=WebdatasetParams(path=str(path), **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("class_from", ["cls", "json", "folder"])
def test_webdataset_tars_of_others(tmp_path: Path, class_from: str) -> None:
    (tmp_path / "own").mkdir()
    for tar in range(3):
        write_tar(tmp_path / f"own/{tar:05d}.tar", samples(class_from, tar))
    manifest = made(tmp_path, webdataset_params(tmp_path / "own", class_from=class_from))
    names = [str(n) if class_from == "cls" else f"bird {n}" for n in range(5)]
    assert [(entry.name, entry.num_samples) for entry in manifest.classes] == [(name, 6) for name in names]
    one = webdataset_params(tmp_path / "own/00001.tar", class_from=class_from, format="jpg")
    assert made(tmp_path, one, "one").num_samples == 10
    assert encoded(drawn(0, 10), "JPEG") in contents(tmp_path / "shards/one").values()


PNG = encoded(drawn(0, 0))
SAMPLES = {"a.png": PNG, "a.cls": b"1", "b.png": PNG, "b.cls": b"2", "c.png": PNG, "c.cls": b"3"}


@pytest.mark.parametrize("files, changes, message", [
    ({"x.txt": b"hi"} | SAMPLES, {}, r"own\.tar: 'x': a sample with no picture \(members txt\); take the sample out"),
    ({"a.png": PNG, "a.jpg": PNG, "a.cls": b"1"}, {}, r"'a': a sample with 2 pictures \(members png, jpg, cls\); write "
                                                     r"webdataset\.picture, the extension"),
    (SAMPLES, {"picture": "jpg"}, r"'a': a sample with no picture \(members png, cls\); write webdataset\.picture"),
    ({"a.png": PNG}, {}, r"'a': no member cls, where class_from looks for the class \(members png\); write another"),
    (SAMPLES, {"class_from": "folder"}, r"'a': its key has no folder; write class_from: cls or json"),
    ({"a.png": PNG, "a.json": b"{}"}, {"class_from": "json"}, r"'a': its member json does not say the class \('la"),
    ({"a.png": PNG, "a.json": b"nonsense"}, {"class_from": "json"}, r"'a': its member json does not say the class \(E"),
    ({"a.png": PNG, "a.json": b'{"label": [1]}'}, {"class_from": "json"}, r"'a': its class is \[1\]; a class is"),
    ({"a.png": PNG, "a.cls": b" "}, {}, r"'a': its class is ''; a class is a name or a whole number"),
    ({"a.png": b"hello", "a.cls": b"1"}, {}, r"own\.tar: 'a\.png': called like a picture, but it begins with b'hello'"),
    ({name: content for name, content in SAMPLES.items() if name[0] == "a"}, {}, "one class, '1', and at least two")])
def test_bad_webdatasets_are_refused_by_tar_and_key(tmp_path: Path, files: dict[str, bytes], changes: dict,
                                                     message: str) -> None:
    refused(tmp_path, webdataset_params(write_tar(tmp_path / "own.tar", files), **changes), message)


def test_no_tar(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    refused(tmp_path, webdataset_params(tmp_path / "own"), r"own: no \.tar in it; name a folder of WebDataset tars")
    refused(tmp_path, webdataset_params(tmp_path / "gone"), "gone: no such file or folder; name a tar, or a folder")


@pytest.mark.parametrize("field, value, message", [
    ("min_pictures", -1, "min_pictures: -1 is not possible"), ("shorter_side", 4, "shorter_side: 4 is not possible"),
    ("quality", 96, "quality: 96 is not possible"), ("central_crop", 1.5, r"central_crop: 1\.5 is not possible"),
    ("paper", 300, "paper: 300 is not possible: it is a grey value")])
def test_bad_parameters(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FolderParams(path="x", **{field: value})  # type: ignore[arg-type]


def test_central_crop_and_polarity_change_no_shard(tmp_path: Path) -> None:
    own = write_folder(tmp_path / "own", FILES)
    made(tmp_path, folder_params(own))
    before = {path: (path.stat().st_ino, sha256_of(path)) for path in (tmp_path / "shards/own").glob("*.tar")}
    params = replace(folder_params(own, central_crop=0.5), invert=True)
    made(tmp_path, params)
    assert {path: (path.stat().st_ino, sha256_of(path)) for path in (tmp_path / "shards/own").glob("*.tar")} == before
    loaded = load_samples(ShardFolder(tmp_path / "shards/own"), "random", PARTS, (1, 30, 30))
    assert loaded.store.samples.float().mean() < 120
    assert "path" not in params.shard_parameters()["folder"] and params.raw_parameters()["path"] == str(own)
