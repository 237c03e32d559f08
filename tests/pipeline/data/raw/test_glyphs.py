"""The embedded dataset: which characters it has, how they are drawn, bytes that depend on the seed alone."""

import io
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from matchnet.augmentation import background
from pipeline.data.load.samples import load_samples
from pipeline.data.raw.datasets import glyphs
from pipeline.data.raw.readers.glyph_characters import Character, choose_characters, distinct_characters
from pipeline.data.raw.readers.glyph_drawing import FRAME, draw, masks, thin
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.make import shard_dataset
from pipeline.data.source_spec import GlyphParams
from pipeline.data.spec import PARTS, DatasetParams, FamilySplit, WholeSplit
from pipeline.data.splits import make_split

PARAMS = DatasetParams(source="glyphs", splits={"scripts": FamilySplit(num_valid=3, num_test=5)},
                       glyphs=GlyphParams(num_hands=4))
A_FEW = (Character("Greek", 0x03A9), Character("Hebrew", 0x05D0), Character("Lao", 0x0E81),
         Character("Latin", 0x67), Character("Operators", 0x222E), Character("Tifinagh", 0x2D3B))


@pytest.fixture(scope="module")
def characters() -> tuple[Character, ...]:
    return choose_characters(seed=0, max_per_script=80)


def test_at_least_a_thousand_characters_of_many_scripts(characters: tuple[Character, ...]) -> None:
    of_script = Counter(character.script for character in characters)
    assert len(characters) >= 1000
    assert len({character.class_name for character in characters}) == len(characters)
    assert len(of_script) >= 20 and max(of_script.values()) <= 80
    assert len({character.code_point for character in characters}) == len(characters)


def test_the_seed_decides_which_characters(characters: tuple[Character, ...]) -> None:
    assert choose_characters(seed=0, max_per_script=80) == characters
    assert set(choose_characters(seed=1, max_per_script=80)) != set(characters)


def test_split_by_script_leaves_enough_unseen_scripts(characters: tuple[Character, ...]) -> None:
    split = make_split(PARAMS.splits["scripts"], [character.class_name for character in characters])
    scripts = {part: {name.partition("/")[0] for name in names} for part, names in split.items()}
    assert 0.2 <= len(split["test"]) / len(characters) <= 0.25
    assert len(scripts["test"]) == 5 and not scripts["test"] & (scripts["train"] | scripts["valid"])


def test_no_two_classes_are_the_same_drawing(characters: tuple[Character, ...]) -> None:
    drawings = Counter(thin(next(masks(character.code_point))).tobytes() for character in characters)
    assert max(drawings.values()) == 1


def test_look_alikes_are_one_class_whatever_their_script() -> None:
    everything = {character.code_point for character in distinct_characters()}
    for alike in ("AΑА", "OΟОՕoοо", "HНΗ", "PРΡ", "cCсСϲⵎ"):
        assert len(everything & {ord(letter) for letter in alike}) <= 1, alike


def test_letters_with_diacritics_and_filled_shapes_are_left_out() -> None:
    everything = {character.code_point for character in distinct_characters()}
    assert ord("R") in everything
    assert not everything & {ord("é"), 0x04C2, 0x265F}  # e and zhe with a mark above, a black chess pawn


def test_all_hands_leave_ink_inside_the_frame(characters: tuple[Character, ...]) -> None:
    for character in characters[::12]:
        drawings = draw(character.code_point, 20, seed=0)
        assert drawings.shape == (20, FRAME, FRAME) and drawings.dtype == bool
        assert (drawings.sum(axis=(1, 2)) > 50).all(), character
        edges = np.concatenate([drawings[:, [0, -1]], drawings[:, :, [0, -1]].swapaxes(1, 2)], axis=1)
        assert not edges.any(), character


def test_hands_differ_and_depend_on_seed_character_and_number_alone() -> None:
    drawings = draw(0x03A9, 20, seed=0)
    assert len({drawing.tobytes() for drawing in drawings}) == 20
    assert np.array_equal(drawings[:5], draw(0x03A9, 5, seed=0))
    assert not any(np.array_equal(*pair) for pair in zip(drawings, draw(0x03A9, 20, seed=1), strict=True))


def test_a_pen_is_as_wide_as_omniglots() -> None:
    bar = draw(0x2223, 20, seed=0)  # DIVIDES, one upright stroke
    widths = bar.sum(axis=(1, 2)) / bar.any(axis=2).sum(axis=1)
    assert 3 <= widths.min() and widths.max() <= 7


