"""The stream of training images: each once an epoch, the same however many processes make it; they end with it."""

import io
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from places import ROOT, TESTS
from small_omniglot import mirror

from matchnet.files import sha256_of
from matchnet.random_words import random_words, to_uniform
from pipeline.data.formats.tar import TarWriter
from pipeline.data.load.crop import WORDS, CropSpec, crop, random_box
from pipeline.data.load.samples import load_samples
from pipeline.data.load.stream import CROP_STREAM, RUN, ShardStream, StreamSpec, killed_loaders_named, loaders_that_fit
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.index import INDEX, write_index
from pipeline.data.shards.manifest import MANIFEST, ClassEntry, Manifest, ShardEntry, write_manifest
from pipeline.data.shards.reader import ShardReader
from pipeline.workers.processes import WorkerKilledError

WHOLE = CropSpec(smallest=1.0, flip=False)  # of a square image
SHAPE = (1, 16, 16)
NUM_IMAGES = 200  # of the ten training classes


def stream_of(shards: Path, spec: CropSpec = WHOLE, shape: tuple[int, ...] = SHAPE, split: str = "random",
              seed: int = 3, num_loaders: int = 0, shared_bytes: int | None = None) -> ShardStream:
    wanted = StreamSpec(split, ("train",), shape, names_of(shards, split), spec, seed)
    return ShardStream(ShardFolder(shards), wanted, num_loaders, shared_bytes)


def names_of(shards: Path, split: str = "random") -> list[str]:
    return sorted(ShardFolder(shards).manifest.splits[split]["train"])


# ---- the order ----


def test_every_epoch_has_each_image_once_in_another_order(small_shards: Path) -> None:
    stream = stream_of(small_shards)
    assert len(stream) == NUM_IMAGES
    epochs = stream.positions(range(4 * NUM_IMAGES)).reshape(4, NUM_IMAGES)
    assert np.array_equal(np.sort(epochs), np.tile(np.arange(NUM_IMAGES), (4, 1)))
    assert len(np.unique(epochs, axis=0)) == 4
    assert not np.array_equal(epochs[0], stream_of(small_shards, seed=4).positions(range(NUM_IMAGES)))


def test_the_images_are_those_of_the_training_classes(small_shards: Path) -> None:
    stream = stream_of(small_shards)
    names = names_of(small_shards)
    keys = stream.index.key_R.take(stream.row_R).to_pylist()
    assert sorted({key.rpartition("/")[0] for key in keys}) == names
    assert [names[position] for position in stream.class_R] == [key.rpartition("/")[0] for key in keys]
    assert {entry.group for entry in ShardFolder(small_shards).manifest.shards} - {
        name.rpartition("-")[0] for name in {stream.index.shards[s] for s in stream.index.shard_R[stream.row_R]}}, \
        "some shards are not read"


def test_shards_of_other_classes_need_not_be_there(small_shards: Path, tmp_path: Path) -> None:
    shards = shutil.copytree(small_shards, tmp_path / "shards")
    others = [entry.name for entry in ShardFolder(shards).manifest.shards
              if "random_train" not in entry.group.split("+")]
    for name in others:
        (shards / name).unlink()
    images, _ = stream_of(shards).read(range(NUM_IMAGES))
    assert others and torch.equal(images, stream_of(small_shards).read(range(NUM_IMAGES))[0])


def test_an_order_is_of_runs_that_are_cut_at_other_places_in_each_epoch(small_shards: Path) -> None:
    stream = stream_of(small_shards)
    shard_R = stream.index.shard_R[stream.row_R]
    cuts = set()
    for epoch in range(3):
        order = stream.positions(range(epoch * NUM_IMAGES, (epoch + 1) * NUM_IMAGES))
        follows = (np.diff(order) == 1) & (np.diff(shard_R[order]) == 0)
        runs = np.split(order, np.flatnonzero(~follows) + 1)
        assert len(runs) <= NUM_IMAGES / RUN + 2 * len(np.unique(shard_R))
        assert all(len(set(shard_R[run])) == 1 for run in runs)
        cuts.add(frozenset(int(run[0]) for run in runs))
    assert len(cuts) == 3


def test_a_share_of_the_middle_is_the_middle_of_the_whole(small_shards: Path) -> None:
    """So resuming at any step, with any number of workers, goes on with the same images: crops and all."""
    stream = stream_of(small_shards, CropSpec())
    image_BCHW, class_B = stream.read(range(2 * NUM_IMAGES))
    for numbers in (range(0, 7), range(150, 260), range(399, 400)):
        again, class_again = stream_of(small_shards, CropSpec()).read(numbers)
        assert torch.equal(again, image_BCHW[numbers.start:numbers.stop])
        assert torch.equal(class_again, class_B[numbers.start:numbers.stop])


