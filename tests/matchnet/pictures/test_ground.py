"""Drawings on paper that is not pure are brought to the ground that models know; clean ones stay as they are."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw

from matchnet import OneShotClassifier
from matchnet.pictures.ground import as_the_model_sees, on_pure_ground


def cross(ink: int = 0, paper: int = 255, side: int = 120, width: int = 10) -> Image.Image:
    image = Image.new("L", (side, side), paper)
    low, high = round(side * 0.25), round(side * 0.75)
    ImageDraw.Draw(image).line((low, low, high, high), fill=ink, width=width)
    ImageDraw.Draw(image).line((low, high, high, low), fill=ink, width=width)
    return image


def disc(ink: int = 0, paper: int = 255, side: int = 120) -> Image.Image:
    image = Image.new("L", (side, side), paper)
    ImageDraw.Draw(image).ellipse((side * 0.1, side * 0.1, side * 0.9, side * 0.9), fill=ink)
    return image


def shaded(image: Image.Image, noise: float = 5.0) -> Image.Image:
    """A photograph of the paper: darker to the right, and with the sensor's noise."""
    pixels_HW = np.asarray(image, np.float64)
    dark_HW = np.linspace(0, 60, image.width) * np.linspace(0.5, 1, image.height)[:, None]
    noisy_HW = pixels_HW - dark_HW + np.random.default_rng(0).normal(0, noise, pixels_HW.shape)
    return Image.fromarray(noisy_HW.clip(0, 255).astype(np.uint8))


SPOILT: dict[str, Callable[[Image.Image], Image.Image]] = {
    "paper 254": lambda image: image.point(lambda value: min(value, 254)),
    "paper 200, ink 40": lambda image: image.point(lambda value: 40 + value * 160 // 255),
    "pencil": lambda image: image.point(lambda value: 150 + value * 105 // 255),
    "photograph": lambda image: shaded(image.point(lambda value: 40 + value * 160 // 255)),
    "large photograph": lambda image: shaded(image.resize((1500, 1500))).convert("L"),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("drawn", [cross, disc])
@pytest.mark.parametrize("dark_ink", [True, False])
def test_ink_is_found_where_it_was_drawn(drawn: Callable[[], Image.Image], spoil: Callable, dark_ink: bool) -> None:
    spoilt = spoil(drawn())
    found = on_pure_ground(spoilt if dark_ink else Image.eval(spoilt, lambda value: 255 - value), dark_ink)
    assert found is not None
    ink_HW = np.asarray(found.resize((120, 120), Image.Resampling.BILINEAR)) / 255
    ink_HW = 1 - ink_HW if dark_ink else ink_HW
    drawn_HW = np.asarray(drawn()) < 128
    assert (ink_HW[~drawn_HW] < 0.02).mean() > 0.94, "paper is pure"
    assert (ink_HW[drawn_HW] > 0.6).mean() > 0.9, "ink is full, a filled disc inside too"


def test_a_clean_drawing_stays_as_it_is() -> None:
    for drawn in (cross(), disc(), cross().resize((77, 91), Image.Resampling.BICUBIC)):
        assert np.array_equal(on_pure_ground(drawn, True), drawn)


def test_faint_specks_far_from_ink_go_and_soft_edges_stay() -> None:
    drawn = cross().resize((200, 200), Image.Resampling.BICUBIC)
    specked = drawn.copy()
    specked.paste(225, (3, 3, 6, 6))
    assert np.array_equal(on_pure_ground(specked, True), on_pure_ground(drawn, True))


@pytest.mark.parametrize("blank", [Image.new("L", (60, 40), 255), Image.new("L", (60, 40)),
                                   shaded(Image.new("L", (200, 150), 210))], ids=["white", "black", "paper"])
def test_paper_alone_has_no_ink(blank: Image.Image) -> None:
    assert on_pure_ground(blank, True) is None
    classifier = OneShotClassifier("omniglot").fit([cross(), disc()], ["cross", "disc"])
    with pytest.warns(UserWarning, match=r"picture 1: nothing stands out from the ground, so what is said of it means"):
        classifier.predict([cross(), blank])


def test_photographs_of_drawings_are_told_apart_and_clean_can_be_switched_off() -> None:
    queries = [shaded(drawn(ink=40, paper=200)) for drawn in (cross, disc)]
    for clean in (True, False):
        classifier = OneShotClassifier("omniglot", margin=0.18, clean=clean).fit([cross(), disc()], ["cross", "disc"])
        preparation = classifier.encoder_.preparation
        assert preparation is not None
        seen, _ = as_the_model_sees(queries[0], preparation, "auto", clean)
        assert ((seen > 32).mean() < 0.3) == clean, "without cleaning, all of the paper is ink"
        if clean:
            assert classifier.predict(queries).tolist() == ["cross", "disc"]
