"""Distortions: what they do to points, their bounds, and that they are a function of the episode's number."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from matchnet.augmentation import AffineSpec, _affine_matrices, background, distort

NOTHING = AffineSpec(0, 0, 0, 0)


def images(E: int = 4, T: int = 3, size: int = 12) -> Tensor:
    return torch.rand(E, T, 1, size, size, generator=torch.Generator().manual_seed(0))


def random_uniform(count: int = 500) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (count, 7))


def test_bounds_of_zero_change_nothing() -> None:
    image_ETCHW = images()
    torch.testing.assert_close(distort(image_ETCHW, NOTHING, 0, range(4)), image_ETCHW, atol=1e-5, rtol=0)


def test_the_same_however_episodes_are_split_over_calls() -> None:
    image_ETCHW = images()
    together = distort(image_ETCHW, AffineSpec(), 3, [5, 6, 7, 900])
    for e, number in enumerate([5, 6, 7, 900]):
        assert torch.equal(distort(image_ETCHW[e:e + 1], AffineSpec(), 3, [number])[0], together[e])
    backwards = distort(image_ETCHW.flip(0), AffineSpec(), 3, [900, 7, 6, 5])
    assert torch.equal(backwards.flip(0), together)


def test_seed_episode_and_image_each_get_their_own_distortion() -> None:
    image_ETCHW = images(1, 1).expand(4, 3, -1, -1, -1)
    distorted = distort(image_ETCHW, AffineSpec(), 0, range(4)).flatten(0, 1)
    others = distort(image_ETCHW, AffineSpec(), 1, range(4)).flatten(0, 1)
    everything = torch.cat([distorted, others]).flatten(1)
    distance = torch.cdist(everything, everything) + torch.eye(24) * 100
    assert distance.min() > 0.1


def test_shape_type_and_range_are_kept() -> None:
    distorted = distort(images(), AffineSpec(), 0, range(4))
    assert distorted.shape == (4, 3, 1, 12, 12) and distorted.dtype == torch.float32
    assert -1e-6 <= distorted.min() and distorted.max() <= 1 + 1e-6  # a mean of neighbours, or of pixels and background


def drawings(ground: float, ink: float) -> Tensor:
    """A stroke that touches the lower edge, on ground that differs from channel to channel."""
    image_ETCHW = (torch.full((40, 2, 3, 20, 16), ground) + torch.tensor([0, 0.125, 0.25])[:, None, None])
    image_ETCHW[..., 4:, 6:9] = ink
    return image_ETCHW


@pytest.mark.parametrize("ground, ink", [(0.0, 1.0), (0.75, 0.0), (0.25, 1.0)])
def test_what_was_outside_is_background(ground: float, ink: float) -> None:
    """Every pixel is between ground and ink, and those that came from far outside are the ground itself."""
    image_ETCHW = drawings(ground, ink)
    assert torch.equal(background(image_ETCHW.flatten(0, 1))[..., 0, 0], image_ETCHW[..., 0, 0].flatten(0, 1))
    far_ETCHW = distort(image_ETCHW, AffineSpec(30.0, 0.5, 0.5, 8.0), 0, range(40))
    low, high = image_ETCHW.amin((0, 1, 3, 4)), image_ETCHW.amax((0, 1, 3, 4))
    assert (far_ETCHW.amin((0, 1, 3, 4)) >= low - 1e-6).all() and (far_ETCHW.amax((0, 1, 3, 4)) <= high + 1e-6).all()
    corner_ETC = distort(image_ETCHW, AffineSpec(10.0, 0, 0, 0), 0, range(40))[..., 0, 0]
    torch.testing.assert_close(corner_ETC, image_ETCHW[..., 0, 0], atol=1e-6, rtol=0)


def test_a_drawing_is_distorted_alike_whatever_its_polarity() -> None:
    image_ETCHW = drawings(0.0, 1.0)
    inverted = 1 - distort(1 - image_ETCHW, AffineSpec(), 0, range(40))
    torch.testing.assert_close(inverted, distort(image_ETCHW, AffineSpec(), 0, range(40)), atol=1e-6, rtol=0)


def test_where_the_background_is_0_it_is_bit_for_bit_what_zeros_around_the_image_give() -> None:
    image_ETCHW = drawings(0.0, 1.0)[:, :, :1]
    theta_B23 = torch.from_numpy(_affine_matrices(random_uniform(80), AffineSpec(), 20, 16)).float()
    grid_BHW2 = torch.nn.functional.affine_grid(theta_B23, [80, 1, 20, 16], align_corners=False)
    zeros = torch.nn.functional.grid_sample(image_ETCHW.flatten(0, 1), grid_BHW2, align_corners=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matchnet.augmentation._affine_matrices", lambda *_: theta_B23.numpy())
        assert torch.equal(distort(image_ETCHW, AffineSpec(), 0, range(40)).flatten(0, 1), zeros)


def test_reflection_continues_a_photograph() -> None:
    """Stripes go on as stripes of the same two values: no edge is seen where the original ends."""
    stripes = torch.zeros(60, 1, 3, 16, 16)
    stripes[..., ::2] = 1
    moved = distort(stripes, AffineSpec(0, 0, 0, 6.0, fill="reflection"), 0, range(60))
    assert torch.allclose((moved[..., 1:] + moved[..., :-1])[..., 7], torch.ones(()), atol=1e-5)
    assert (moved.mean((-1, -2)) - 0.5).abs().max() < 0.07
    torch.testing.assert_close(distort(images(), AffineSpec(0, 0, 0, 0, fill="reflection"), 0, range(4)), images(),
                               atol=1e-5, rtol=0)


def test_all_channels_move_together() -> None:
    image_ETCHW = images().expand(-1, -1, 3, -1, -1)
    distorted = distort(image_ETCHW, AffineSpec(), 0, range(4))
    assert torch.equal(distorted[:, :, 0], distorted[:, :, 2])


def test_about_half_of_the_images_are_mirrored_and_nothing_else_changes() -> None:
    image_ETCHW = images(200, 5)
    as_is, mirrored = (distort(image_ETCHW, AffineSpec(0, 0, 0, 0, mirror), 0, range(200)) for mirror in (False, True))
    left_right = as_is.flip(-1)
    turned = torch.isclose(mirrored, left_right, atol=1e-5).flatten(2).all(-1)
    kept = torch.isclose(mirrored, as_is, atol=1e-5).flatten(2).all(-1)
    assert (turned ^ kept).all() and 430 < turned.sum() < 570
    both = distort(image_ETCHW, AffineSpec(mirror=True), 0, range(200))  # the other distortions stay what they were
    where = kept.nonzero()[0]
    assert torch.equal(both[tuple(where)], distort(image_ETCHW, AffineSpec(), 0, range(200))[tuple(where)])


def test_translation_is_in_pixels_and_bounded() -> None:
    """A bright pixel moves by at most two pixels either way, and comes near that bound both ways."""
    image_ETCHW = torch.zeros(300, 1, 1, 15, 21)
    image_ETCHW[..., 7, 10] = 1
    moved = distort(image_ETCHW, AffineSpec(0, 0, 0, 2.0), 0, range(300))[:, 0, 0]
    torch.testing.assert_close(moved.sum((1, 2)), torch.ones(300))  # shared by 4 neighbours, nothing lost
    for centre, profile in ((7, moved.sum(2)), (10, moved.sum(1))):
        shift = profile @ torch.arange(profile.shape[1], dtype=torch.float32) - centre
        assert shift.abs().max() <= 2.001
        assert shift.min() < -1.8 and shift.max() > 1.8
        assert abs(shift.mean().item()) < 4 * 2 / math.sqrt(3 * 300)


@pytest.mark.parametrize("name, bound", [("rotation", 10.0), ("scale", 0.15), ("shear", 0.15)])
def test_matrices_are_within_their_bounds(name: str, bound: float) -> None:
    bounds = dict.fromkeys(("max_rotation", "max_shear", "max_scale", "max_translation"), 0.0)
    matrix_B23 = _affine_matrices(random_uniform(), AffineSpec(**bounds | {f"max_{name}": bound}), 20, 20)
    A = matrix_B23[:, :, :2]
    if name == "rotation":  # angle by angle, and nothing but a rotation
        amount = np.degrees(np.arctan2(A[:, 1, 0], A[:, 0, 0]))
        np.testing.assert_allclose(A @ A.transpose(0, 2, 1), np.broadcast_to(np.eye(2), A.shape), atol=1e-12)
        np.testing.assert_allclose(np.linalg.det(A), 1)
    elif name == "scale":
        amount = A[:, [0, 1], [0, 1]] - 1
        assert (A[:, [0, 1], [1, 0]] == 0).all()
    else:
        amount = A[:, [0, 1], [1, 0]]
        assert (A[:, [0, 1], [0, 1]] == 1).all()
    assert np.abs(amount).max() <= bound + 1e-9
    assert amount.min() < -0.95 * bound and amount.max() > 0.95 * bound
    assert (matrix_B23[:, :, 2] == 0).all()


@pytest.mark.parametrize("height, width", [(33, 33), (21, 41)])
def test_a_rotation_turns_by_its_angle_whatever_the_shape_of_the_image(height: int, width: int) -> None:
    """A bright pixel right of the centre stays at its distance; its direction turns by the angle drawn."""
    image_ETCHW = torch.zeros(40, 1, 1, height, width)
    image_ETCHW[..., height // 2, width // 2 + 10] = 1
    turned = distort(image_ETCHW, AffineSpec(30.0, 0, 0, 0), 0, range(40))[:, 0, 0]
    turned = turned / turned.sum((1, 2), keepdim=True)
    y = turned.sum(2) @ torch.arange(height, dtype=torch.float32) - height // 2
    x = turned.sum(1) @ torch.arange(width, dtype=torch.float32) - width // 2
    torch.testing.assert_close(torch.hypot(x, y), torch.full((40,), 10.0), atol=0.15, rtol=0)
    assert torch.rad2deg(torch.atan2(y, x)).abs().max() <= 31


@pytest.mark.parametrize("field, value, message", [
    ("max_rotation", -1.0, "max_rotation is -1.0; a bound is at least 0"),
    ("max_translation", -2.0, "max_translation is -2.0; a bound is at least 0"),
    ("max_scale", 1.0, "max_scale is 1.0; it must be below 1, or images vanish"),
    ("fill", "black", "fill is 'black'; write background for drawings or reflection for photographs"),
])
def test_bounds_and_fill_are_checked(field: str, value: float | str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AffineSpec(**{field: value})