# ---- the pixels ----


def test_uncropped_images_are_those_of_the_store_in_memory(small_shards: Path) -> None:
    """Bright ink as well: the same pixels for the same image, of whatever shard."""
    stream, data = stream_of(small_shards), load_samples(ShardFolder(small_shards), "random", ("train",), SHAPE)
    image_BCHW, class_B = stream.read(range(NUM_IMAGES))
    classes = [data.class_names[c] for c in data.class_id_R]
    names = sorted(set(classes))
    expected = sorted((names.index(name), image.numpy().tobytes())
                      for name, image in zip(classes, data.store.samples, strict=True))
    assert sorted((int(c), image.contiguous().numpy().tobytes())
                  for c, image in zip(class_B, image_BCHW, strict=True)) == expected


def photo_shards(folder: Path, samples: dict[str, bytes]) -> Path:
    """One shard of one class, of samples by their file names."""
    folder.mkdir()
    offsets = []
    with open(folder / "all_train-000000.tar", "wb") as file:
        tar = TarWriter(file)
        offsets = [tar.add(name, content) for name, content in samples.items()]
        tar.finish()
    count = len(samples)
    write_index(folder / INDEX, {
        "key": [name.partition(".")[0] for name in samples], "shard": ["all_train-000000.tar"] * count,
        "offset": offsets, "length": [len(content) for content in samples.values()], "class_id": [0] * count,
        "class_name": ["n01"] * count, "group": ["all_train"] * count})
    write_manifest(folder, Manifest(
        name="photos", num_samples=count, classes=(ClassEntry("n01", "all_train", count),),
        splits={"all": {"train": ["n01"], "valid": [], "test": []}}, index_sha256=sha256_of(folder / INDEX), sources={},
        shards=(ShardEntry("all_train-000000.tar", "all_train", tar.size, count, tar.digest.hexdigest()),),
        parameters={"source": "imagenet", "invert": False, "margin": None}))
    return folder


def test_photographs_of_the_mirror_are_cropped_as_pillow_crops_them(tmp_path: Path) -> None:
    photos = sorted(Path(mirror(), "imagenet/full_size").glob("*.JPEG"))[:6]
    if not photos:
        pytest.skip("the mirror has no photographs")
    folder = photo_shards(tmp_path / "shards", {f"n01/{p.stem}.jpg": p.read_bytes() for p in photos})
    stream = stream_of(folder, CropSpec(), (3, 64, 64), "all")
    image_BCHW, class_B = stream.read(range(2 * len(photos)))
    assert image_BCHW.shape == (12, 3, 64, 64) and image_BCHW.dtype == torch.uint8 and class_B.tolist() == [0] * 12
    for number, position in enumerate(stream.positions(range(12))):
        photo = Image.open(photos[position])
        uniform_W = to_uniform(random_words(3, CROP_STREAM, [number], WORDS))[0]
        box = random_box(photo.width, photo.height, 0.08, uniform_W[1:])
        expected = photo.resize((64, 64), Image.Resampling.BILINEAR, box=box)
        if uniform_W[0] < 0.5:
            expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        found = image_BCHW[number].permute(1, 2, 0).numpy().astype(int)
        assert np.abs(found - np.asarray(expected, int)).max() <= 1, photos[position].name


def image_file(mode: str, format: str) -> bytes:
    """A gradient."""
    file = io.BytesIO()
    Image.fromarray(np.arange(0, 240, 10, np.uint8).repeat(24).reshape(24, 24)).convert(mode).save(file, format)
    return file.getvalue()


def test_grey_images_have_three_equal_channels_where_colours_are_wanted(tmp_path: Path) -> None:
    folder = photo_shards(tmp_path / "shards", {
        "n01/a.jpg": image_file("L", "jpeg"), "n01/b.png": image_file("1", "png"),
        "n01/c.png": image_file("RGB", "png"), "n01/d.jpg": image_file("RGB", "jpeg")})
    image_BCHW, _ = stream_of(folder, WHOLE, (3, 12, 12), "all").read(range(4))
    assert torch.equal(image_BCHW, image_BCHW[:, :1].expand(-1, 3, -1, -1)) and image_BCHW.float().std() > 20
    assert stream_of(folder, WHOLE, (1, 12, 12), "all").read(range(4))[0].shape == (4, 1, 12, 12)


