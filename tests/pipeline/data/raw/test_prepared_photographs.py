"""miniImageNet of prepared photographs: any form gives the same shards, bytes are kept, what is wrong is named."""

import gzip
import io
import pickle
import shutil
import struct
import tarfile
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_imagenet import (
    ARCHIVE,
    SYNSETS,
    encoded,
    picture,
    synset_images,
    take_for_real,
    tar_of_synsets,
    write_folder,
)
from small_omniglot import mirror

from pipeline.data.load.samples import load_samples
from pipeline.data.raw import download
from pipeline.data.raw.datasets import mini_imagenet
from pipeline.data.raw.download import download_dataset
from pipeline.data.raw.fetch_file import DownloadError, is_address
from pipeline.data.raw.readers import mini_photographs
from pipeline.data.raw.readers.mini_photographs import PHOTOGRAPHS, pack_photographs
from pipeline.data.raw.registry import PREPARED
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.make import shard_dataset
from pipeline.data.shards.manifest import MANIFEST, Manifest
from pipeline.data.shards.reader import ShardReader
from pipeline.data.source_spec import MiniImagenetParams
from pipeline.data.spec import PARTS, CutListSplit, DatasetParams, RandomSplit, TwoListsSplit
from pipeline.params.sections import LicensedParams

SIZE, COUNT = 84, 6
PREPARED_PARAMS = MiniImagenetParams(list="ravi", prepared=True)
PARAMS = DatasetParams(source="mini_imagenet", shard_size_mib=0.02, mini_imagenet=PREPARED_PARAMS,
                       splits={"drawn": RandomSplit(num_valid=1, num_test=1)})


def name_of(synset: str, number: int) -> str:
    return f"{synset}{number:08d}.jpg"


def photographs() -> dict[str, bytes]:
    """File name -> JPEG of 84 x 84, of three synsets."""
    return {name_of(synset, number): encoded(picture(f"{synset} {number}", (SIZE, SIZE)))
            for synset in SYNSETS for number in range(1, COUNT + 1)}


