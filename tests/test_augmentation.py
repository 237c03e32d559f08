"""Distortions: what they do to points, their bounds, and that they are a function of the episode's number."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from matchnet.augmentation import AffineSpec, _affine_matrices, distort

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
    assert 0 <= distorted.min() and distorted.max() <= 1  # a mean of neighbouring pixels, or of pixels and 0


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
])
def test_bounds_are_checked(field: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AffineSpec(**{field: value})
