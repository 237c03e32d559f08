"""miniImageNet: the images that a list names, picked from the archive, as square PNGs that lose nothing."""

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from places import ROOT
from small_imagenet import (
    ARCHIVE,
    SPLITS,
    SYNSETS,
    small_archive,
    synset_images,
    take_for_real,
    tar_of_synsets,
    write_folder,
)
from small_imagenet import PARAMS as PHOTOGRAPHS
from small_omniglot import mirror

from pipeline.data.raw.datasets import mini_imagenet
from pipeline.data.raw.datasets.mini_imagenet import read_image_list, read_lists
from pipeline.data.raw.download import download_dataset
from pipeline.data.raw.fetch_file import is_address
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.make import shard_dataset
from pipeline.data.shards.reader import ShardReader
from pipeline.data.source_spec import MiniImagenetParams
from pipeline.data.spec import DatasetParams
from pipeline.data.splits import make_split
from pipeline.params import read_params

PARAMS = DatasetParams(source="mini_imagenet", splits=SPLITS)
HEADING, LISTED = "data/imagenet/train/{}/:", 4


def list_text(names: list[str]) -> str:
    """As the authors' list: a heading and an empty line for each class."""
    classes = sorted({name.partition("_")[0] for name in names})
    return "\n".join(f"{HEADING.format(synset)}\n" + "\n".join(name for name in names if name.startswith(synset)) + "\n"
                     for synset in classes)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror of a list of 3 x 4 images and an archive of more."""
    monkeypatch.setattr(mini_imagenet, "NUM_CLASSES", len(SYNSETS))
    monkeypatch.setattr(mini_imagenet, "IMAGES_PER_CLASS", LISTED)
    monkeypatch.setattr(mini_imagenet, "check_whole", lambda archive, listing: None)
    take_for_real(tmp_path / "mirror/imagenet" / ARCHIVE, monkeypatch)
    names = [name for synset in SYNSETS for name in synset_images(synset, LISTED)]
    return write_mirror(tmp_path / "mirror", list_text(names), small_archive())


def write_mirror(place: Path, text: str, synsets: dict[str, dict[str, bytes]]) -> Path:
    sums = ""
    for folder, files in (("imagenet", {ARCHIVE: tar_of_synsets(synsets)}),
                          ("mini_imagenet", {"mini_imagenet.txt": text.encode()})):
        sums += (write_folder(place / folder, files) / "SHA256SUMS").read_text().replace("  ", f"  ./{folder}/")
    (place / "SHA256SUMS").write_text(sums)
    return place


def made(place: Path, folder: Path, params: DatasetParams = PARAMS) -> dict[str, bytes]:
    """Key -> bytes in the shards."""
    download_dataset("mini", params, place / "raw", str(folder))
    shard_dataset("mini", params, place / "raw", place / "shards")
    with ShardReader(ShardFolder(place / "shards")) as reader:
        return dict(zip(reader.index.key_R.to_pylist(), reader.read_many(range(len(reader.index))), strict=True))


def test_listed_images_are_squashed_to_squares_and_nothing_is_lost(tmp_path: Path, small: Path) -> None:
    params = replace(PARAMS, mini_imagenet=MiniImagenetParams(image_size=20))
    found = made(tmp_path, small, params)
    assert len(found) == len(SYNSETS) * LISTED
    for synset in SYNSETS:
        for name, content in synset_images(synset, LISTED).items():
            png = Image.open(io.BytesIO(found[f"{synset}/{name.removesuffix('.JPEG')}"]))
            expected = Image.open(io.BytesIO(content)).resize((20, 20), Image.Resampling.LANCZOS)
            assert png.format == "PNG" and np.array_equal(np.asarray(png), np.asarray(expected))


def test_the_archive_is_not_listed_again_where_photographs_were_made_of_it(
        tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download_dataset("photographs", PHOTOGRAPHS, tmp_path / "photographs", str(small))
    monkeypatch.setattr(mini_imagenet, "scan_synsets", lambda archive: (pytest.fail("listed again") for _ in "1"))
    assert len(made(tmp_path, small)) == len(SYNSETS) * LISTED


def test_an_archive_that_changed_after_it_was_listed(tmp_path: Path, small: Path) -> None:
    made(tmp_path, small)
    archive = small / "imagenet" / ARCHIVE
    archive.write_bytes(archive.read_bytes())
    with pytest.raises(ValueError, match=rf"{ARCHIVE}: written to or replaced since it was verified: .*download stage"):
        shard_dataset("mini", PARAMS, tmp_path / "raw", tmp_path / "shards")


def test_an_image_that_the_archive_lacks(tmp_path: Path, small: Path) -> None:
    archive = small_archive()
    del archive[SYNSETS[2]][f"{SYNSETS[2]}_3.JPEG"]
    text = (small / "mini_imagenet/mini_imagenet.txt").read_text()
    write_mirror(small, text, archive)
    message = rf"{ARCHIVE}: {SYNSETS[2]}_3.JPEG, an image of miniImageNet's list 'vinyals', is not in it \(1 such of"
    with pytest.raises(ValueError, match=message):
        made(tmp_path, small)
    sample = replace(PARAMS, mini_imagenet=MiniImagenetParams(sample=True))
    assert len(made(tmp_path, small, sample)) == 11


def test_an_archive_with_none_of_them(tmp_path: Path, small: Path) -> None:
    text = (small / "mini_imagenet/mini_imagenet.txt").read_text()
    write_mirror(small, text, {"n09999999": synset_images("n09999999")})
    with pytest.raises(ValueError, match=r"none of the 12 images of the list 'vinyals' is in it"):
        made(tmp_path, small, replace(PARAMS, mini_imagenet=MiniImagenetParams(sample=True)))


def test_a_line_that_names_no_image(tmp_path: Path) -> None:
    path = tmp_path / "mini_imagenet.txt"
    path.write_text("data/imagenet/train/n01614925/:\n\nn01614925_1.JPEG\n<html>\n")
    with pytest.raises(ValueError, match=r"mini_imagenet.txt: '<html>' is no image of ImageNet, such as n016149"):
        read_image_list(path)


def test_a_list_with_an_image_twice(tmp_path: Path, small: Path) -> None:
    names = [name for synset in SYNSETS for name in synset_images(synset, LISTED)]
    write_mirror(small, list_text([*names[:-1], names[-2]]), small_archive())
    with pytest.raises(ValueError, match=r"12 images of 3 synsets, expected 3 x 4; delete the files and run the down"):
        made(tmp_path, small)


@pytest.mark.parametrize("which", ["vinyals", "ravi"])
def test_the_real_lists(which: str) -> None:
    if is_address(mirror()):
        pytest.skip("the mirror is an address")
    params = replace(PARAMS, mini_imagenet=MiniImagenetParams(list=which))  # type: ignore[arg-type]
    names = read_lists(Path(mirror()) / "mini_imagenet", params)
    assert set(Counter(name.partition("_")[0] for name in names).values()) == {600}
    assert len(set(names)) == 60_000


def test_80_classes_to_train_on_and_20_to_test_as_in_the_paper() -> None:
    """16 of the 80 are `valid`, which a model may take for training as well."""
    (params,) = read_params("mini_vinyals", ROOT).datasets["mini_imagenet_vinyals"].splits.values()
    split = make_split(params, [f"n{number:08d}" for number in range(mini_imagenet.NUM_CLASSES)])
    assert {part: len(names) for part, names in split.items()} == {"train": 64, "valid": 16, "test": 20}
