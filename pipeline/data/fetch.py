"""One file from a folder or an http(s) address: resumed, verified, then renamed to its own name."""

import errno
import hashlib
import http.client
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

from pipeline.files import rename
from pipeline.progress import Progress

ATTEMPTS = 4
TIMEOUT_SECONDS = 30.0
FIRST_PAUSE_SECONDS = 1.0  # doubled after each failed attempt
BLOCK = 1 << 20
LONG = 1 << 30  # bytes: reading more than that shows progress
NETWORK_ERRORS = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


class DownloadError(ValueError):
    """A file could not be had, whole and right, from an address."""


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


def is_address(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def fetch(place: str, target: Path, checksum: str, kinds: Iterable[str] = ()) -> dict[str, str]:
    """Bring the file at `place` (a path, or an http(s) address) to `target`.

    Bytes gather in `<target>.part`, which a later call goes on with; `target` appears, or is replaced, only
    once they have the checksum (`md5:<hex>` or `sha256:<hex>`).

    Returns:
        Kind -> checksum, of that kind and of `kinds`, all in one reading.
    Raises:
        DownloadError: not there, not reachable after a few attempts, or other bytes than the checksum says.
        OSError: the disk is full or may not be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    resumed = part.exists() and is_address(place)
    kind = checksum.partition(":")[0]
    wanted = {kind, *kinds}
    _transfer(place, part)
    found = checksums_of(part, wanted)
    if resumed and found[kind] != checksum:  # the old beginning may be of another file
        part.unlink()
        _transfer(place, part)
        found = checksums_of(part, wanted)
    if found[kind] != checksum:
        size = part.stat().st_size
        part.unlink()
        raise DownloadError(f"{place}: wrong checksum: expected {checksum}, found {found[kind]} in {size:,} bytes; "
                            "nothing was replaced; try again, or take it from another address or mirror")
    _sync_and_rename(part, target)
    return found


def _sync_and_rename(part: Path, target: Path) -> None:
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    rename(part, target)


def _transfer(place: str, part: Path) -> None:
    if not is_address(place):
        _copy(Path(place), part)
        return
    pause = FIRST_PAUSE_SECONDS
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _get_rest(place, part)
            return
        except NETWORK_ERRORS as error:
            if _is_final(error):
                raise DownloadError(f"{place}: {_say(error)}; check the address") from error
            if attempt == ATTEMPTS:
                kept = f"what came is kept in {part}: run it again to go on" if part.exists() else "nothing came"
                raise DownloadError(f"{place}: gave up after {ATTEMPTS} attempts: {_say(error)}; {kept}, or set a "
                                    "mirror") from error
            print(f"{place}: {_say(error)}; next attempt in {pause:g} s", file=sys.stderr, flush=True)
            time.sleep(pause)
            pause *= 2


def _copy(origin: Path, part: Path) -> None:
    if not origin.is_file():
        raise DownloadError(f"{origin}: no such file; check the path of the mirror")
    size = origin.stat().st_size
    _require_space(part, size)
    shown = Progress(f"copying {origin.name}", size, "B")
    with open(origin, "rb") as file, open(part, "wb") as copy, shown as progress:
        while block := file.read(BLOCK):
            copy.write(block)
            progress.advance(len(block))


def _require_space(part: Path, to_come: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if to_come > free:
        raise OSError(errno.ENOSPC, f"{to_come:,} bytes are to come, {free:,} are free on the disk of {part.parent}")


def _is_final(error: Exception) -> bool:
    """A 404, a 403, ...: asking again does not help; after 408 (a time-out) or 429 (too many) it may."""
    return isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in (408, 429)


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _get_rest(url: str, part: Path) -> None:
    """Append to `part` what is missing; start over where the server does not know ranges."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            goes_on = response.status == 206
            _append(response, part, have if goes_on else 0, url)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing lies beyond what we have; whether that is all, the checksum decides
            raise


def _append(response: http.client.HTTPResponse, part: Path, have: int, url: str) -> None:
    length = response.headers.get("Content-Length")
    total = have + int(length) if length else 0
    done = have
    _require_space(part, total - have)
    what = f"downloading {Path(url).name}"
    with open(part, "ab" if have else "wb") as file, Progress(what, total, "B") as progress:
        progress.advance(have)
        while block := response.read(BLOCK):
            file.write(block)
            done += len(block)
            progress.advance(len(block))
    if done < total:
        raise ConnectionError(f"the connection ended after {done:,} of {total:,} bytes")
