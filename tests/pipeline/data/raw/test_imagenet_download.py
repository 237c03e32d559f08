"""Archives behind an account: verified where they lie, linked, not read twice; refused with what to do."""

import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from small_imagenet import (
    ARCHIVE,
    PARAMS,
    SYNSETS,
    brought,
    small_archive,
    small_raw,
    take_for_real,
    tar_of_synsets,
    write_folder,
)
from small_omniglot import mirror

from pipeline.data.raw import fetch_file, linked_archives
from pipeline.data.raw.download import download_dataset, recorded_checksums
from pipeline.data.raw.fetch_file import DownloadError
from pipeline.data.raw.linked_archives import archive_path
from pipeline.data.raw.registry import TRAINING
from pipeline.data.shards.make import shard_dataset
from pipeline.data.source_spec import ImagenetParams
from pipeline.data.spec import DatasetParams, WholeSplit


def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Paths of the archives that are read whole from now on."""
    read: list[Path] = []
    read_whole = fetch_file.checksums_of

    def checksums_of(path: Path, kinds: set[str]) -> dict[str, str]:
        read.append(path)
        return read_whole(path, kinds)

    for module in (fetch_file, linked_archives):
        monkeypatch.setattr(module, "checksums_of", checksums_of)
    return read


def test_an_archive_on_this_machine_is_linked_and_lies_in_no_raw_folder(tmp_path: Path) -> None:
    raw = small_raw(tmp_path)
    link = archive_path(raw, ARCHIVE)
    assert link.is_symlink() and link.resolve() == (tmp_path / "archives" / ARCHIVE).resolve()
    assert sorted(path.name for path in raw.iterdir()) == ["SHA256SUMS", "images.parquet"]
    digest = hashlib.sha256((tmp_path / "archives" / ARCHIVE).read_bytes()).hexdigest()
    assert recorded_checksums(raw)[ARCHIVE] == f"sha256:{digest}"


def test_it_is_read_once_for_all_datasets_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = reads(monkeypatch)
    raw = small_raw(tmp_path)
    recorded = recorded_checksums(raw)
    brought(tmp_path, PARAMS)
    brought(tmp_path, PARAMS, name="another")
    archive = tmp_path / "archives" / ARCHIVE
    assert read == [archive] and recorded_checksums(raw) == recorded
    os.utime(archive, (1, 1))
    brought(tmp_path, PARAMS)
    assert read == [archive, archive]
    archive.write_bytes(archive.read_bytes()[:-512])  # another size, and not what SHA256SUMS says
    with pytest.raises(DownloadError, match="wrong checksum"):
        brought(tmp_path, PARAMS)


def test_a_link_names_the_archive_as_the_user_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a link on the way leads to may be there on this machine alone."""
    write_folder(tmp_path / "on this machine", {ARCHIVE: tar_of_synsets(small_archive())})
    (tmp_path / "archives").symlink_to(tmp_path / "on this machine")
    monkeypatch.chdir(tmp_path)
    for folder in ("archives", f"{tmp_path}/archives"):
        download_dataset("small", PARAMS, Path("raw/small"), folder=folder)
        assert os.readlink(archive_path(Path("raw/small"), ARCHIVE)) == f"{tmp_path}/archives/{ARCHIVE}"


def test_the_mirror_is_asked_where_no_folder_is_named_and_not_where_one_is(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mirror" / "imagenet", {ARCHIVE: tar_of_synsets(small_archive())})
    sums = (folder / "SHA256SUMS").read_text().replace("  ", "  ./imagenet/")
    (tmp_path / "mirror" / "SHA256SUMS").write_text(sums)
    download_dataset("small", PARAMS, tmp_path / "raw/small", str(tmp_path / "mirror"))
    assert archive_path(tmp_path / "raw/small", ARCHIVE).resolve() == (folder / ARCHIVE).resolve()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DownloadError, match=rf"{tmp_path}/empty/{ARCHIVE}: no such file\n"):
        download_dataset("small", PARAMS, tmp_path / "raw/other", str(tmp_path / "mirror"), str(tmp_path / "empty"))


