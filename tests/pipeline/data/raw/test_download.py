"""Downloads from a real server on this machine that knows ranges, cuts connections and sends wrong bytes."""

import base64
import hashlib
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from small_omniglot import COUNTS, PARAMS, members_of, mirror, write_zip

from pipeline.data.raw import download, fetch_file
from pipeline.data.raw.datasets import omniglot
from pipeline.data.raw.download import download_dataset, read_checksums, recorded_checksums, require_downloaded
from pipeline.data.raw.fetch_file import DownloadError
from pipeline.data.raw.linked_archives import link_archive
from pipeline.data.raw.registry import SOURCES, TRAINING, RawFile
from pipeline.data.shards.make import shard_dataset

CONTENT = bytes(range(256)) * 4000
CHECKSUM = "md5:" + hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `files`; `cuts` connections end half-way; `ranges`: does it know Range; `statuses` go first."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/file": CONTENT}
        self.cuts, self.ranges = 0, True
        self.statuses: list[int] = []
        self.asked: list[tuple[str, str | None]] = []
        self.credentials: list[str | None] = []
        self.said: bytes = b""  # instead of HTTP
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append((self.path, wanted))
        server.credentials.append(self.headers.get("Authorization"))
        if server.said:
            self.wfile.write(server.said)
            return
        if server.statuses or self.path not in server.files:
            self.send_error(server.statuses.pop(0) if server.statuses else 404)
            return
        content = server.files[self.path]
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = (start + len(content)) // 2 if server.cuts else len(content)
        server.cuts -= bool(server.cuts)
        self.wfile.write(content[start:end])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetch_file, "FIRST_PAUSE_SECONDS", 0.01)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_whole_file(server: Server, tmp_path: Path) -> None:
    fetch_file.fetch_file(f"{server.address}/file", tmp_path / "file", CHECKSUM)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_connections_that_are_cut_go_on_where_they_ended(server: Server, tmp_path: Path) -> None:
    server.cuts = 2
    fetch_file.fetch_file(f"{server.address}/file", tmp_path / "file", CHECKSUM)
    assert (tmp_path / "file").read_bytes() == CONTENT
    half, three_quarters = len(CONTENT) // 2, len(CONTENT) * 3 // 4
    assert [wanted for _, wanted in server.asked] == [None, f"bytes={half}-", f"bytes={three_quarters}-"]


def test_a_later_run_goes_on_with_what_has_come(server: Server, tmp_path: Path) -> None:
    server.cuts = fetch_file.ATTEMPTS
    message = rf"/file: gave up after {fetch_file.ATTEMPTS} attempts: .* what came is kept in .*file\.part: run it"
    with pytest.raises(DownloadError, match=message):
        fetch_file.fetch_file(f"{server.address}/file", tmp_path / "file", CHECKSUM)
    assert not (tmp_path / "file").exists()
    have = (tmp_path / "file.part").stat().st_size
    fetch_file.fetch_file(f"{server.address}/file", tmp_path / "file", CHECKSUM)
    assert server.asked[-1] == ("/file", f"bytes={have}-")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_that_ignores_ranges(server: Server, tmp_path: Path) -> None:
    server.cuts, server.ranges = 1, False
    fetch_file.fetch_file(f"{server.address}/file", tmp_path / "file", CHECKSUM)
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"other", CONTENT, CONTENT + b"more"], ids=["other", "all", "longer"])
def test_a_part_that_is_not_a_beginning(server: Server, tmp_path: Path, part: bytes) -> None:
    (tmp_path / "file.part").write_bytes(part)
    fetch_file.fetch_file(f"{server.address}/file", tmp_path / "file", CHECKSUM)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_wrong_bytes_replace_nothing(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"good")
    server.files["/file"] = CONTENT[:-1] + b"x"
    found = hashlib.md5(server.files["/file"]).hexdigest()
    message = f"wrong checksum: expected {CHECKSUM}, found md5:{found} in 1,024,000 bytes; nothing was"
    with pytest.raises(DownloadError, match=message):
        fetch_file.fetch_file(f"{server.address}/file", tmp_path / "file", CHECKSUM)
    assert (tmp_path / "file").read_bytes() == b"good"
    assert not (tmp_path / "file.part").exists()


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    fetch_file.fetch_file(f"{server.address}/file", tmp_path / "file", CHECKSUM)
    assert len(server.asked) == 3
    with pytest.raises(DownloadError, match="/nothing: HTTPError: HTTP Error 404: Not Found; check"):
        fetch_file.fetch_file(f"{server.address}/nothing", tmp_path / "nothing", CHECKSUM)
    assert len(server.asked) == 4


