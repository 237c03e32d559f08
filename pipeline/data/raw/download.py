"""Downloads a dataset's public files into its raw folder, from a mirror first, and checks what is in them."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from matchnet.files import atomic_write, make_folder, sha256_of
from matchnet.messages import said, without_credentials
from pipeline.data.raw.fetch_file import DownloadError, fetch_file, is_address, matches, read
from pipeline.data.raw.linked_archives import FOLDER, archive_path, link_archive, link_packed, linked_to
from pipeline.data.raw.readers.mini_photographs import PHOTOGRAPHS, pack_photographs
from pipeline.data.raw.registry import PREPARED, RawFile, archives_of, files_of
from pipeline.data.raw.source import source_of
from pipeline.data.spec import DatasetParams
from pipeline.system.unfinished import remove_unfinished

BEHIND_AN_ACCOUNT = ("get it at https://image-net.org/download-images.php (ILSVRC2012; it asks for an account), put it "
                     "into a folder, and name that as cluster.licensed.imagenet in the root's params.yaml; or write "
                     "sample: true if it is known to be a part")
OF_A_MIRROR = ("a dataset with sample: true is made of a small archive in the same layout, "
               "imagenet/ILSVRC2012_img_train.tar of a mirror: set MATCHNET_MIRROR to one that has it")
PREPARED_BY_OTHERS = ("name a tar, a zip or a folder of them (n0153282900000005.jpg is an image of synset n01532829) "
                      "as cluster.licensed.mini_imagenet in params.yaml, or set MATCHNET_MIRROR to a mirror that has "
                      "them; or write prepared: false, to pick the images from ILSVRC2012's archive")
CHECKSUMS = "SHA256SUMS"  # in a mirror, and in raw_dir for the verified files
MOST_OF_CHECKSUMS = 1 << 24  # bytes: a hundred thousand files
_SUM = re.compile(r"([0-9a-fA-F]{64})\s+\*?(?:\./)?(\S.*)")


def download_dataset(name: str, params: DatasetParams, raw_dir: Path, mirror: str | None = None,
                     folder: str | None = None) -> None:
    """Bring the raw files of one dataset to `raw_dir`; files that are there and whole are left alone.

    Args:
        name: the dataset's name, for messages.
        mirror: a folder or an http(s) address laid out by source (`omniglot/images_background.zip`), asked
            first and verified by its own SHA256SUMS. None or "" goes to the public addresses.
        folder: the user's folder of a dataset without a public address; see `LicensedParams`.
    Raises:
        DownloadError: no address gave a whole file; names each address and what was wrong there.
        ValueError: the files are whole but not what the dataset is known to hold.
        OSError: the disk is full, ...; what has come is kept.
    """
    for place in filter(None, (mirror, folder)):
        is_address(place)  # refuses addresses of other schemes before any message can show one
    raw_dir = Path(raw_dir)
    make_folder(raw_dir)
    store = raw_dir.parent / FOLDER
    remove_unfinished([*raw_dir.iterdir(), *store.glob("*"), *store.glob("*/*")])
    mirror_sums = _mirror_checksums(mirror) if mirror else {}
    for source_file in files_of(params):
        _bring(name, source_file, raw_dir, mirror, mirror_sums)
    archives = {}
    for archive in archives_of(params):
        try:
            archives[archive.name] = _link(archive, params.sample, raw_dir, folder, mirror, mirror_sums)
        except DownloadError as error:
            raise DownloadError(f"{name}: no whole {archive.name} ({archive.what}):\n  {error}\n"
                                f"{OF_A_MIRROR if params.sample else BEHIND_AN_ACCOUNT}") from error
    if params.is_prepared:
        origin = _find_prepared(name, raw_dir, folder, mirror, mirror_sums)
        archives[PHOTOGRAPHS] = link_packed(origin, PHOTOGRAPHS, pack_photographs, raw_dir)
        folder = str(origin)
    source_of(params.source).prepare_raw(raw_dir, params, folder)
    _record(raw_dir, archives)


def read_checksums(text: str) -> dict[str, str]:
    """Path -> `sha256:<hex>` from the lines of a SHA256SUMS file. Raises ValueError that names a malformed line."""
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            parts = _SUM.fullmatch(line.strip())
            if parts is None:
                raise ValueError(f"line {number} is {line[:80]!r}, not 64 hex digits (SHA-256) and the name of a file")
            found[parts[2]] = f"sha256:{parts[1].lower()}"
    return found


def recorded_checksums(raw_dir: Path) -> dict[str, str]:
    """File name -> `sha256:<hex>` of the raw files as the download verified them; empty before the first."""
    return _read_sums(raw_dir)


def require_downloaded(name: str, raw_dir: Path) -> None:
    """Raises ValueError unless a download has recorded what it verified in `raw_dir`; `name` is the dataset's, full."""
    if not recorded_checksums(raw_dir):
        raise ValueError(f"{raw_dir / CHECKSUMS}: not there, or empty: the download stage writes it last, so no "
                         f"download has finished here; run `python -m stages.download {name}` first")


def is_recorded(path: Path) -> bool:
    """Whether the record has a line for this path of a raw folder; hidden files are temporary, or a system's own."""
    return path.is_file() and not path.name.startswith(".") and path.name != CHECKSUMS and path.suffix != ".part"


