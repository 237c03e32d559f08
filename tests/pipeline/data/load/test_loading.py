"""Loading: pixels with the right classes, in an order that the shards do not decide; both stores agree."""

import io
import pickle
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from small_omniglot import NUM_CLASSES, PARAMS, members_of, mirror, small_omniglot

from matchnet.pictures.pixels import to_pixels
from matchnet.preparation import Preparation
from matchnet.store import MemoryStore
from pipeline.data.formats.images import open_image
from pipeline.data.load.from_shards import ShardStore
from pipeline.data.load.samples import Room, load_samples
from pipeline.data.raw.download import download_dataset
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.index import INDEX, read_index
from pipeline.data.shards.make import shard_dataset
from pipeline.data.spec import PARTS, DatasetParams, ListSplit, RandomSplit, WholeSplit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as monkeypatch:
        small_omniglot(folder / "raw", monkeypatch)
        shard_dataset("small", PARAMS, folder / "raw", folder / "shards")
        other = replace(PARAMS, seed=5, splits={"random": PARAMS.splits["random"]})
        shard_dataset("small", other, folder / "raw", folder / "other")
    return folder


def test_all_samples_with_their_classes(folder: Path) -> None:
    data = load_samples(ShardFolder(folder / "shards"), "random", PARTS, (1, 28, 28))
    assert data.store.samples.shape == (NUM_CLASSES * 20, 1, 28, 28) and data.store.samples.dtype == torch.uint8
    assert np.bincount(data.class_id_R).tolist() == [20] * NUM_CLASSES
    assert data.class_names == [entry.name for entry in ShardFolder(folder / "shards").manifest.classes]
    assert data.manifest_sha256 == ShardFolder(folder / "shards").sha256


def test_the_pixels_are_those_of_the_archive_with_bright_ink(folder: Path) -> None:
    data = load_samples(ShardFolder(folder / "shards"), "random", PARTS, (1, 105, 105))
    members = members_of("images_background.zip")
    png = members["images_background/Latin/character02/0002_07.png"]
    row = np.flatnonzero(data.class_id_R == data.class_names.index("Latin/character02"))[6]
    original = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    assert np.array_equal(data.store.samples[row, 0].numpy(), 255 - original)


def test_shards_of_other_parts_need_not_be_there(folder: Path, tmp_path: Path) -> None:
    manifest = ShardFolder(folder / "shards").manifest
    groups = ShardFolder(folder / "shards").groups_of("alphabets", ("valid",))
    shutil.copytree(folder / "shards", tmp_path / "some")
    for entry in manifest.shards:
        if entry.group not in groups:
            (tmp_path / "some" / entry.name).unlink()
    whole, some = (load_samples(ShardFolder(place), "alphabets", ("valid",), (1, 28, 28)) for place in
                   (folder / "shards", tmp_path / "some"))
    assert len(some.store.samples) > 0 and torch.equal(whole.store.samples, some.store.samples)
    with ShardStore(ShardFolder(tmp_path / "some"), "alphabets", (1, 28, 28), ("valid",), num_processes=1) as store:
        assert torch.equal(store.gather(torch.arange(len(store))), some.store.samples)
    with pytest.raises(ValueError, match="no such file"):
        load_samples(ShardFolder(tmp_path / "some"), "alphabets", ("train",), (1, 28, 28))


def test_the_order_does_not_depend_on_the_shards(folder: Path) -> None:
    one, other = (load_samples(ShardFolder(folder / name), "random", PARTS, (1, 28, 28))
                  for name in ("shards", "other"))
    assert torch.equal(one.store.samples, other.store.samples)
    assert np.array_equal(one.class_id_R, other.class_id_R)


def test_a_part_has_its_own_classes_only(folder: Path) -> None:
    data = load_samples(ShardFolder(folder / "shards"), "alphabets", ["test"], (1, 28, 28))
    names = ShardFolder(folder / "shards").manifest.splits["alphabets"]["test"]
    assert {data.class_names[class_id] for class_id in data.class_id_R} == set(names)