def test_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_file, "FIRST_PAUSE_SECONDS", 0.01)
    with pytest.raises(DownloadError, match=r"gave up after 4 attempts: URLError: .* refused.*; nothing came"):
        fetch_file.fetch_file("http://127.0.0.1:9/file", tmp_path / "file", CHECKSUM)


NOT_AN_ADDRESS = "not an address: between // and the next / stands a host, such as mirror.example.org, or a host and "


@pytest.mark.parametrize("place", ["http://127.0.0.1:many/file", "http://127.0.0.1:99999/file", "http://:80/file",
                                   "http://[::1/file", "http://the host/file", "http://ann:pass/word@host/file"])
def test_what_is_no_address_is_refused_at_once_and_not_shown(tmp_path: Path, place: str) -> None:
    with pytest.raises(DownloadError) as raised:
        fetch_file.fetch_file(place, tmp_path / "file", CHECKSUM)
    assert str(raised.value).startswith(f"http://...: {NOT_AN_ADDRESS}")


@pytest.mark.parametrize("place", ["s3://key:se/cret@bucket/m", "FTP://ann:secret@host/m", "file:///secret"])
def test_another_scheme_is_refused_and_its_address_not_shown(
        tmp_path: Path, capfd: pytest.CaptureFixture[str], place: str) -> None:
    calls = (lambda: download_dataset("small", PARAMS, tmp_path / "raw", mirror=place),
             lambda: download_dataset("small", PARAMS, tmp_path / "raw", folder=place),
             lambda: fetch_file.fetch_file(place, tmp_path / "file", CHECKSUM),
             lambda: link_archive(TRAINING, place, CHECKSUM, tmp_path / "raw"))
    for call in calls:
        with pytest.raises(DownloadError) as raised:
            call()
        scheme = place.partition(":")[0]
        assert str(raised.value).startswith(f"{scheme}://...: files come from a folder, or from an address that begins")
        assert "cret" not in capfd.readouterr().err + str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["copied", "downloaded", "an archive"])
def test_a_full_disk_is_named(server: Server, tmp_path: Path, how: str) -> None:
    (tmp_path / "origin").write_bytes(CONTENT)
    target = tmp_path / "raw/file"
    if how == "an archive":
        target = tmp_path / ".archives" / CHECKSUM.removeprefix("md5:") / TRAINING.name
    part = target.with_name(target.name + ".part")
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    with pytest.raises(OSError) as raised:
        if how == "an archive":
            link_archive(TRAINING, f"{server.address}/file", CHECKSUM, tmp_path / "raw")
        else:
            origin = f"{server.address}/file" if how == "downloaded" else str(tmp_path / "origin")
            fetch_file.fetch_file(origin, target, CHECKSUM)
    assert str(raised.value) == f"[Errno 28] No space left on device: '{part}'"


def test_an_address_with_a_space(server: Server, tmp_path: Path) -> None:
    server.files["/our%20mirror/file"] = CONTENT
    fetch_file.fetch_file(f"{server.address}/our mirror/file", tmp_path / "file", CHECKSUM)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_that_speaks_no_http_is_asked_once(server: Server, tmp_path: Path) -> None:
    server.said = b"SSH-2.0-OpenSSH_9.9\x1b[31m\r\n"
    with pytest.raises(DownloadError, match=r"/file: BadStatusLine: SSH-2.0-OpenSSH_9.9�\[31m; check the address$"):
        fetch_file.fetch_file(f"{server.address}/file", tmp_path / "file", CHECKSUM)
    assert len(server.asked) == 1