def test_a_sample_whose_checksum_is_not_listed(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mirror" / "imagenet", {ARCHIVE: tar_of_synsets(small_archive())})
    sums = folder.with_name("SHA256SUMS")
    sums.write_text(f"{'0' * 64}  imagenet/another.tar\n")
    with pytest.raises(DownloadError, match=rf"{sums} has no line for imagenet/{ARCHIVE}, and a sample is checked by"):
        download_dataset("small", PARAMS, tmp_path / "raw", str(tmp_path / "mirror"))


def test_a_missing_archive_says_where_to_get_it_and_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"sample: true is made of .* set MATCHNET_MIRROR to one that has it"):
        download_dataset("photographs", PARAMS, tmp_path / "raw", None)
    with pytest.raises(DownloadError) as raised:
        download_dataset("photographs", replace(PARAMS, imagenet=ImagenetParams()), tmp_path / "raw", None)
    message = str(raised.value)
    assert f"photographs: no whole {ARCHIVE} (1,281,167 photographs of 1,000 synsets" in message
    assert "no folder is named, and no mirror is set" in message
    assert "https://image-net.org/download-images.php" in message and "account" in message
    assert "name that as cluster.licensed.imagenet in the root's params.yaml" in message


def test_an_archive_that_is_not_the_real_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "archives"
    folder.mkdir()
    (folder / ARCHIVE).write_bytes(b"part")
    read = reads(monkeypatch)
    with pytest.raises(DownloadError, match=r"4 bytes, the real one has 147,897,477,120: it came in part, or is anot"):
        brought(tmp_path, PARAMS)
    assert not read  # told by its size
    monkeypatch.setattr("pipeline.data.raw.download.archives_of", lambda params: (replace(TRAINING, size=4),))
    message = rf"wrong checksum: expected {TRAINING.checksum}, found md5:{hashlib.md5(b'part').hexdigest()} in 4 bytes"
    with pytest.raises(DownloadError, match=message):
        brought(tmp_path, PARAMS)
    assert not archive_path(tmp_path / "raw/small", ARCHIVE).exists()


def test_an_archive_with_the_digest_of_the_real_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = small_raw(tmp_path)
    (tmp_path / "archives/SHA256SUMS").unlink()
    take_for_real(tmp_path / "archives" / ARCHIVE, monkeypatch)
    recorded = recorded_checksums(raw)
    shutil.rmtree(tmp_path / "raw")
    assert recorded_checksums(brought(tmp_path, PARAMS)) == recorded