def test_an_unknown_split_or_part(folder: Path) -> None:
    with pytest.raises(ValueError, match="'vinyals' is not a split of small; it has: random, alphabets;"):
        load_samples(ShardFolder(folder / "shards"), "vinyals", PARTS, (1, 28, 28))
    with pytest.raises(ValueError, match="'dev' is not a part of a split; name some of train, valid"):
        load_samples(ShardFolder(folder / "shards"), "random", ["dev"], (1, 28, 28))  # type: ignore[list-item]


def test_the_store_on_shards_gives_what_the_store_in_memory_gives(folder: Path) -> None:
    data = load_samples(ShardFolder(folder / "shards"), "random", PARTS, (1, 28, 28))
    rows = torch.from_numpy(np.random.default_rng(0).integers(0, len(data.class_id_R), (2, 3, 5)))
    with ShardStore(ShardFolder(folder / "shards"), "random", sample_shape=(1, 28, 28)) as store:
        assert len(store) == len(data.class_id_R) and store.sample_shape == (1, 28, 28)
        assert np.array_equal(store.class_id_R, data.class_id_R)
        for wanted in (rows, rows[0, 0, :1], torch.arange(100), rows[:, :, :0]):
            assert torch.equal(store.gather(wanted), data.store.samples[wanted])


def test_the_store_on_shards_needs_little_shared_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.load.from_shards.memory_to_share", lambda: 4 * 7 * 28 * 28)
    data = load_samples(ShardFolder(folder / "shards"), "random", PARTS, (1, 28, 28))
    with ShardStore(ShardFolder(folder / "shards"), "random", sample_shape=(1, 28, 28)) as store:
        for count in (1, 7, 8, 100):
            assert torch.equal(store.gather(torch.arange(count)), data.store.samples[:count])
            assert len(store._blocks) == 1 + (count > 7) and all(block.size <= 7 * 28 * 28 for block in store._blocks)