def test_a_file_without_an_end_is_given_up(server: Server, tmp_path: Path) -> None:
    server.said = b"HTTP/1.0 200 OK\r\n\r\n" + bytes(3 << 20)
    with pytest.raises(DownloadError, match="/file: more than the 1,000,000 bytes that this file can have, so it is"):
        fetch_file.fetch_file(f"{server.address}/file", tmp_path / "file", CHECKSUM, most=1_000_000)
    server.said = b"HTTP/1.0 200 OK\r\nContent-Length: 1000000000000000\r\n\r\n"
    with pytest.raises(DownloadError, match="/file: more than the 1,000,000 bytes that this file can have, so it is"):
        fetch_file.fetch_file(f"{server.address}/file", tmp_path / "file", CHECKSUM, most=1_000_000)
    assert list(tmp_path.iterdir()) == []


def test_a_length_that_is_no_number_is_left_to_the_checksum(server: Server, tmp_path: Path) -> None:
    server.said = b"HTTP/1.0 200 OK\r\nContent-Length: many\r\n\r\n" + CONTENT
    fetch_file.fetch_file(f"{server.address}/file", tmp_path / "file", CHECKSUM)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_credentials_are_used_for_their_host_alone_and_never_shown(
        server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = server.address.replace("//", "//ann:s%40cret@") + "/file"
    server.cuts = 1
    fetch_file.fetch_file(place, tmp_path / "file", CHECKSUM)
    assert server.credentials == ["Basic " + base64.b64encode(b"ann:s@cret").decode()] * 2
    server.said = f"HTTP/1.0 302 Found\r\nLocation: http://localhost:{server.server_port}/file\r\n\r\n".encode()
    server.credentials.clear()
    with pytest.raises(DownloadError) as raised:
        fetch_file.fetch_file(place, tmp_path / "file", CHECKSUM)
    assert server.credentials[0] and set(server.credentials[1:]) == {None}
    shown = capfd.readouterr().err + str(raised.value)
    assert f"{server.address}/file: " in shown and "cret" not in shown and "ann" not in shown


@pytest.fixture
def mirror_folder(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror of a small Omniglot; the public addresses are the server's, which has nothing at first."""
    monkeypatch.setattr(omniglot, "CHARACTERS", COUNTS)
    folder = tmp_path / "mirror"
    (folder / "omniglot").mkdir(parents=True)
    sums = ""
    for archive in COUNTS:
        path = folder / "omniglot" / archive
        write_zip(path, members_of(archive))
        sums += f"{hashlib.sha256(path.read_bytes()).hexdigest()}  ./omniglot/{archive}\n"
    (folder / "SHA256SUMS").write_text(sums)
    monkeypatch.setitem(SOURCES, "omniglot", tuple(public_file(server, archive) for archive in COUNTS))
    return folder


def public_file(server: Server, archive: str, checksum: str = "md5:of another packing") -> RawFile:
    url = f"{server.address}/public/{archive}"
    return RawFile(f"omniglot/{archive}", (url,), 1, checksum, "MIT", "small")


def serve(server: Server, folder: Path) -> None:
    files = (path for path in folder.rglob("*") if path.is_file())
    server.files |= {f"/{path.relative_to(folder)}": path.read_bytes() for path in files}


def test_a_folder_as_mirror_is_verified_by_its_own_sums(
        mirror_folder: Path, tmp_path: Path, server: Server) -> None:
    raw = tmp_path / "raw"
    download_dataset("small", PARAMS, raw, str(mirror_folder))
    for archive in COUNTS:
        assert (raw / archive).read_bytes() == (mirror_folder / "omniglot" / archive).read_bytes()
    expected = read_checksums((mirror_folder / "SHA256SUMS").read_text())
    assert {f"omniglot/{name}": found for name, found in recorded_checksums(raw).items()} == expected
    assert server.asked == []


def pid_of_a_dead_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_what_a_killed_process_was_writing_is_removed_and_never_recorded(mirror_folder: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw/small"
    download_dataset("small", PARAMS, raw, str(mirror_folder))
    record = (raw / "SHA256SUMS").read_text()
    folders = (raw, raw.parent / ".archives", raw.parent / ".archives/0123")
    folders[-1].mkdir(parents=True)
    for folder in folders:
        (folder / f".drawn.zip.{pid_of_a_dead_process()}.tmp").write_bytes(b"half")
        (folder / f".drawn.zip.{os.getpid()}.tmp").write_bytes(b"half, in a container where numbers come again")
        (folder / f".drawn.zip.{os.getppid()}.tmp").write_bytes(b"another process writes it")
    download_dataset("small", PARAMS, raw, str(mirror_folder))
    for folder in folders:
        assert [path.name for path in folder.glob(".*.tmp")] == [f".drawn.zip.{os.getppid()}.tmp"]
    assert (raw / "SHA256SUMS").read_text() == record
    shard_dataset("small", PARAMS, raw, tmp_path / "shards/small")  # refuses a raw file without a line


def test_raw_files_of_which_the_record_has_no_line_are_not_sharded(mirror_folder: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw/small"
    with pytest.raises(ValueError, match=rf"^{raw}/SHA256SUMS: not there, or empty: .*; run `python -m stages.download "
                                         "demo/small` first$"):
        require_downloaded("demo/small", raw)
    download_dataset("small", PARAMS, raw, str(mirror_folder))
    require_downloaded("demo/small", raw)
    record = raw / "SHA256SUMS"
    record.write_text(record.read_text().splitlines(keepends=True)[0])
    with pytest.raises(ValueError, match=rf"^{record}: no line for images_evaluation.zip, so nobody has verified that "
                                         "file; run the download stage of small again$"):
        shard_dataset("small", PARAMS, raw, tmp_path / "shards/small")
    assert not (tmp_path / "shards").exists()


@pytest.mark.parametrize("scheme", ["http", "HTTP", "Http"])
def test_an_address_as_mirror(mirror_folder: Path, tmp_path: Path, server: Server, scheme: str) -> None:
    serve(server, mirror_folder)
    download_dataset("small", PARAMS, tmp_path / "raw", server.address.replace("http", scheme) + "/")
    wanted = {"/SHA256SUMS", *(f"/omniglot/{archive}" for archive in COUNTS)}
    assert {path for path, _ in server.asked} == wanted


@pytest.mark.parametrize(("answer", "reason"), [
    (b"HTTP/1.0 200 OK\r\nContent-Length: 9000\r\n\r\n" + b"0" * 40, "gave up after 4 attempts: .*after 40 of 9,000"),
    (b"HTTP/1.0 200 OK\r\n\r\n" + b"0" * 40, "line 1 is '0000.*', not 64 hex digits"),
    (b"HTTP/1.0 200 OK\r\n\r\n\xff\xfe", "byte 1 is not UTF-8, so it is no list of checksums"),
    (b"220 mail.example.org ESMTP\r\n", "BadStatusLine: 220 mail.example.org ESMTP")],
    ids=["cut", "half a line", "bytes", "no HTTP"])
def test_a_bad_mirror_is_said_in_a_line_and_the_public_address_is_asked(
        mirror_folder: Path, tmp_path: Path, server: Server, capfd: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch, answer: bytes, reason: str) -> None:
    public = [mirror_folder / "omniglot" / archive for archive in COUNTS]
    server.files |= {f"/public/{path.name}": path.read_bytes() for path in public}
    monkeypatch.setitem(SOURCES, "omniglot", tuple(
        public_file(server, path.name, fetch_file.checksum_of(path, "md5")) for path in public))
    bad = Server()
    bad.said = answer
    thread = threading.Thread(target=bad.serve_forever, args=(0.01,))
    thread.start()
    try:
        download_dataset("small", PARAMS, tmp_path / "raw", bad.address.replace("//", "//ann:secret@"))
    finally:
        bad.shutdown()
        thread.join()
        bad.server_close()
    lines = capfd.readouterr().err.splitlines()
    assert sum(re.search(rf"^{bad.address}/SHA256SUMS: {reason}.*; its files are checked against the public checksums$",
                         line) is not None for line in lines) == 1
    assert "secret" not in "".join(lines) and "Traceback" not in "".join(lines)
    assert {path.name for path in public} < {path.name for path in (tmp_path / "raw").iterdir()}


def test_the_mark_of_windows_editors_in_a_list_of_checksums(mirror_folder: Path, tmp_path: Path) -> None:
    sums = mirror_folder / "SHA256SUMS"
    sums.write_text(sums.read_text(), encoding="utf-8-sig")
    download_dataset("small", PARAMS, tmp_path / "raw", str(mirror_folder))


def test_whole_files_are_not_fetched_again_and_broken_ones_are(
        mirror_folder: Path, tmp_path: Path, server: Server) -> None:
    serve(server, mirror_folder)
    raw = tmp_path / "raw"
    download_dataset("small", PARAMS, raw, server.address)
    server.asked.clear()
    download_dataset("small", PARAMS, raw, None)  # whole by the record of the first run
    assert server.asked == []
    (raw / "images_background.zip").write_bytes(b"broken")
    download_dataset("small", PARAMS, raw, server.address)
    assert [path for path, _ in server.asked] == ["/SHA256SUMS", "/omniglot/images_background.zip"]


def test_a_mirror_with_wrong_bytes_and_no_public_file(
        mirror_folder: Path, tmp_path: Path, server: Server) -> None:
    (mirror_folder / "omniglot/images_evaluation.zip").write_bytes(b"wrong")
    with pytest.raises(DownloadError) as raised:
        download_dataset("small", PARAMS, tmp_path / "raw", str(mirror_folder))
    message = str(raised.value)
    assert "small: no whole images_evaluation.zip (small)" in message
    assert f"{mirror_folder}/omniglot/images_evaluation.zip: wrong checksum: expected sha256:" in message
    assert f"{server.address}/public/images_evaluation.zip: HTTPError: HTTP Error 404" in message
    assert "set MATCHNET_MIRROR to a folder or address that has omniglot/images_evaluation.zip" in message


def test_without_an_address_and_a_mirror_the_path_in_a_mirror_is_named(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    polygons = RawFile("polygons/polygons.zip", (), 0, "", "ours", "drawn polygons")
    monkeypatch.setattr(download, "files_of", lambda params: [polygons])
    with pytest.raises(DownloadError) as raised:
        download_dataset("shapes", PARAMS, tmp_path / "raw")
    assert str(raised.value) == (f"shapes: no whole polygons.zip (drawn polygons) for {tmp_path / 'raw'}:\n"
                                 "  no address is registered and no mirror is set\n"
                                 "set MATCHNET_MIRROR to a folder or address that has polygons/polygons.zip")


def test_what_a_mirror_lacks_comes_from_the_public_address(
        mirror_folder: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = mirror_folder / "omniglot/images_evaluation.zip"
    content = lacking.read_bytes()
    lacking.unlink()
    server.files["/public/images_evaluation.zip"] = content
    public = public_file(server, lacking.name, "md5:" + hashlib.md5(content).hexdigest())
    monkeypatch.setitem(SOURCES, "omniglot", (SOURCES["omniglot"][0], public))
    download_dataset("small", PARAMS, tmp_path / "raw", str(mirror_folder))
    assert (tmp_path / "raw/images_evaluation.zip").read_bytes() == content


def test_whole_files_with_other_contents_are_refused(mirror_folder: Path, tmp_path: Path) -> None:
    path = mirror_folder / "omniglot/images_evaluation.zip"
    write_zip(path, members_of("images_background.zip"))
    sums = (mirror_folder / "SHA256SUMS").read_text().splitlines()[0]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (mirror_folder / "SHA256SUMS").write_text(f"{sums}\n{digest}  ./omniglot/images_evaluation.zip\n")
    with pytest.raises(ValueError, match=r"evaluation.zip: 11 characters and 220 drawings, expected 5 and"):
        download_dataset("small", PARAMS, tmp_path / "raw", str(mirror_folder))


def test_the_real_mirror_has_what_the_registry_names() -> None:
    place = mirror()
    if fetch_file.is_address(place):
        pytest.skip("the mirror is an address")
    sums = read_checksums((Path(place) / download.CHECKSUMS).read_text())
    for source_file in (source_file for files in SOURCES.values() for source_file in files):
        assert fetch_file.matches(Path(place) / source_file.path, sums[source_file.path])