# ---- crops ----


def test_crops_lie_in_the_image_and_their_areas_are_even() -> None:
    uniform_NW = np.random.default_rng(0).random((4000, WORDS - 1))
    boxes = np.array([random_box(500, 400, 0.08, uniform_W) for uniform_W in uniform_NW])
    left, top, right, bottom = boxes.T
    width, height = right - left, bottom - top
    share = width * height / (500 * 400)
    assert (boxes[:, :2] >= 0).all() and (right <= 500).all() and (bottom <= 400).all()
    assert 0.08 <= share.min() < 0.09 and 0.99 < share.max() <= 1
    assert (width / height).min() >= 3 / 4 - 1e-9 and (width / height).max() <= 4 / 3 + 1e-9
    small = share[share < 0.5]  # which always fit
    assert np.mean(small < 0.29) == pytest.approx(0.5, abs=0.04)
    assert np.median(np.log(width / height)[share < 0.5]) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(("size", "box"), [((400, 400), (0, 0, 400, 400)), ((900, 300), (250, 0, 650, 300)),
                                           ((30, 90), (0, 25, 30, 65))])
def test_where_no_patch_fits_the_largest_in_the_middle_is_taken(
        size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    uniform_W = np.tile([1.0, 0.7, 0.2, 0.2], (WORDS - 1) // 4)
    assert random_box(*size, 1.0, uniform_W) == pytest.approx(box)


def test_half_of_the_images_are_mirrored() -> None:
    image = Image.fromarray(np.arange(100, dtype=np.uint8).reshape(10, 10))
    plain = crop(image, 1, 10, CropSpec(1.0, flip=True), np.full(WORDS, 0.5))
    mirrored = crop(image, 1, 10, CropSpec(1.0, flip=True), np.append(0.49, np.full(WORDS - 1, 0.5)))
    never = crop(image, 1, 10, CropSpec(1.0, flip=False), np.append(0.49, np.full(WORDS - 1, 0.5)))
    assert np.array_equal(plain[..., 0], np.asarray(image)) and np.array_equal(never, plain)
    assert np.array_equal(mirrored[..., 0], np.asarray(image)[:, ::-1])


# ---- processes ----


def ended(pids: set[int], patience: float = 20) -> bool:
    end = time.monotonic() + patience
    while any(is_alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(is_alive(pid) for pid in pids)


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_loader_processes_give_the_same_name_what_is_damaged_and_end(small_shards: Path, tmp_path: Path) -> None:
    shards = shutil.copytree(small_shards, tmp_path / "shards")
    here, loaded = stream_of(shards, CropSpec()), stream_of(shards, CropSpec(), num_loaders=2)
    shares = [range(start, start + 25) for start in range(0, NUM_IMAGES, 25)]
    place = damage(shards, here, number=160)
    random_state = torch.get_rng_state()
    batches = loaded.read_each(shares)
    for numbers in shares[:6]:
        for found, expected in zip(next(batches), here.read(numbers), strict=True):
            assert torch.equal(found, expected), numbers
    loaders = multiprocessing.active_children()
    assert len(loaders) == 2
    with pytest.raises(ValueError, match=rf"{place}: not a whole png image .*; run the shard stage again$"):
        next(batches)
    assert [loader.exitcode for loader in loaders] == [0, 0] and torch.equal(torch.get_rng_state(), random_state)


def damage(shards: Path, stream: ShardStream, number: int, at: int = 20) -> str:
    """Overwrite the image of this number, from its byte `at` on; returns where that is."""
    row = stream.row_R[stream.positions(range(number, number + 1))[0]]
    index = stream.index
    with open(shards / index.shards[index.shard_R[row]], "r+b") as file:
        file.seek(index.offset_R[row] + at)
        file.write(b"\0" * 60)
    return re.escape(index.described(row))


@pytest.mark.parametrize(("num_loaders", "shared_bytes", "expected"), [
    (32, 6500, (32, 2)), (32, 6499, (32, 1)), (32, 3300, (32, 1)), (32, 3299, (31, 1)), (32, 300, (2, 1)),
    (1, 299, (1, 1)), (2, 199, (1, 1)), (8, 0, (1, 1))])
def test_batches_ahead_fit_into_the_memory_that_is_shared(num_loaders: int, shared_bytes: int,
                                                          expected: tuple[int, int]) -> None:
    """Of 100 bytes each, with the one that is read."""
    assert loaders_that_fit(num_loaders, 100, shared_bytes) == expected


def test_little_shared_memory_changes_nothing_but_the_number_of_loaders(
        small_shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shares = [range(start, start + 25) for start in range(0, 100, 25)]
    loaded = stream_of(small_shards, CropSpec(), num_loaders=3, shared_bytes=3 * 25 * 256)
    batches = loaded.read_each(shares)
    for numbers in shares:
        for found, expected in zip(next(batches), stream_of(small_shards, CropSpec()).read(numbers), strict=True):
            assert torch.equal(found, expected), numbers
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert capsys.readouterr().err == (
        "2 of 3 loader processes with 1 of 2 batches ahead each: a batch has 0 MB, and they may fill 0 MB of shared "
        "memory; a container has more with --shm-size\n")
    assert list(loaded.read_each([])) == []


def test_a_loader_process_that_is_killed_names_the_parameter(small_shards: Path) -> None:
    message = (r"a worker process was killed \(out of memory\?\) or could not start: set cluster\.num_loaders below 2, "
               "or run it where more memory is free$")
    with pytest.raises(WorkerKilledError, match=message), killed_loaders_named(2):
        shares = (range(n, n + 2) for n in range(10**6))
        # closed here, or torch would speak of the killed loader again when the other one ends, wherever we are then
        with closing(stream_of(small_shards, num_loaders=2).read_each(shares)) as batches:
            next(batches)
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
            for _ in batches:
                time.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_loader_processes_end_with_a_parent_that_is_killed(small_shards: Path) -> None:
    script = TESTS / "streaming_process.py"
    parent = subprocess.Popen([sys.executable, script, small_shards, *names_of(small_shards)],
                              stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert parent.stdout is not None
    loaders = {int(pid) for pid in parent.stdout.readline().split()}
    assert len(loaders) == 1 and all(is_alive(pid) for pid in loaders)
    os.kill(parent.pid, signal.SIGKILL)
    assert parent.wait() == -signal.SIGKILL and ended(loaders)


# ---- what goes wrong ----


def test_a_damaged_image_and_a_damaged_header_are_named(small_shards: Path, tmp_path: Path) -> None:
    for number, at, reason in ((40, 20, "not a whole png image"), (90, -512, "no tar from|the shard has nothing")):
        shards = shutil.copytree(small_shards, tmp_path / str(number))
        place = damage(shards, stream_of(shards), number, at)
        with pytest.raises(ValueError, match=rf"{number}: {place}: ({reason}).*; run the shard stage again"):
            stream_of(shards).read(range(number, number + 1))


def test_another_image_in_the_place_of_one_is_refused(small_shards: Path, tmp_path: Path) -> None:
    """Of the same size, so that the index fits: only its key tells."""
    shards = shutil.copytree(small_shards, tmp_path / "shards")
    stream = stream_of(shards)
    row = stream.row_R[stream.positions(range(1))[0]]
    with (ShardReader(ShardFolder(shards)) as reader,
          open(shards / reader.index.shards[reader.index.shard_R[row]], "r+b") as file):
        file.seek(reader.index.offset_R[row] - 512)
        name = f"{reader.index.key_R[row]}.png"
        header = TarWriter(io.BytesIO())
        header.add(name.replace("character", "CHARACTER"), reader.read(row))
        file.write(header.file.getvalue()[:512])  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"key \S+/character\S+, offset \d+: the shard has \S+/CHARACTER\S+ in its pl"):
        stream.read(range(1))


def test_drawings_with_a_margin_and_unknown_splits_are_refused(small_shards: Path, tmp_path: Path) -> None:
    shards = shutil.copytree(small_shards, tmp_path / "shards")
    (shards / MANIFEST).unlink()
    manifest = ShardFolder(small_shards).manifest
    write_manifest(shards, replace(manifest, parameters={**manifest.parameters, "margin": 0.1}))
    with pytest.raises(ValueError, match=r"small: margin is 0.1, which is for drawings; a random crop is for photogr"):
        stream_of(shards)
    with pytest.raises(ValueError, match="small: train of split nothing have no images to train on"):
        write_manifest(shards, replace(manifest, splits={"nothing": {"train": [], "valid": [], "test": []}}))
        stream_of(shards, split="nothing")
    with pytest.raises(ValueError, match="'dev' is not a split of small"):
        ShardStream(ShardFolder(small_shards), StreamSpec("dev", ("train",), SHAPE, [], WHOLE, seed=0))