@pytest.mark.parametrize("of_a_mirror", [False, True])
def test_sums_of_one_s_own_do_not_stand_for_the_published_ones(
        tmp_path: Path, of_a_mirror: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `sha256sum * > SHA256SUMS` makes them of a bad copy."""
    folder = write_folder(tmp_path / "mirror/imagenet", {ARCHIVE: b"a bad copy"})
    sums = (folder / "SHA256SUMS").read_text()
    (tmp_path / "mirror/SHA256SUMS").write_text(sums.replace("  ", "  imagenet/"))
    places = {"mirror": str(tmp_path / "mirror")} if of_a_mirror else {"folder": str(folder)}
    real = replace(PARAMS, imagenet=ImagenetParams())
    message = r"10 bytes, the real one has 147,897,477,120: .*\n.* or write sample: true if it is known to be a part"
    with pytest.raises(DownloadError, match=message):
        download_dataset("real", real, tmp_path / "raw/real", **places)
    monkeypatch.setattr("pipeline.data.raw.download.archives_of", lambda params: (replace(TRAINING, size=10),))
    with pytest.raises(DownloadError, match=f"wrong checksum: expected {TRAINING.checksum}, found md5:"):
        download_dataset("real", real, tmp_path / "raw/real", **places)
    with pytest.raises(ValueError, match=f"{ARCHIVE}: cut short after its beginning"):  # a sample is taken as it is
        download_dataset("sample", PARAMS, tmp_path / "raw/sample", **places)


@pytest.mark.parametrize("line", ["nonsense", f"d41d8cd98f00b204e9800998ecf8427e  {ARCHIVE}"], ids=["a word", "an MD5"])
def test_a_line_that_is_no_sum(tmp_path: Path, line: str) -> None:
    folder = write_folder(tmp_path / "archives", {ARCHIVE: tar_of_synsets(small_archive())})
    (folder / "SHA256SUMS").write_text((folder / "SHA256SUMS").read_text() + f"{line}\n")
    message = rf"archives/SHA256SUMS: line 2 is '{line}', not 64 hex digits \(SHA-256\) and the name of a file; write"
    with pytest.raises(ValueError, match=message):
        brought(tmp_path, PARAMS)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a folder with a small archive."""
    write_folder(tmp_path / "served", {ARCHIVE: tar_of_synsets(small_archive())})
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    handler.log_message = lambda *args: None  # type: ignore[attr-defined]
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_archive_at_an_address_is_downloaded_once_for_all_datasets(
        tmp_path: Path, served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params, raw = PARAMS, Path("raw")  # relative, as a stage has it
    download_dataset("small", params, raw / "small", folder=served)
    (tmp_path / "served" / ARCHIVE).unlink()
    download_dataset("other", params, raw / "other", folder=served)
    links = {archive_path(raw / name, ARCHIVE).resolve() for name in ("small", "other")}
    (stored,) = links
    assert stored.parent.parent == (tmp_path / "raw/.archives").resolve() and stored.is_file()
    manifest = shard_dataset("other", params, raw / "other", tmp_path / "shards")
    assert {entry.name for entry in manifest.classes} == set(SYNSETS)


def test_a_download_is_read_once_and_not_repeated_if_it_was_cut_off_before_the_record(
        tmp_path: Path, served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read, raw = reads(monkeypatch), tmp_path / "raw/small"
    download_dataset("small", PARAMS, raw, folder=served)
    stored, recorded = archive_path(raw, ARCHIVE).resolve(), recorded_checksums(raw)
    assert read == [stored.with_name(f"{ARCHIVE}.part")]
    (tmp_path / "served" / ARCHIVE).unlink()
    (tmp_path / "raw/.archives/verified.json").unlink()
    download_dataset("small", PARAMS, raw, folder=served)
    assert read[1:] == [stored] and recorded_checksums(raw) == recorded
    os.utime(stored, (1, 1))
    download_dataset("small", PARAMS, raw, folder=served)
    assert read[1:] == [stored] * 2
    stored.write_bytes(b"broken")
    with pytest.raises(DownloadError, match="HTTP Error 404"):
        download_dataset("small", PARAMS, raw, folder=served)
    write_folder(tmp_path / "served", {ARCHIVE: tar_of_synsets(small_archive())})
    download_dataset("small", PARAMS, raw, folder=served)
    assert recorded_checksums(raw) == recorded


def test_a_disk_without_room_for_a_download_is_told_before_it(
        tmp_path: Path, served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (tmp_path / "served" / ARCHIVE).stat().st_size
    usage = shutil.disk_usage(tmp_path)._replace(free=size - 1)
    monkeypatch.setattr(fetch_file.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=rf"{size:,} bytes are to come, {size - 1:,} are free on the disk of"):
        download_dataset("small", PARAMS, tmp_path / "raw/small", folder=served)


def test_the_stand_in(tmp_path: Path) -> None:
    params = DatasetParams(source="imagenet", splits={"all": WholeSplit(part="train")}, shard_size_mib=4,
                           imagenet=ImagenetParams(sample=True, held_out=28))
    download_dataset("stand-in", params, tmp_path / "raw", mirror())
    manifest = shard_dataset("stand-in", params, tmp_path / "raw", tmp_path / "shards")
    assert (manifest.num_samples, len(manifest.classes), manifest.oddities) == (200 * 4, 200, {})
    with pytest.raises(DownloadError, match=r"[\d,]+ bytes, the real one has 147,897,477,120: it came in part, or is"):
        download_dataset("real", replace(params, imagenet=ImagenetParams()), tmp_path / "real", mirror())
