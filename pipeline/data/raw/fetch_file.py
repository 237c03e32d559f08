"""One file from a folder or an http(s) address: resumed, verified, then renamed to its own name."""

import base64
import errno
import hashlib
import http.client
import os
import re
import shutil
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, TypeVar
from urllib.parse import SplitResult, quote, unquote, urlsplit

from matchnet.files import make_folder, rename
from matchnet.messages import said, without_credentials
from pipeline.system.progress import Progress

ATTEMPTS = 4
TIMEOUT_SECONDS = 30.0
FIRST_PAUSE_SECONDS = 1.0  # doubled after each failed attempt
BLOCK = 1 << 20
LONG = 1 << 30  # bytes: reading more than that shows progress
NETWORK_ERRORS = (OSError, http.client.HTTPException, ValueError)  # ValueError: redirected to what is no address
_SCHEME = re.compile(r"\s*(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
Result = TypeVar("Result")


class DownloadError(ValueError):
    """A file could not be had, whole and right, from an address."""


class _AttemptError(Exception):
    """The error of one attempt; `final` if another attempt cannot help."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {said(error)}")
        self.final = _is_final(error)


class _NothingMoreError(Exception):
    """The file has no byte beyond those that there are."""


def checksum_of(path: Path, kind: str) -> str:
    """`<kind>:<hex>` of a file's bytes; kind is md5 or sha256."""
    return checksums_of(path, [kind])[kind]


def checksums_of(path: Path, kinds: Iterable[str]) -> dict[str, str]:
    """Kind -> `<kind>:<hex>`, in one reading; a large file shows progress."""
    digests = {kind: hashlib.new(kind) for kind in kinds}
    size = path.stat().st_size
    shown = Progress(f"checking {path.name}", size, "B") if size > LONG else nullcontext()
    with open(path, "rb") as file, shown as progress:
        while block := file.read(BLOCK):
            for digest in digests.values():
                digest.update(block)
            if progress is not None:
                progress.advance(len(block))
    return {kind: f"{kind}:{digest.hexdigest()}" for kind, digest in digests.items()}


def matches(path: Path, checksum: str) -> bool:
    """Whether the file is there and has this checksum (`md5:...` or `sha256:...`)."""
    return path.is_file() and checksum_of(path, checksum.partition(":")[0]) == checksum


def is_address(origin: str) -> bool:
    """Whether a file is to be fetched from an http(s) address, not from a folder.

    Raises:
        DownloadError: an address of another scheme; it shows the scheme alone, since a password may stand anywhere.
    """
    found = _SCHEME.match(origin)
    if found and found["scheme"].lower() not in ("http", "https"):
        raise DownloadError(f"{found['scheme']}://...: files come from a folder, or from an address that begins with "
                            "http:// or https://; copy them to a folder, or mount them there, and name that")
    return found is not None


def fetch_file(origin: str, target: Path, checksum: str, kinds: Iterable[str] = (),
          most: int | None = None) -> dict[str, str]:
    """Bring the file at `origin` (a path, or an http(s) address) to `target`.

    Bytes gather in `<target>.part`, which a later call goes on with; `target` appears, or is replaced, only
    once they have the checksum (`md5:<hex>` or `sha256:<hex>`).

    Args:
        origin: credentials in it (`https://user:password@host/`) go to that host alone; no message has them.
        most: bytes that the file can have; if more come, the download is given up.
    Returns:
        Kind -> checksum, of that kind and of `kinds`, all in one reading.
    Raises:
        DownloadError: not there, not reachable after a few attempts, or other bytes than the checksum says.
        OSError: the disk is full or may not be written.
    """
    make_folder(target.parent)
    part = target.with_name(target.name + ".part")
    resumed = part.exists() and is_address(origin)
    kind = checksum.partition(":")[0]
    wanted = {kind, *kinds}
    _transfer(origin, part, most)
    found = checksums_of(part, wanted)
    if resumed and found[kind] != checksum:  # the old beginning may be of another file
        part.unlink()
        _transfer(origin, part, most)
        found = checksums_of(part, wanted)
    if found[kind] != checksum:
        size = part.stat().st_size
        part.unlink()
        raise DownloadError(f"{without_credentials(origin)}: wrong checksum: expected {checksum}, found {found[kind]} "
                            f"in {size:,} bytes; nothing was replaced; try again, or take it from another address or "
                            "mirror")
    _sync_and_rename(part, target)
    return found


def read(address: str, most: int) -> bytes:
    """The bytes of a small file at an http(s) address; raises DownloadError as `fetch_file` does."""
    def attempt() -> bytes:
        with _opened(address, 0) as response:
            total = response.length
            content = _read(response, most + 1)
            if len(content) <= most:
                _require_all(len(content), total)
        return content

    content = _patiently(address, attempt, lambda: "nothing came")
    if len(content) > most:
        raise _too_large(address, most)
    return content


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the path to an error of the system that has none: a write to a full disk does not say which disk."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def _sync_and_rename(part: Path, target: Path) -> None:
    with naming(part), open(part, "rb") as file:
        os.fsync(file.fileno())
    rename(part, target)


def _transfer(origin: str, part: Path, most: int | None) -> None:
    if is_address(origin):
        _patiently(origin, lambda: _get_rest(origin, part, most), lambda: (
            f"what came is kept in {part}: run it again to go on" if part.exists() else "nothing came"))
    else:
        _copy(Path(origin), part, most)


def _patiently(address: str, attempt: Callable[[], Result], kept: Callable[[], str]) -> Result:
    """The result of `attempt`; tried again, after pauses that grow, if that can help."""
    shown, pause = without_credentials(address), FIRST_PAUSE_SECONDS
    for number in range(1, ATTEMPTS + 1):
        try:
            return attempt()
        except _AttemptError as error:
            if error.final:
                raise DownloadError(f"{shown}: {error}; check the address") from None
            if number == ATTEMPTS:
                raise DownloadError(f"{shown}: gave up after {ATTEMPTS} attempts: {error}; {kept()}, or set a "
                                    "mirror") from None
            print(f"{shown}: {error}; next attempt in {pause:g} s", file=sys.stderr, flush=True)
            time.sleep(pause)
            pause *= 2
    raise AssertionError("the last attempt returns or raises")


def _copy(origin: Path, part: Path, most: int | None) -> None:
    if not origin.is_file():
        raise DownloadError(f"{origin}: no such file; check the path of the mirror")
    size = origin.stat().st_size
    if most is not None and size > most:
        raise _too_large(str(origin), most)
    _require_space(part, size)
    shown = Progress(f"copying {origin.name}", size, "B")
    try:
        file = open(origin, "rb", buffering=0)
    except OSError as error:
        raise _unreadable(origin, error) from error
    with file, naming(part), open(part, "wb") as copy, shown as progress:
        while block := _read_block(file, origin):
            copy.write(block)
            progress.advance(len(block))


def _read_block(file: IO[bytes], origin: Path) -> bytes:
    try:
        return file.read(BLOCK)
    except OSError as error:
        raise _unreadable(origin, error) from error


def _unreadable(origin: Path, error: OSError) -> DownloadError:
    return DownloadError(f"{origin}: {error.strerror or said(error)}; check the folder, or take it from another mirror")


def _too_large(origin: str, most: int) -> DownloadError:
    return DownloadError(f"{without_credentials(origin)}: more than the {most:,} bytes that this file can have, so it "
                         "is another one; take it from another address or mirror")


def _require_space(part: Path, to_come: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if to_come > free:
        raise OSError(errno.ENOSPC, f"{to_come:,} bytes are to come, {free:,} are free on the disk of {part.parent}")


def _is_final(error: Exception) -> bool:
    """Whether another attempt cannot help.

    A 404, a 403, ... (after 408, a time-out, or 429, too many, it may); a server that speaks no HTTP, or that cannot
    prove its name; a redirection to what is no address.
    """
    if isinstance(error, urllib.error.HTTPError):
        return error.code < 500 and error.code not in (408, 429)
    if isinstance(error, urllib.error.URLError):
        return isinstance(error.reason, str | ssl.SSLCertVerificationError)
    if isinstance(error, ConnectionError | http.client.IncompleteRead):
        return False
    return isinstance(error, http.client.HTTPException | ValueError)


def _opened(address: str, have: int) -> http.client.HTTPResponse:
    """The server's answer, from byte `have` on. Only the host itself gets the credentials; a redirection gets none."""
    parts = _parts_of(address)
    sent = parts._replace(netloc=parts.netloc.rpartition("@")[2], path=quote(parts.path, safe="/%:=&?~+!$,;'@()*"),
                          query=quote(parts.query, safe="/%:=&?~+!$,;'@()*"))
    request = urllib.request.Request(sent.geturl(), headers={"Range": f"bytes={have}-"} if have else {})
    user, found, _ = parts.netloc.rpartition("@")
    if found:
        token = base64.b64encode(unquote(user if ":" in user else f"{user}:").encode())
        request.add_unredirected_header("Authorization", f"Basic {token.decode()}")
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except (*NETWORK_ERRORS, OverflowError) as error:
        if isinstance(error, urllib.error.HTTPError) and error.code == 416:
            raise _NothingMoreError from None
        raise _AttemptError(error) from error


def _parts_of(address: str) -> SplitResult:
    """Parse an address; a DownloadError does not show it, since a password may stand in the wrong place."""
    try:
        parts = urlsplit(address)
        right = bool(parts.hostname) and (parts.port is None or parts.port > 0)
        right &= not any(letter.isspace() for letter in parts.netloc)
    except ValueError:
        right = False
    if not right:
        raise DownloadError(f"{address.partition('://')[0]}://...: not an address: between // and the next / stands a "
                            "host, such as mirror.example.org, or a host and a port of 1 to 65535, such as "
                            "localhost:8000; correct the address of the mirror (in a password, %2F stands for /)")
    return parts


def _get_rest(url: str, part: Path, most: int | None) -> None:
    """Append to `part` what is missing; start over where the server does not know ranges."""
    have = part.stat().st_size if part.exists() else 0
    try:
        response = _opened(url, have)
    except _NothingMoreError:  # nothing lies beyond what we have; whether that is all, the checksum decides
        return
    with response:
        _append(response, part, have if response.status == 206 else 0, url, most)


def _append(response: http.client.HTTPResponse, part: Path, have: int, url: str, most: int | None) -> None:
    total = have + (response.length or 0)  # response.length is the Content-Length, if that is a number
    done = have
    if most is not None and total > most:
        raise _too_large(url, most)
    _require_space(part, total - have)
    what = f"downloading {part.name.removesuffix('.part')}"
    with naming(part), open(part, "ab" if have else "wb") as file, Progress(what, total, "B") as progress:
        progress.advance(have)
        while block := _read(response, BLOCK):
            file.write(block)
            done += len(block)
            progress.advance(len(block))
            if most is not None and done > most:
                part.unlink()
                raise _too_large(url, most)
    _require_all(done, total)


def _read(response: http.client.HTTPResponse, size: int) -> bytes:
    try:
        return response.read(size)
    except NETWORK_ERRORS as error:
        raise _AttemptError(error) from error


def _require_all(done: int, total: int | None) -> None:
    if total is not None and done < total:
        raise _AttemptError(ConnectionError(f"the connection ended after {done:,} of {total:,} bytes"))