@pytest.fixture(autouse=True)
def small_counts(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "slow" not in request.keywords:
        monkeypatch.setattr(mini_imagenet, "NUM_CLASSES", len(SYNSETS))
        monkeypatch.setattr(mini_imagenet, "IMAGES_PER_CLASS", COUNT)


def with_held_out(held_out: int, **changes: Any) -> DatasetParams:
    return replace(PARAMS, mini_imagenet=replace(PREPARED_PARAMS, held_out=held_out, **changes))


def in_folders(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """As some copies have them: divided by number, not by class, with a list beside them."""
    folders = ("train", "val", "test")
    return {"train.csv": b"filename,label\n"} | {
        f"mini/{folders[int(name[9:17]) % 3]}/{name}": content for name, content in reversed(files.items())}


def write_form(place: Path, form: str, files: Mapping[str, bytes]) -> Path:
    """The files as a folder, a zip or a tar."""
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"copy.{form}"
    if form == "folder":
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    elif form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        kind = form.removeprefix("tar").removeprefix(".")
        with tarfile.open(path, f"w:{kind}") as tar:  # type: ignore[call-overload]
            for name, content in files.items():
                header = tarfile.TarInfo(name)
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
    return path


def made(place: Path, origin: Path, params: DatasetParams = PARAMS, name: str = "mini") -> Manifest:
    download_dataset(name, params, place / "raw" / name, folder=str(origin))
    return shard_dataset(name, params, place / "raw" / name, place / "shards" / name)


def stored(shards: Path) -> dict[str, bytes]:
    """Key -> bytes in the shards."""
    with ShardReader(ShardFolder(shards)) as reader:
        return dict(zip(reader.index.key_R.to_pylist(), reader.read_many(range(len(reader.index))), strict=True))


def refused(place: Path, files: Mapping[str, bytes], params: DatasetParams = PARAMS, form: str = "zip") -> str:
    with pytest.raises(ValueError) as refusal:
        made(place, write_form(place, form, files), params)
    return str(refusal.value)


# ---- what is made of them ----

def test_every_form_gives_the_same_shards_and_manifest(tmp_path: Path) -> None:
    made(tmp_path / "plain", write_form(tmp_path, "tar", photographs()))
    expected = {path.name: path.read_bytes() for path in (tmp_path / "plain/shards/mini").iterdir()}
    assert len(expected) > 4
    for form in ("tar.gz", "tar.xz", "zip", "folder"):
        made(tmp_path / form, write_form(tmp_path, form, in_folders(photographs())))
        assert {path.name: path.read_bytes() for path in (tmp_path / form / "shards/mini").iterdir()} == expected


def test_photographs_are_stored_as_the_bytes_they_are(tmp_path: Path) -> None:
    files = photographs()
    manifest = made(tmp_path, write_form(tmp_path, "zip", files))
    found = stored(tmp_path / "shards/mini")
    assert found == {f"{name[:9]}/{name.removesuffix('.jpg')}": content for name, content in files.items()}
    assert manifest.oddities == {} and {entry.num_samples for entry in manifest.classes} == {COUNT}
    images = load_samples(ShardFolder(tmp_path / "shards/mini"), "drawn", PARTS, (3, SIZE, SIZE))
    pixels = np.asarray(Image.open(io.BytesIO(files[name_of(SYNSETS[0], 1)]))).transpose(2, 0, 1)
    assert np.array_equal(images.store.samples[0].numpy(), pixels)


def test_the_archive_gives_the_same_classes_and_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And as many images of each, some held out. Of the files of Ravi and Larochelle's list each has a synset here."""
    of_photographs = made(tmp_path, write_form(tmp_path, "zip", photographs()), with_held_out(2))
    monkeypatch.setattr(mini_imagenet, "check_whole", lambda archive, listing: None)
    take_for_real(tmp_path / "mirror/imagenet" / ARCHIVE, monkeypatch)
    lists = {f"ravi_{part}.csv": ("class_name,image_name\n" + "".join(
        f"{synset},{name}\n" for name in synset_images(synset, COUNT))).encode()
        for synset, part in zip(SYNSETS, ("train", "val", "test"), strict=True)}
    sums = ""
    for folder, files in (("mini_imagenet", lists), ("imagenet", {ARCHIVE: tar_of_synsets(
            {synset: synset_images(synset, COUNT + 1) for synset in SYNSETS})})):
        sums += (write_folder(tmp_path / "mirror" / folder, files) / "SHA256SUMS").read_text().replace(
            "  ", f"  {folder}/")
    (tmp_path / "mirror/SHA256SUMS").write_text(sums)
    picked = replace(PARAMS, mini_imagenet=MiniImagenetParams(list="ravi", held_out=2))
    download_dataset("picked", picked, tmp_path / "raw/picked", str(tmp_path / "mirror"))
    of_archive = shard_dataset("picked", picked, tmp_path / "raw/picked", tmp_path / "shards/picked")
    assert of_archive.classes == of_photographs.classes and of_archive.splits == of_photographs.splits
    found = stored(tmp_path / "shards/picked")
    assert set(found) == {f"{synset}/{synset}_{number}" for synset in SYNSETS for number in range(1, COUNT - 1)}
    assert all(content.startswith(b"\x89PNG") for content in found.values())


def test_images_that_are_held_out_are_all_others(tmp_path: Path) -> None:
    """The last of each class by name."""
    origin = write_form(tmp_path, "folder", photographs())
    made(tmp_path, origin, with_held_out(2), "seen")
    made(tmp_path, origin, with_held_out(2, images="held_out"), "unseen")
    seen, unseen = (set(stored(tmp_path / "shards" / name)) for name in ("seen", "unseen"))
    assert unseen == {f"{synset}/{synset}{number:08d}" for synset in SYNSETS for number in (5, 6)}
    assert len(seen) == 12 and not seen & unseen


def test_more_held_out_than_there_are(tmp_path: Path) -> None:
    """Known as soon as they are listed."""
    origin = write_form(tmp_path, "zip", photographs())
    with pytest.raises(ValueError, match=rf"held_out: 6 of each class, but {SYNSETS[0]} has 6 images .*; hold out"):
        download_dataset("mini", with_held_out(COUNT), tmp_path / "raw/mini", folder=str(origin))


def test_several_datasets_are_made_of_one_packed_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the copy changes."""
    origin = write_form(tmp_path, "folder", photographs())
    made(tmp_path, origin)
    monkeypatch.setattr(download, "pack_photographs", lambda origin, target: pytest.fail("packed again"))
    made(tmp_path, origin, name="other")
    assert len(list((tmp_path / "raw/.archives").glob(f"*/{PHOTOGRAPHS}"))) == 3  # the tar, and a link a dataset
    monkeypatch.undo()
    monkeypatch.setattr(mini_imagenet, "NUM_CLASSES", 3)
    (origin / name_of(SYNSETS[0], 1)).unlink()
    with pytest.raises(ValueError, match=rf"copy.folder: 5 photographs of {SYNSETS[0]}"):
        made(tmp_path, origin, name="other")


def test_the_mirror_s_copy_is_verified_by_its_sums(tmp_path: Path) -> None:
    copy = write_form(tmp_path, "tar.xz", photographs()).read_bytes()
    write_folder(tmp_path / "mirror/mini_imagenet", {"images.tar.xz": copy})
    sums = tmp_path / "mirror/SHA256SUMS"
    sums.write_text((tmp_path / "mirror/mini_imagenet/SHA256SUMS").read_text().replace("  ", "  mini_imagenet/"))
    download_dataset("mini", PARAMS, tmp_path / "raw/mini", str(tmp_path / "mirror"))
    assert PHOTOGRAPHS in (tmp_path / "raw/mini/SHA256SUMS").read_text()
    sums.write_text("0" * 64 + "  mini_imagenet/images.tar.xz\n")
    with pytest.raises(DownloadError, match=r"images.tar.xz: wrong checksum: expected sha256:0+, found"):
        download_dataset("mini", PARAMS, tmp_path / "raw/mini", str(tmp_path / "mirror"))


# ---- what is odd, and counted ----

def test_grey_ones_and_twins_are_counted_and_kept(tmp_path: Path) -> None:
    """A grey JPEG, a grey one saved in colours, and two pairs with the same bytes: within a class and across."""
    files = photographs()
    files[name_of(SYNSETS[0], 1)] = encoded(picture("grey", (SIZE, SIZE), "L"))
    files[name_of(SYNSETS[0], 2)] = encoded(picture("grey too", (SIZE, SIZE), "L").convert("RGB"))
    files[name_of(SYNSETS[1], 2)] = files[name_of(SYNSETS[1], 1)]
    files[name_of(SYNSETS[2], 6)] = files[name_of(SYNSETS[1], 6)]
    manifest = made(tmp_path, write_form(tmp_path, "zip", files))
    assert manifest.oddities == {"grey": 2, "same bytes as another": 2}
    assert manifest.num_samples == 18 and set(stored(tmp_path / "shards/mini").values()) == set(files.values())
    images = load_samples(ShardFolder(tmp_path / "shards/mini"), "drawn", PARTS, (3, SIZE, SIZE))
    assert images.store.samples.shape == (18, 3, SIZE, SIZE)


def test_a_damaged_one_is_kept_only_if_asked(tmp_path: Path) -> None:
    files = photographs()
    whole = files[name_of(SYNSETS[0], 3)]
    files[name_of(SYNSETS[0], 3)] = whole[:len(whole) // 2] + b"\xff\xd9"
    message = refused(tmp_path / "refused", files)
    assert f"{name_of(SYNSETS[0], 3)}@" in message and "not a whole JPEG" in message
    assert message.endswith("take another copy, or write keep_damaged: true, which keeps what can be decoded at all")
    params = replace(PARAMS, mini_imagenet=replace(PREPARED_PARAMS, keep_damaged=True))
    assert made(tmp_path, write_form(tmp_path, "zip", files), params).oddities == {"damaged JPEG": 1}


# ---- what is refused ----

@pytest.mark.parametrize("form", ["tar.xz", "folder"])
def test_a_class_with_one_photograph_too_few(tmp_path: Path, form: str) -> None:
    files = photographs()
    del files[name_of(SYNSETS[1], 4)]
    message = refused(tmp_path, files, form=form)
    assert message == (f"{tmp_path}/copy.{form}: 5 photographs of {SYNSETS[1]} (1 such of 3 synsets), expected 3 "
                       "synsets x 6; take a whole copy, or write mini_imagenet: {sample: true} if it is known to be a "
                       "part")
    sample = replace(PARAMS, mini_imagenet=replace(PREPARED_PARAMS, sample=True))
    assert made(tmp_path / "sample", tmp_path / f"copy.{form}", sample).num_samples == 17


def test_a_synset_too_few(tmp_path: Path) -> None:
    files = {name: content for name, content in photographs().items() if not name.startswith(SYNSETS[0])}
    assert "copy.zip: 2 synsets, expected 3 synsets x 6; take a whole copy" in refused(tmp_path, files)


def test_a_photograph_of_another_size(tmp_path: Path) -> None:
    files = photographs()
    files[name_of(SYNSETS[0], 2)] = encoded(picture("wide", (96, 84)))
    message = refused(tmp_path, files)
    assert f"{name_of(SYNSETS[0], 2)}@" in message
    assert "96 x 84 pixels, not 84 x 84; if all photographs are of another size, write it as mini_ima" in message


@pytest.mark.parametrize("content", [pickle.dumps({"image_data": []}), b""], ids=["by its bytes", "by its name"])
def test_a_pickle_is_refused_unread(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / ("mini-imagenet-cache-train" + (".data" if content else ".pkl"))
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cache-train.*: a pickle is refused: loading one runs whatever code is in "
                                         r"it, .*; take the JPEGs \(n0153282900000005.jpg, ...\), as a tar, a zip or"):
        made(tmp_path, path)


@pytest.mark.parametrize("form", ["zip", "tar", "folder"])
def test_a_copy_of_nothing_but_pickles(tmp_path: Path, form: str) -> None:
    message = refused(tmp_path, {"cache/train.pkl": b"\x80\3", "cache/readme.txt": b""}, form=form)
    assert f"copy.{form}: cache/train.pkl: a pickle is refused" in message


@pytest.mark.parametrize(("files", "message"), [
    ({"readme.txt": b""}, "copy.zip: no photograph of miniImageNet in it; they are called n0153282900000005.jpg"),
    ({"a/n01440764_10026.JPEG": b"."}, "copy.zip: a/n01440764_10026.JPEG is not called like n0153282900000005.jpg"),
    ({"a/n0144076400000001.jpg": b".", "b/n0144076400000001.jpg": b"."},
     "copy.zip: b/n0144076400000001.jpg is there twice, in two folders; name a folder that has each"),
    ({"n0144076400000001.jpg": bytes(5 << 20)}, "n0144076400000001.jpg has 5,242,880 bytes, more than any photograph"),
], ids=["nothing", "other names", "twice", "huge"])
def test_a_copy_of_something_else(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    assert message in refused(tmp_path, files)


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    files = photographs()
    made(tmp_path, write_form(tmp_path, "zip", files | {f"__MACOSX/._{name}": b"notes" for name in files}))
    assert len(stored(tmp_path / "shards/mini")) == len(files)


@pytest.mark.parametrize("form", ["tar.gz", "tar.xz", "zip"])
def test_an_archive_that_is_cut_short_leaves_nothing(tmp_path: Path, form: str) -> None:
    path = write_form(tmp_path, form, photographs())
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r"copy.*: not a whole tar \(plain, gz, xz\) or zip .*; take another copy, or"):
        pack_photographs(path, tmp_path / "out" / PHOTOGRAPHS)
    assert list((tmp_path / "out").iterdir()) == []


def take_for_locked(path: Path) -> None:
    """Set the bit of the first member of a zip that says that it is encrypted."""
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_STORED],
                         ids=["bzip2", "lzma", "locked"])
def test_a_zip_that_cannot_be_read_in_pieces(tmp_path: Path, method: int) -> None:
    name = name_of(SYNSETS[0], 1)
    with zipfile.ZipFile(tmp_path / "copy.zip", "w", method) as archive:
        archive.writestr(name, b"x")
    if method == zipfile.ZIP_STORED:
        take_for_locked(tmp_path / "copy.zip")
    reason = "it is encrypted, and needs a password" if method == zipfile.ZIP_STORED else \
        f"it is compressed by method {method}, neither stored nor deflated"
    with pytest.raises(ValueError) as refusal:
        pack_photographs(tmp_path / "copy.zip", tmp_path / "out" / PHOTOGRAPHS)
    assert str(refusal.value) == (f"{tmp_path}/copy.zip: member '{name}': {reason}; take another copy, or unpack it "
                                  "and name the folder")


def lying_zip(path: Path) -> None:
    """A photograph that says in both headers that it has 500 bytes, and holds 60 MB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(name_of(SYNSETS[0], 1), bytes(60_000_003))
    content = path.read_bytes()
    assert content.count(struct.pack("<I", 60_000_003)) == 2
    path.write_bytes(content.replace(struct.pack("<I", 60_000_003), struct.pack("<I", 500)))


def tar_with(path: Path, *headers: tuple[bytes, str, int]) -> None:
    """A tar.gz of headers of a type, with a name, before so many empty bytes."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        for kind, name, size in headers:
            header = tarfile.TarInfo(name)
            header.type, header.size = kind, size
            file.write(header.tobuf() + bytes(-(-size // 512) * 512))
        file.write(bytes(1024))


@pytest.mark.parametrize(("write", "message"), [
    (lying_zip, "Bad CRC-32 for file"),
    (lambda path: tar_with(path, (tarfile.XHDTYPE, "x", 60_000_000)), "headers of 60,000,000 bytes, more than 65,536"),
    (lambda path: tar_with(path, (tarfile.XGLTYPE, "g", 60_000_000)), "headers of 60,000,000 bytes, more than 65,536"),
    (lambda path: tar_with(path, (tarfile.GNUTYPE_LONGNAME, "L", 60_000_000)), "headers of 60,000,000 bytes"),
    (lambda path: tar_with(path, (tarfile.GNUTYPE_SPARSE, "holes.jpg", 60_000_000)), "'holes.jpg' is a sparse file"),
], ids=["zip", "pax", "global", "long name", "sparse"])
def test_a_copy_that_unpacks_to_more_than_it_says_takes_no_memory(
        tmp_path: Path, write: Callable[[Path], None], message: str) -> None:
    write(tmp_path / "copy")
    tracemalloc.start()
    with pytest.raises(ValueError, match=rf"copy: not a whole tar \(plain, gz, xz\) or zip \({message}.*; take an"):
        pack_photographs(tmp_path / "copy", tmp_path / "out" / PHOTOGRAPHS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mini_photographs.tempfile, "TemporaryFile", lambda dir: open("/dev/full", "w+b"))
    origin = write_form(tmp_path, "zip", photographs())
    with pytest.raises(OSError) as raised:
        pack_photographs(origin, tmp_path / "out" / PHOTOGRAPHS)
    assert str(raised.value) == f"[Errno 28] No space left on device: '{tmp_path}/out'"


def test_no_copy_at_all(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"(?s)mini: no miniImageNet's .*nothing is named, and no mirror is set.*"
                                            r"as cluster.licensed.mini_imagenet .* or write prepared: false"):
        download_dataset("mini", PARAMS, tmp_path / "raw")
    with pytest.raises(DownloadError, match=r"nowhere\.zip: no such file or folder"):
        download_dataset("mini", PARAMS, tmp_path / "raw", folder=str(tmp_path / "nowhere.zip"))


def test_what_the_parameters_say() -> None:
    with pytest.raises(ValueError, match="list: 'vinyals' is not possible: prepared photographs are of the classes "):
        MiniImagenetParams(prepared=True)
    with pytest.raises(ValueError, match="held_out: 0 is not possible: images: held_out stores that many of each cl"):
        MiniImagenetParams(images="held_out")
    licensed = LicensedParams(imagenet="/ilsvrc", mini_imagenet="/photographs.zip")
    of_archive = replace(PARAMS, mini_imagenet=MiniImagenetParams(list="ravi"))
    assert [licensed.folder_of(params) for params in (PARAMS, of_archive)] == ["/photographs.zip", "/ilsvrc"]
    assert not PARAMS.stands_in


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_real_photographs(tmp_path: Path) -> None:
    """The splits that published figures are on, and the paper's lists cut to these classes."""
    if is_address(mirror()) or not Path(mirror(), PREPARED.path).is_file():
        pytest.skip("no photographs in the mirror")
    params = replace(PARAMS, shard_size_mib=256, splits={
        "ravi": TwoListsSplit(valid="ravi_valid.txt", test="ravi_test.txt"),
        "rand": CutListSplit(test="imagenet_rand.txt", num_valid=16),
        "dogs": CutListSplit(test="imagenet_dogs.txt", num_valid=16)})
    download_dataset("mini", params, tmp_path / "raw/mini", mirror())
    shard_dataset("mini", params, tmp_path / "raw/mini", tmp_path / "shards/mini")
    manifest = ShardFolder(tmp_path / "shards/mini").manifest
    assert manifest.num_samples == 60_000 and {entry.num_samples for entry in manifest.classes} == {600}
    assert manifest.oddities == {"grey": 944, "same bytes as another": 8}
    sizes = {name: tuple(map(len, split.values())) for name, split in manifest.splits.items()}
    assert sizes == {"ravi": (64, 16, 20), "rand": (72, 16, 12), "dogs": (71, 16, 13)}
    content = next(iter(stored(tmp_path / "shards/mini").values()))
    assert Image.open(io.BytesIO(content)).size == (84, 84) and (tmp_path / "shards/mini" / MANIFEST).is_file()
    shutil.rmtree(tmp_path / "raw")
    assert Counter(key[:9] for key in stored(tmp_path / "shards/mini")).total() == 60_000
