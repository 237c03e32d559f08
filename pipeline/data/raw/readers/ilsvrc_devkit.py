"""Labels of ILSVRC2012's validation images, from its development kit (`ILSVRC2012_devkit_t12.tar.gz`)."""

import io
import tarfile
from pathlib import Path

from matchnet.messages import said
from pipeline.data.raw.zip_files import read_gzip

TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"  # a line an image: the ILSVRC2012_ID of its synset
MOST_BYTES = 1 << 26  # unpacked: the devkit has some 10 MB
META = "data/meta.mat"  # a MATLAB struct array `synsets`: ILSVRC2012_ID, WNID, words, ..., num_children, ...


def read_labels(devkit: Path) -> list[str]:
    """The synset of image 1, of image 2, ...

    Raises:
        ValueError: no devkit, or not one.
    """
    if not devkit.is_file():
        raise ValueError(f"{devkit}: no such file: ImageNet's devkit is not linked there, or has been moved; run "
                         f"python -m stages.download {devkit.parent.name}")
    truth, meta = _read_members(devkit, [TRUTH, META])
    synsets = _read_synsets(devkit, meta)
    try:
        return [synsets[int(line)] for line in truth.split()]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{devkit}: {TRUTH}: a label is {error.args[0]!r}, not the number of a synset in {META}; "
                         "download the devkit again") from error


def _read_members(devkit: Path, endings: list[str]) -> list[bytes]:
    contents: dict[str, bytes] = {}
    unpacked = read_gzip(devkit, MOST_BYTES, "download the devkit again")
    try:
        with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as archive:
            for member in archive:
                ending = next((ending for ending in endings if member.name.endswith(f"/{ending}")), None)
                if ending and member.isreg() and not member.issparse() and 0 <= member.size <= len(unpacked):
                    contents[ending] = archive.extractfile(member).read()  # type: ignore[union-attr]
    except Exception as error:  # tarfile raises errors of many kinds for damaged bytes
        raise ValueError(f"{devkit}: not a whole tar.gz ({said(error)}); download the devkit again") from error
    for ending in endings:
        if ending not in contents:
            raise ValueError(f"{devkit}: no {ending} in it; it is not the devkit of ILSVRC2012: download it again")
    return [contents[ending] for ending in endings]


def _read_synsets(devkit: Path, meta: bytes) -> dict[int, str]:
    """ILSVRC2012_ID -> WNID of the 1,000 synsets without children (1 to 1000)."""
    from scipy.io import loadmat  # takes a second to import

    try:
        rows = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
        synsets = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows if int(row["num_children"]) == 0}
    except Exception as error:  # scipy raises errors of many kinds for damaged bytes
        raise ValueError(f"{devkit}: {META}: not the table of synsets ({said(error)}); download the devkit again"
                         ) from error
    return synsets
