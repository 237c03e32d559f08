"""The preparation of pictures for a model, as the model's file stores it. Imports neither torch nor Pillow.

The work itself is done by `matchnet.pictures.pixels`, for training, for evaluation and for anyone's pictures alike.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["drawings", "photographs"]


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """A decoded and upright picture -> channels x size x size numbers in [0, 1].

    The picture becomes grey (1 channel) or RGB (3). Then it is inverted, cropped, and resized, antialiased, whatever
    its shape. Last, each byte is divided by 255.

    Args:
        kind: drawings are light ink on a dark ground when the model sees them, whatever they are in their files.
            Photographs are seen as they are. None: nothing is known of the pictures of a folder.
        invert: the model's training files had dark ink on a light ground.
        margin: None leaves a drawing where it is. Otherwise it is cropped to its ink, its longer side is scaled to
            size * (1 - 2 * margin), and it is put in the middle. For one channel.
        upright: the ink is first sheared until it stands upright; see `matchnet.pictures.pixels`. With a margin.
        central_crop: None takes the whole picture. Otherwise the square in its middle, whose side is this share of the
            picture's shorter side.
    """

    channels: Literal[1, 3]
    size: int
    kind: Kind | None = None
    invert: bool = False
    margin: float | None = None
    upright: bool = False
    central_crop: float | None = None
    resampling: Literal["bilinear"] = "bilinear"
    scaling: Literal["0 to 1"] = "0 to 1"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}; a picture has at least 1 pixel a side")
        if self.margin is not None and not 0 <= self.margin < 0.5:
            raise ValueError(f"margin is {self.margin}; the share left free at each edge is at least 0 and below 0.5")
        if self.margin is not None and self.channels != 1:
            raise ValueError(f"margin is {self.margin} with {self.channels} channels; a margin is for drawings, of one "
                             "channel: write channels 1, or margin null")
        if self.upright and self.margin is None:
            raise ValueError("upright is true without a margin; moved ink is cropped anew: write a margin too, such as "
                             "0.18")
        if self.central_crop is not None and not 0 < self.central_crop <= 1:
            raise ValueError(f"central_crop is {self.central_crop}; it is a share of the shorter side, above 0 and at "
                             "most 1")

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """The shape of one sample as the model takes it, (C, H, W)."""
        return self.channels, self.size, self.size

    def differences(self, other: "Preparation") -> list[str]:
        """Differences of two preparations in where they put a picture in the square: `margin null and 0.18`."""
        found = ((name, getattr(self, name), getattr(other, name)) for name in ("margin", "upright", "central_crop"))
        return [f"{name} {_plain(mine)} and {_plain(theirs)}" for name, mine, theirs in found if mine != theirs]


def _plain(value: float | bool | None) -> str:
    return "null" if value is None else str(value).lower()
