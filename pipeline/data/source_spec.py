"""Parameters of single sources: how glyphs are drawn, which pictures are stored, and how. Light to import.

Each class is a section of a dataset in params.yaml, named as its source, and checks its own values.
"""

from dataclasses import dataclass
from typing import Literal

from pipeline.data.checks import require, require_count


@dataclass(frozen=True, kw_only=True)
class GlyphParams:
    """How the embedded dataset is drawn.

    Args:
        num_hands: drawings of each character.
        max_per_script: characters of each script, at most, so that no script fills a part of a split. 80 gives 1,239
            characters, 5 gives 110.
    """

    num_hands: int = 20
    max_per_script: int = 80

    def __post_init__(self) -> None:
        require_count("num_hands", self.num_hands, 1)
        require_count("max_per_script", self.max_per_script, 1)


def _require_held_out(images: str, held_out: int) -> None:
    require_count("held_out", held_out, 0)
    require(images != "held_out" or held_out > 0, "held_out", held_out, "images: held_out stores that many of each "
            "class", "write how many `train` leaves out")


@dataclass(frozen=True, kw_only=True)
class ImagenetParams:
    """Which photographs of ILSVRC2012 are stored, and how.

    Args:
        images: the archive that they come from. `held_out` are images of the training archive that `train` leaves out.
        held_out: how many images of each class of the training archive `train` leaves out, the last by file name. They
            are unseen images of known classes where the validation archive is missing. 0 for the whole ImageNet.
        shorter_side: images with a longer one are scaled down to it, antialiased, and encoded as JPEG of `quality`.
            Null keeps the size, and the bytes of whole, upright JPEGs.
        quality: of the JPEGs, 1 to 95. At a shorter side of 256, 75 makes 17 KB of a photograph, 90 makes 28 KB, 95
            makes 41 KB.
        central_crop: which area of a photograph is loaded. Null takes all of it, whatever its shape. A number takes the
            square in the middle whose side is this share of the shorter side.
        sample: true if the archive has only some of the images. Its synsets and images are then not counted, and a
            split may name classes that it lacks.
        keep_damaged: true keeps a damaged JPEG as it decodes, and counts it. False refuses it.
    """

    images: Literal["train", "validation", "held_out"] = "train"
    held_out: int = 0
    shorter_side: int | None = None
    quality: int = 90
    central_crop: float | None = None
    sample: bool = False
    keep_damaged: bool = False

    def __post_init__(self) -> None:
        _require_held_out(self.images, self.held_out)
        if self.shorter_side is not None:
            require_count("shorter_side", self.shorter_side, 8)
        require(self.central_crop is None or 0 < self.central_crop <= 1, "central_crop", self.central_crop,
                "it is a share of the shorter side", "0.875 is usual, null takes all of the photograph")
        require(1 <= self.quality <= 95, "quality", self.quality, "a JPEG's quality is 1 to 95", "90 is usual")


@dataclass(frozen=True, kw_only=True)
class MiniImagenetParams:
    """Which miniImageNet, and how its images are stored.

    Args:
        list: `vinyals` is the authors' own list of 100 classes x 600. `ravi` is the list of Ravi and Larochelle (2017),
            which has other classes and images.
        prepared: true takes the prepared photographs of `ravi`, JPEGs of 84 x 84, and stores their bytes. False picks
            the listed images from ILSVRC2012's archive, and stores PNGs.
        images: `held_out` takes the images that `train` leaves out.
        held_out: how many images of each class `train` leaves out, the last by file name. 0 leaves none out.
        image_size: pixels of a side. An image of the archive is squashed to a square, antialiased. A prepared
            photograph must have this size.
        sample: true if the archive, or the prepared photographs, have only some of the images. Missing images are left
            out, and a split may name classes that are missing.
        keep_damaged: true keeps a damaged JPEG as it decodes, and counts it. False refuses it.
    """

    list: Literal["vinyals", "ravi"] = "vinyals"
    prepared: bool = False
    images: Literal["train", "held_out"] = "train"
    held_out: int = 0
    image_size: int = 84
    sample: bool = False
    keep_damaged: bool = False

    def __post_init__(self) -> None:
        require(not self.prepared or self.list == "ravi", "list", self.list, "prepared photographs are of the classes "
                "of Ravi and Larochelle", "write list: ravi, or prepared: false")
        _require_held_out(self.images, self.held_out)
        require_count("image_size", self.image_size, 8)


@dataclass(frozen=True, kw_only=True)
class _PictureFilesParams:
    """Somebody's own pictures, and how they are stored.

    Args:
        path: where the pictures lie, absolute or relative to the repository's folder. They stay there.
        min_pictures: classes with fewer pictures are left out and named in the manifest. 0 refuses an empty folder.
        format: how pictures are stored. `png` keeps every pixel. `jpg` is for large photographs, and keeps the bytes of
            whole, upright JPEGs that are not scaled.
        shorter_side: pictures with a longer one are scaled down to it, antialiased. Null keeps the size. Twice the size
            that models see leaves them room to crop.
        quality: of the JPEGs, 1 to 95.
        central_crop: which area of a picture is loaded. Null squashes the whole picture to a square. A number takes the
            square in the middle whose side is this share of the shorter side.
        paper: the grey, 0 (black) to 255 (white), that shows through where a picture is transparent.
        keep_damaged: true keeps a damaged JPEG as it decodes, and counts it. False refuses it.
    """

    path: str = ""
    min_pictures: int = 0
    format: Literal["png", "jpg"] = "png"
    shorter_side: int | None = 168
    quality: int = 90
    central_crop: float | None = None
    paper: int = 255
    keep_damaged: bool = False

    def __post_init__(self) -> None:
        require_count("min_pictures", self.min_pictures, 0)
        if self.shorter_side is not None:
            require_count("shorter_side", self.shorter_side, 8)
        require(1 <= self.quality <= 95, "quality", self.quality, "a JPEG's quality is 1 to 95", "90 is usual")
        require(self.central_crop is None or 0 < self.central_crop <= 1, "central_crop", self.central_crop,
                "it is a share of the shorter side", "0.875 is usual, null takes all of the picture")
        require(0 <= self.paper <= 255, "paper", self.paper, "it is a grey value, 0 (black) to 255 (white)",
                "255 is usual, 0 suits light drawings")


@dataclass(frozen=True, kw_only=True)
class FolderParams(_PictureFilesParams):
    """Pictures in a folder, a zip or a tar: `class/picture.png`. The name of a class is the path of its folder.

    `alphabet/character/picture.png` makes the class `alphabet/character` of the family `alphabet`. Folders that all
    pictures have in common are not part of the name.
    """


@dataclass(frozen=True, kw_only=True)
class WebdatasetParams(_PictureFilesParams):
    """Pictures in WebDataset tars that others made. `path` is a tar, or a folder of tars.

    Args:
        class_from: where the class of a sample stands: in its member `cls`, in a field of its member `json`, or in the
            folder of its key (`rose/0001.jpg`).
        json_field: that field of the member `json`.
        picture: the extension of the member that is the picture. Null if each sample has one picture.
    """

    class_from: Literal["cls", "json", "folder"] = "cls"
    json_field: str = "label"
    picture: str | None = None
