"""Archives laid out as ILSVRC2012's, of a few small images, with all that is odd about the real ones."""

import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.raw.download import download_dataset
from pipeline.data.raw.fetch_file import checksum_of
from pipeline.data.raw.registry import TRAINING
from pipeline.data.source_spec import ImagenetParams
from pipeline.data.spec import DatasetParams, WholeSplit

ARCHIVE = "ILSVRC2012_img_train.tar"
SYNSETS = ("n01440764", "n01443537", "n02085620")
SPLITS = {"all": WholeSplit(part="train")}
PARAMS = DatasetParams(source="imagenet", splits=SPLITS, shard_size_mib=0.01, imagenet=ImagenetParams(sample=True))


def picture(text: str, size: tuple[int, int] = (48, 40), mode: str = "RGB") -> Image.Image:
    """A smooth picture that differs from text to text."""
    random = np.random.default_rng(list(hashlib.sha256(text.encode()).digest()))
    coarse = Image.fromarray(random.integers(0, 256, (4, 5, 3), np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC).convert(mode)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rotated(image: Image.Image, orientation: int) -> bytes:
    """A JPEG whose EXIF says how it is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, exif=exif)


def synset_images(synset: str, count: int = 6) -> dict[str, bytes]:
    return {f"{synset}_{number}.JPEG": encoded(picture(f"{synset} {number}")) for number in range(1, count + 1)}


def odd_images(synset: str) -> dict[str, bytes]:
    """Two CMYK, one PNG, one turned, one of 0 bytes."""
    image = picture(synset)
    contents = [encoded(image.convert("CMYK")), encoded(image.convert("CMYK"), quality=50), encoded(image, "PNG"),
                rotated(image, 6), b""]
    return {f"{synset}_{number}.JPEG": content for number, content in enumerate(contents, start=1001)}


def small_archive() -> dict[str, dict[str, bytes]]:
    """Synset -> its members."""
    archive = {synset: synset_images(synset) for synset in SYNSETS}
    archive[SYNSETS[1]] |= odd_images(SYNSETS[1])
    return archive


def tar_of(members: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in members.items():
            header = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                header.size = len(content)
            tar.addfile(header, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


def tar_of_synsets(synsets: Mapping[str, Mapping[str, bytes]]) -> bytes:
    return tar_of({f"{synset}.tar": tar_of(members) for synset, members in synsets.items()})


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    """A folder of archives with its own SHA256SUMS."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    sums = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(folder.iterdir())
            if path.name != "SHA256SUMS")
    (folder / "SHA256SUMS").write_text("".join(sums))
    return folder


def take_for_real(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Size and MD5 of the published archive are those of this one, whatever it is when it is asked for."""
    monkeypatch.setattr("pipeline.data.raw.download.archives_of", lambda params: (
        replace(TRAINING, size=archive.stat().st_size, checksum=checksum_of(archive, "md5")),))


def small_raw(place: Path, params: DatasetParams = PARAMS, synsets: Mapping[str, Mapping[str, bytes]] | None = None,
              name: str = "small") -> Path:
    """The raw folder of a dataset made of a small archive, which lies in `place/archives`."""
    write_folder(place / "archives", {ARCHIVE: tar_of_synsets(small_archive() if synsets is None else synsets)})
    return brought(place, params, name)


def brought(place: Path, params: DatasetParams, name: str = "small") -> Path:
    download_dataset(name, params, place / "raw" / name, folder=str(place / "archives"))
    return place / "raw" / name