@pytest.mark.parametrize("shape", ["dot", "diagonal", "ring"])
def test_thinning_keeps_every_part(shape: str) -> None:
    row, column = np.mgrid[:24, :24]
    away = np.hypot(row - 12, column - 12)
    diagonal, ring = (abs(row - column) < 3) & (away < 10), (away > 5) & (away < 9)
    mask = {"dot": away < 4, "diagonal": diagonal, "ring": ring}[shape]
    lines = thin(mask)
    assert lines.any() and not (lines & ~mask).any() and lines.sum() < mask.sum() / 2
    expected = {"dot": 1, "diagonal": 8, "ring": 24}[shape]
    assert lines.sum() >= expected
    assert np.array_equal(thin(lines), lines)


def test_archive_bytes_are_the_same_again_and_with_two_processes(tmp_path: Path) -> None:
    for name, num_processes in (("one", 1), ("again", 1), ("two", 2)):
        glyphs.draw_archive(tmp_path / name, A_FEW, PARAMS, num_processes)
    one = (tmp_path / "one").read_bytes()
    assert (tmp_path / "again").read_bytes() == one
    assert (tmp_path / "two").read_bytes() == one
    glyphs.draw_archive(tmp_path / "other", A_FEW, replace(PARAMS, seed=1), 1)
    assert (tmp_path / "other").read_bytes() != one


def test_samples_are_named_and_read_back_as_drawn(tmp_path: Path) -> None:
    glyphs.draw_archive(tmp_path / glyphs.ARCHIVE, A_FEW, PARAMS, 1)
    samples = glyphs.read_raw(tmp_path, PARAMS)
    assert [sample.key for sample in samples[2:5]] == ["Greek/03A9/03", "Greek/03A9/04", "Hebrew/05D0/01"]
    assert Counter(sample.class_name for sample in samples) == {each.class_name: 4 for each in A_FEW}
    read = glyphs.open_raw(tmp_path, PARAMS)
    for sample, ink in zip(samples[:4], draw(0x03A9, 4, seed=0), strict=True):
        png = read(sample)
        with Image.open(io.BytesIO(png)) as image:
            assert (image.mode, image.size, len(png)) == ("1", (FRAME, FRAME), sample.size)
            assert np.array_equal(np.asarray(image), ~ink)


def test_drawings_are_loaded_as_light_ink_on_0(tmp_path: Path) -> None:
    """So nothing needs to be said about their polarity, and distortions fill with their ground."""
    glyphs.draw_archive(tmp_path / "raw" / glyphs.ARCHIVE, A_FEW, PARAMS, 1)
    params = replace(PARAMS, splits={"all": WholeSplit()})
    assert params.invert and not replace(PARAMS, invert=False).invert
    shard_dataset("few", params, tmp_path / "raw", tmp_path / "shards")
    samples_RCHW = load_samples(ShardFolder(tmp_path / "shards"), "all", PARTS, (1, 28, 28)).store.samples
    assert (background(samples_RCHW) == 0).all()
    assert samples_RCHW.float().mean() < 64 and (samples_RCHW.amax((1, 2, 3)) > 128).all()


def test_prepare_raw_draws_what_read_raw_expects(tmp_path: Path) -> None:
    params = replace(PARAMS, glyphs=GlyphParams(num_hands=2, max_per_script=1))
    glyphs.prepare_raw(tmp_path, params)
    samples = glyphs.read_raw(tmp_path, params)
    assert len({sample.class_name for sample in samples}) >= 20
    assert set(Counter(sample.class_name for sample in samples).values()) == {2}


def test_an_archive_of_other_parameters_is_refused(tmp_path: Path) -> None:
    glyphs.draw_archive(tmp_path / glyphs.ARCHIVE, A_FEW, PARAMS, 1)
    with pytest.raises(ValueError, match=r"glyphs\.zip: its comment is '24 drawings, seed 0.* expected "
                                         r"'24 drawings, seed 7.*run the download again"):
        glyphs.read_raw(tmp_path, replace(PARAMS, seed=7))


def test_an_archive_with_a_drawing_missing_is_refused(tmp_path: Path) -> None:
    glyphs.draw_archive(tmp_path / "whole.zip", A_FEW, PARAMS, 1)
    partial_path = tmp_path / glyphs.ARCHIVE
    with zipfile.ZipFile(tmp_path / "whole.zip") as whole, zipfile.ZipFile(partial_path, "w") as partial:
        partial.comment = whole.comment
        for member in whole.infolist()[1:]:
            partial.writestr(member, whole.read(member))
    with pytest.raises(ValueError, match=r"'24 drawings.* expected '23 drawings.*drawings are missing"):
        glyphs.read_raw(tmp_path, PARAMS)


@pytest.mark.parametrize("field", ["num_hands", "max_per_script"])
def test_counts_below_one_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field}: 0 is not possible.*at least 1"):
        GlyphParams(**{field: 0})