def archives_recorded(params: DatasetParams) -> set[str]:
    """Names of the archives that lie elsewhere: the record has a line for each."""
    return {PHOTOGRAPHS} if params.is_prepared else {archive.name for archive in archives_of(params)}


def _record(raw_dir: Path, archives: Mapping[str, str]) -> None:
    """Write the checksums of the files of raw_dir, and of archives that lie elsewhere (name -> `sha256:<hex>`)."""
    digests = {path.name: sha256_of(path) for path in raw_dir.iterdir() if is_recorded(path)}
    digests |= {name: sha256.removeprefix("sha256:") for name, sha256 in archives.items()}
    with atomic_write(raw_dir / CHECKSUMS) as record:
        record.writelines(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def _read_sums(folder: Path) -> dict[str, str]:
    """Checksums of a folder on this machine; empty if it has no SHA256SUMS."""
    path = folder / CHECKSUMS
    try:
        return read_checksums(_decoded(path.read_bytes())) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{path}: {error}; write it as sha256sum does, or delete it") from error


def _mirror_checksums(mirror: str) -> dict[str, str]:
    origin = _join(mirror, CHECKSUMS)
    try:
        content = read(origin, MOST_OF_CHECKSUMS) if is_address(mirror) else Path(origin).read_bytes()
        return read_checksums(_decoded(content))
    except DownloadError as error:  # the error names the address
        reason = str(error)
    except OSError as error:
        reason = f"{origin}: {error.strerror or said(error)}"
    except ValueError as error:
        reason = f"{without_credentials(origin)}: {error}"
    print(f"{reason}; its files are checked against the public checksums", file=sys.stderr, flush=True)
    return {}


def _decoded(content: bytes) -> str:
    """The text without the byte order mark that Windows' editors put first."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} is not UTF-8, so it is no list of checksums") from error


def _join(mirror: str, path: str) -> str:
    return f"{mirror.rstrip('/')}/{path}"


def _link(archive: RawFile, sample: bool, raw_dir: Path, folder: str | None, mirror: str | None,
          mirror_sums: Mapping[str, str]) -> str:
    """Link an archive behind an account, from the folder or address that the user names, else from the mirror.

    Their own checksums count only for a sample: somebody with a bad copy of the real archive can sum that copy too.
    """
    root, path = (folder, archive.name) if folder else (mirror, archive.path)
    if not root:
        raise DownloadError("no folder is named, and no mirror is set")
    own = (_folder_checksums(root) if folder else mirror_sums) if sample else {}
    try:
        return link_archive(archive, _join(root, path), own.get(path, archive.checksum), raw_dir)
    except DownloadError as error:
        if not sample or path in own:
            raise
        raise DownloadError(f"{error}\n  {without_credentials(_join(root, CHECKSUMS))} has no line for {path}, and a "
                            "sample is checked by that line: add it, as sha256sum writes it") from error


def _find_prepared(name: str, raw_dir: Path, own: str | None, mirror: str | None,
                   mirror_sums: Mapping[str, str]) -> Path:
    """The prepared photographs on this machine: the user's own, in whatever form, or else the mirror's."""
    try:
        if own:
            if not Path(own).exists():
                raise DownloadError(f"{without_credentials(own)}: no such file or folder")
            return Path(own)
        if not mirror:
            raise DownloadError("nothing is named, and no mirror is set")
        checksum = mirror_sums.get(PREPARED.path, PREPARED.checksum)
        link_archive(PREPARED, _join(mirror, PREPARED.path), checksum, raw_dir)
    except DownloadError as error:
        raise DownloadError(f"{name}: no {PREPARED.what}:\n  {error}\n{PREPARED_BY_OTHERS}") from error
    return linked_to(archive_path(raw_dir, PREPARED.name))


def _folder_checksums(folder: str) -> dict[str, str]:
    return _mirror_checksums(folder) if is_address(folder) else _read_sums(Path(folder))


def _bring(name: str, source_file: RawFile, raw_dir: Path, mirror: str | None,
           mirror_sums: dict[str, str]) -> None:
    target = raw_dir / source_file.name
    origins = [(url, source_file.checksum) for url in source_file.urls]
    if mirror:
        checksum = mirror_sums.get(source_file.path, source_file.checksum)
        origins.insert(0, (_join(mirror, source_file.path), checksum))
    good = [checksum for _, checksum in origins] + [recorded_checksums(raw_dir).get(source_file.name, "")]
    if any(checksum and matches(target, checksum) for checksum in good):
        return
    failures = []
    for origin, checksum in origins:
        try:
            fetch_file(origin, target, checksum, most=source_file.most_bytes)
            return
        except DownloadError as error:
            failures.append(str(error))
            print(error, file=sys.stderr, flush=True)
        except OSError as error:
            raise OSError(error.errno, f"{name}: writing {target} failed: {error.strerror or error}; what "
                          "came is kept; check the disk and run the download again") from error
    tried = "\n  ".join(failures) or "no address is registered and no mirror is set"
    raise DownloadError(f"{name}: no whole {source_file.name} ({source_file.what}) for {raw_dir}:\n"
                        f"  {tried}\nset MATCHNET_MIRROR to a folder or address that has {source_file.path}")