def test_the_store_on_shards_decodes_the_next_samples_while_the_last_are_used(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.load.from_shards.memory_to_share", lambda: 4 * 7 * 28 * 28)
    data = load_samples(ShardFolder(folder / "shards"), "random", PARTS, (1, 28, 28))
    wanted = [torch.arange(3), torch.arange(20, 40).reshape(4, 5), torch.arange(0), torch.arange(5)]
    asked_for: list[int] = []
    with ShardStore(ShardFolder(folder / "shards"), "random", sample_shape=(1, 28, 28)) as store:
        asked = (asked_for.append(number) or rows for number, rows in enumerate(wanted))
        for number, samples in enumerate(store.gather_each(asked)):
            assert torch.equal(samples, data.store.samples[wanted[number]])
            assert asked_for == list(range(min(number + 2, len(wanted))))
        assert number == len(wanted) - 1 and len(store._blocks) == 2
        with closing(store.gather_each(wanted)) as given_up:  # with the second on its way
            assert torch.equal(next(given_up), data.store.samples[:3])
        assert torch.equal(store.gather(wanted[1]), data.store.samples[wanted[1]])


def test_what_a_worker_of_the_store_is_sent_is_of_its_samples_alone(folder: Path) -> None:
    index = read_index(folder / "shards" / INDEX)
    rows = np.array([300, 5, 5, 17])
    some = index.take(rows)
    assert [some.described(row) for row in range(4)] == [index.described(row) for row in rows]
    assert set(some.shards) == {index.shards[shard] for shard in index.shard_R[rows]}
    assert some.class_id_R.tolist() == index.class_id_R[rows].tolist()
    assert len(pickle.dumps(some)) < 4000 < len(pickle.dumps(index))


def test_the_store_on_shards_names_a_damaged_image(folder: Path, tmp_path: Path) -> None:
    shards = shutil.copytree(folder / "shards", tmp_path / "shards")
    index = read_index(shards / INDEX)
    with open(shards / index.shards[index.shard_R[3]], "r+b") as file:
        file.seek(index.offset_R[3] + 20)
        file.write(b"\0" * 60)
    message = rf"key {index.key_R[3]}, offset {index.offset_R[3]}: not a whole png image"
    with (ShardStore(ShardFolder(shards), "random", sample_shape=(1, 28, 28)) as store,
          pytest.raises(ValueError, match=message)):
        store.gather(torch.arange(len(store)))
    with pytest.raises(ValueError, match="edited after it was written"):
        load_samples(ShardFolder(shards), "random", PARTS, (1, 28, 28))


def test_resizing_keeps_the_share_of_ink() -> None:
    image = Image.new("L", (105, 105), 255)
    image.paste(0, (20, 30, 80, 60))
    small = to_pixels(image, Preparation(channels=1, size=28, invert=True))[0]
    assert small.mean() == pytest.approx(255 * 60 * 30 / 105**2, rel=0.02)
    assert small[0, 0] == 0 and small[12, 14] == 255


@pytest.mark.parametrize("box", [(0, 0, 10, 20), (15, 3, 28, 9)])
def test_a_margin_puts_the_ink_in_the_middle(box: tuple[int, int, int, int]) -> None:
    image = Image.new("L", (28, 28))
    image.paste(255, box)
    ys, xs = np.nonzero(to_pixels(image, Preparation(channels=1, size=40, margin=0.1))[0])
    assert max(np.ptp(ys), np.ptp(xs)) + 1 == 32
    assert abs(ys.min() + ys.max() - 39) <= 1 and abs(xs.min() + xs.max() - 39) <= 1


@pytest.mark.parametrize("upright", [False, True])
def test_an_empty_drawing_stays_empty(upright: bool) -> None:
    preparation = Preparation(channels=1, size=28, margin=0.1, upright=upright)
    assert not to_pixels(Image.new("L", (28, 28)), preparation).any()


@pytest.mark.parametrize("lean", [-0.6, 0.0, 0.4])
@pytest.mark.parametrize("side", [28, 200])
def test_a_leaning_stroke_is_made_upright(lean: float, side: int) -> None:
    drawn = Image.new("L", (side, side))
    top, bottom, middle = 0.2 * side, 0.8 * side, side / 2
    ends = [(middle + lean * (middle - y), y) for y in (top, bottom)]
    ImageDraw.Draw(drawn).line(ends, fill=255, width=max(side // 10, 2))
    as_drawn, upright = (to_pixels(drawn, Preparation(channels=1, size=40, margin=0.1, upright=upright))[0]
                         for upright in (False, True))
    assert abs(slope(upright)) < 0.03
    assert abs(slope(as_drawn) + lean) < 0.15  # the test can see a lean
    ys, xs = np.nonzero(upright)
    assert np.ptp(ys) + 1 == 32
    assert abs(xs.min() + xs.max() - 39) <= 1


def slope(ink_HW: np.ndarray) -> float:
    """By how much the ink goes to the right as it goes down: by least squares over single pixels."""
    ys, xs = np.nonzero(ink_HW > 100)
    return float(np.polyfit(ys, xs, 1)[0])


def test_upright_needs_a_margin() -> None:
    with pytest.raises(ValueError, match=r"upright is true without a margin; .* write a margin too, such as 0\.18"):
        Preparation(channels=1, size=28, upright=True)
    with pytest.raises(ValueError, match="upright: True is not possible: ink that was moved is cropped anew"):
        DatasetParams(source="mnist", splits={"all": WholeSplit()}, upright=True)


def photograph(width: int, height: int) -> Image.Image:
    """Red rises to the right, green downwards."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


def test_colours_come_first_and_fill_the_square() -> None:
    pixels = to_pixels(photograph(90, 60), Preparation(channels=3, size=30)).astype(float)
    assert pixels.shape == (3, 30, 30)
    assert (np.diff(pixels[0], axis=1) > 0).all() and (np.diff(pixels[1], axis=0) > 0).all() and not pixels[2].any()
    assert pixels[0, 0, 0] < 8 and pixels[0, 0, -1] > 247


def test_a_central_crop_is_a_square_of_the_shorter_side() -> None:
    pixels = to_pixels(photograph(90, 60), Preparation(channels=3, size=30, central_crop=0.5)).astype(float)
    # 30 x 30 pixels from (30, 15) on: a third of the width, half of the height
    assert pixels[0, 0, [0, -1]] == pytest.approx([255 * 30 / 89, 255 * 59 / 89], abs=2)
    assert pixels[1, [0, -1], 0] == pytest.approx([255 * 15 / 59, 255 * 44 / 59], abs=2)


def test_a_jpeg_has_the_pixels_that_pillow_gives() -> None:
    file = io.BytesIO()
    photograph(90, 60).save(file, "jpeg")
    assert np.array_equal(np.asarray(open_image(file.getvalue(), "jpg")), np.asarray(Image.open(file)))
    with pytest.raises(ValueError, match="not a whole jpg image"):
        open_image(file.getvalue()[:-200], "jpg")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("extension", ["png", "jpg"])
@pytest.mark.parametrize("content", [b"hello", b"GIF89a" + bytes(40), b"\x89PNG\r\n\x1a\n" + bytes(40),
                                     b"\xff\xd8\xff\xe0" + bytes(40)], ids=["text", "gif", "png", "jpg"])
def test_damage_is_told_without_addresses_of_memory_or_warnings(extension: str, content: bytes) -> None:
    with pytest.raises(ValueError, match=rf"^not a whole {extension} image \({len(content)} bytes: .+\)$") as caught:
        open_image(content, extension)
    assert " at 0x" not in str(caught.value) and "; " not in str(caught.value), "who knows the shard has a remedy"


def test_a_stored_image_larger_than_max_pixels_is_refused_by_its_size() -> None:
    file = io.BytesIO()
    photograph(90, 60).save(file, "png")
    assert open_image(file.getvalue(), "png", 5400).size == (90, 60)
    with pytest.raises(ValueError, match=r"90 x 60 pixels, more than max_pixels \(5,399\)"):
        open_image(file.getvalue(), "png", 5399)


@pytest.mark.parametrize("memory_bytes, kind", [(16 * 20 * 784, MemoryStore), (16 * 20 * 784 - 1, ShardStore)])
def test_samples_that_do_not_fit_into_memory_stay_in_their_shards(folder: Path, memory_bytes: int, kind: type) -> None:
    shards = ShardFolder(folder / "shards")
    samples = load_samples(shards, "random", PARTS, (1, 28, 28), Room(memory_bytes, num_processes=1))
    data = load_samples(shards, "random", PARTS, (1, 28, 28))
    rows = torch.arange(0, len(data.class_id_R), 7)
    assert isinstance(samples.store, kind) and samples.class_names == data.class_names
    assert np.array_equal(samples.class_id_R, data.class_id_R)
    assert torch.equal(samples.store.gather(rows), data.store.samples[rows])
    if isinstance(samples.store, ShardStore):
        samples.store.close()


def test_the_real_omniglot(tmp_path: Path) -> None:
    params = DatasetParams(source="omniglot", invert=True, splits={
        "vinyals": RandomSplit(num_valid=100, num_test=423),
        "lake": ListSplit(test="lake_evaluation.txt", num_valid=5)})
    download_dataset("omniglot", params, tmp_path / "raw", mirror())
    manifest = shard_dataset("omniglot", params, tmp_path / "raw", tmp_path / "shards")
    assert manifest.num_samples == 1623 * 20
    assert [len(manifest.splits["vinyals"][part]) for part in ("train", "valid", "test")] == [1100, 100, 423]
    assert len(manifest.splits["lake"]["test"]) == 659
    data = load_samples(ShardFolder(tmp_path / "shards"), "vinyals", ["valid"], (1, 28, 28))
    assert data.store.samples.shape == (2000, 1, 28, 28)
    assert 15 < data.store.samples.float().mean() < 25  # thin bright strokes on black


def test_the_real_mnist(tmp_path: Path) -> None:
    params = DatasetParams(source="mnist", splits={"all": WholeSplit()}, margin=0.18)
    download_dataset("mnist", params, tmp_path / "raw", mirror())
    shard_dataset("mnist", params, tmp_path / "raw", tmp_path / "shards")
    data = load_samples(ShardFolder(tmp_path / "shards"), "all", PARTS, (1, 28, 28))
    assert data.class_names == [str(digit) for digit in range(10)]
    assert np.bincount(data.class_id_R).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
