"""Parameters of a dataset: the `datasets:` section of params.yaml as frozen dataclasses. Light to import.

Each class checks its own values; an error names the field, the value found, the rule and what to do.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from matchnet.pictures import MAX_PIXELS

Part = Literal["train", "valid", "test"]
PARTS: tuple[Part, ...] = ("train", "valid", "test")
SOURCES = ("omniglot", "mnist", "glyphs", "ptb", "ptb_sample", "treebank3", "imagenet", "mini_imagenet", "folder",
           "webdataset")
MENDING = ("imagenet", "mini_imagenet", "folder", "webdataset")  # sources that mend odd pictures, and count them
DARK_ON_LIGHT = ("omniglot", "glyphs")  # sources whose files have dark ink on light ground
TEXT_SOURCES = ("ptb", "ptb_sample", "treebank3")  # samples are sentences, classes the words in them


def _require(holds: bool, field_name: str, value: object, rule: str, remedy: str) -> None:
    if not holds:
        raise ValueError(f"{field_name}: {value!r} is not possible: {rule}; {remedy}")


def _require_count(field_name: str, value: int, smallest: int) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    _require(whole and value >= smallest, field_name, value, f"it is a whole number of at least {smallest}",
             f"write {smallest} or more")


def _require_list(field_name: str, value: str, such_as: str) -> None:
    _require(bool(value), field_name, value, "it is a list of classes", f"name a file of pipeline/data/lists/, such as "
             f"{such_as}, or the path of your own, with a slash, such as ./{such_as}")


@dataclass(frozen=True, kw_only=True)
class _DrawnSplit:
    """In random order: some classes for test, some for valid, all others for train.

    Args:
        num_valid: how many are drawn for valid.
        num_test: how many are drawn for test.
        seed: decides which are drawn.
    """

    kind: str
    num_valid: int
    num_test: int
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_valid", "num_test", "seed"):
            _require_count(name, getattr(self, name), 0)


@dataclass(frozen=True, kw_only=True)
class RandomSplit(_DrawnSplit):
    """Classes are drawn at random."""

    kind: Literal["random"] = "random"


@dataclass(frozen=True, kw_only=True)
class FamilySplit(_DrawnSplit):
    """Whole families are drawn at random. A family is an alphabet or a script: a class name up to its first `/`."""

    kind: Literal["families"] = "families"


@dataclass(frozen=True, kw_only=True)
class _ListedSplit:
    """Test classes from a list. Some of the other families are drawn for valid; all others are for train.

    Args:
        test: a file of `pipeline/data/lists/`, or the path of your own (with a slash), one class or family a line.
        num_valid: how many families are drawn for valid.
        seed: decides which are drawn.
    """

    kind: str
    test: str
    num_valid: int
    seed: int = 0

    def __post_init__(self) -> None:
        _require_list("test", self.test, "lake_evaluation.txt")
        for name in ("num_valid", "seed"):
            _require_count(name, getattr(self, name), 0)


@dataclass(frozen=True, kw_only=True)
class ListSplit(_ListedSplit):
    """Test classes from a list. The dataset must have every class of the list."""

    kind: Literal["list"] = "list"


@dataclass(frozen=True, kw_only=True)
class CutListSplit(_ListedSplit):
    """Test classes from the list of a larger dataset. Classes that this dataset lacks are passed over.

    Example: L_dogs of ImageNet, for miniImageNet.
    """

    kind: Literal["cut_list"] = "cut_list"


@dataclass(frozen=True, kw_only=True)
class TwoListsSplit:
    """Valid and test classes from two lists; all others are for train.

    Args:
        valid: a file of `pipeline/data/lists/`, or the path of your own (with a slash), for valid.
        test: the same for test.
    """

    kind: Literal["two_lists"] = "two_lists"
    valid: str
    test: str

    def __post_init__(self) -> None:
        _require_list("valid", self.valid, "ravi_valid.txt")
        _require_list("test", self.test, "ravi_test.txt")
        _require(self.valid != self.test, "valid, test", self.valid, "a class is in one part alone",
                 "name two lists")


@dataclass(frozen=True, kw_only=True)
class WholeSplit:
    """Every class belongs to one part, as MNIST is all test after training on Omniglot.

    Args:
        part: that part.
    """

    kind: Literal["whole"] = "whole"
    part: Part = "test"

    def __post_init__(self) -> None:
        _require(self.part in PARTS, "part", self.part, f"parts are {', '.join(PARTS)}", "write one of them")


@dataclass(frozen=True, kw_only=True)
class WordSplit:
    """Words of a corpus. Some of the words outside the test are drawn for valid; all others are for train.

    A part has the sentences of its own file, too.

    Args:
        test: a file of `pipeline/data/lists/` with the test words. Null draws `num_test` words instead.
        num_test: how many test words are drawn, if `test` is null.
        num_valid: how many words are drawn for valid.
        seed: decides which are drawn.
    """

    kind: Literal["words"] = "words"
    test: str | None = None
    num_test: int | None = None
    num_valid: int
    seed: int = 0

    def __post_init__(self) -> None:
        _require((self.test is None) != (self.num_test is None), "test, num_test", (self.test, self.num_test),
                 "test words are either listed or drawn", "give one of the two and leave the other out")
        if self.test is not None:
            _require_list("test", self.test, "ptb_test_words.txt")
        for name in ("num_valid", "seed", *(["num_test"] if self.test is None else [])):
            _require_count(name, getattr(self, name), 0)


SplitParams = RandomSplit | FamilySplit | ListSplit | CutListSplit | TwoListsSplit | WholeSplit | WordSplit


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
        _require_count("num_hands", self.num_hands, 1)
        _require_count("max_per_script", self.max_per_script, 1)


def _require_held_out(images: str, held_out: int) -> None:
    _require_count("held_out", held_out, 0)
    _require(images != "held_out" or held_out > 0, "held_out", held_out, "images: held_out stores that many of each "
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
            _require_count("shorter_side", self.shorter_side, 8)
        _require(self.central_crop is None or 0 < self.central_crop <= 1, "central_crop", self.central_crop,
                 "it is a share of the shorter side", "0.875 is usual, null takes all of the photograph")
        _require(1 <= self.quality <= 95, "quality", self.quality, "a JPEG's quality is 1 to 95", "90 is usual")


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
        _require(not self.prepared or self.list == "ravi", "list", self.list, "prepared photographs are of the classes "
                 "of Ravi and Larochelle", "write list: ravi, or prepared: false")
        _require_held_out(self.images, self.held_out)
        _require_count("image_size", self.image_size, 8)


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
        _require_count("min_pictures", self.min_pictures, 0)
        if self.shorter_side is not None:
            _require_count("shorter_side", self.shorter_side, 8)
        _require(1 <= self.quality <= 95, "quality", self.quality, "a JPEG's quality is 1 to 95", "90 is usual")
        _require(self.central_crop is None or 0 < self.central_crop <= 1, "central_crop", self.central_crop,
                 "it is a share of the shorter side", "0.875 is usual, null takes all of the picture")
        _require(0 <= self.paper <= 255, "paper", self.paper, "it is a grey value, 0 (black) to 255 (white)",
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


OF_PICTURE_FILES = ("folder", "webdataset")
LOADED_ONLY = ("central_crop",)  # decide no byte of a shard
RAW_ONLY = ("path",)  # no longer matters once the pictures are listed
STORED_ONLY = ("held_out", "format", "shorter_side", "quality", "paper", "central_crop", "image_size", "keep_damaged",
               "min_pictures")  # not of raw files


@dataclass(frozen=True, kw_only=True)
class DatasetParams:
    """One dataset: where it comes from, and how its classes are split.

    Args:
        source: the module of `pipeline/data/raw/datasets` that reads it, or draws it.
        splits: the splits of its classes, by name.
        seed: decides the order of the samples in the shards, and how glyphs look.
        shard_size_mib: a shard is closed before it would grow beyond this many MiB. Where photographs are encoded anew,
            sizes are guessed, and may be off by a third.
        invert: true if ink is dark in the files: samples are loaded with ink = 255. Null is what is known of the
            source: true for Omniglot and the glyphs, false for others.
        margin: a number crops each drawing to its ink, and puts it in the middle with this share of the side free at
            each edge. MNIST has it, to fill the square as Omniglot does. Null leaves drawings where they are.
        upright: true first shears each drawing until it stands upright, since MNIST's digits lean. Needs a margin.
        max_pixels: a picture with more is refused by name, before memory is taken for it.
        glyphs: how glyphs are drawn, for the source `glyphs`.
        imagenet, mini_imagenet, folder, webdataset: for the source of that name.
    """

    source: str
    splits: Mapping[str, SplitParams]
    seed: int = 0
    shard_size_mib: float = 256
    invert: bool | None = None
    margin: float | None = None
    upright: bool = False
    max_pixels: int = MAX_PIXELS
    glyphs: GlyphParams = field(default_factory=GlyphParams)
    imagenet: ImagenetParams = field(default_factory=ImagenetParams)
    mini_imagenet: MiniImagenetParams = field(default_factory=MiniImagenetParams)
    folder: FolderParams = field(default_factory=FolderParams)
    webdataset: WebdatasetParams = field(default_factory=WebdatasetParams)

    @property
    def sample(self) -> bool:
        """Whether the raw data are only a part of the real data, so that listed items may be missing."""
        return {"imagenet": self.imagenet.sample, "mini_imagenet": self.mini_imagenet.sample}.get(self.source, False)

    @property
    def is_prepared(self) -> bool:
        """Whether the dataset uses photographs that somebody else has prepared, not ILSVRC2012's archive."""
        return self.source == "mini_imagenet" and self.mini_imagenet.prepared

    @property
    def stands_in(self) -> bool:
        """Whether the data only stand in for the paper's: figures on them say nothing about its tables."""
        return self.source in ("glyphs", "ptb_sample") or self.sample

    def shard_parameters(self) -> dict[str, Any]:
        """Parameters that the shards depend on: not the sections of other sources, nor some unchanged defaults."""
        found = {name: value for name, value in asdict(self).items() if name == self.source or name not in SOURCES}
        if self.max_pixels == MAX_PIXELS:
            del found["max_pixels"]
        if not self.upright:
            del found["upright"]
        for name in RAW_ONLY:
            found.get(self.source, {}).pop(name, None)
        return found

    @property
    def picture_files(self) -> FolderParams | WebdatasetParams:
        """The section of a source of somebody's own pictures."""
        return self.webdataset if self.source == "webdataset" else self.folder

    def raw_parameters(self) -> dict[str, Any]:
        """Parameters that the raw files depend on."""
        own = asdict(self).get(self.source, {})
        chosen = {name: value for name, value in own.items() if name not in STORED_ONLY}
        return {"source": self.source, **({"seed": self.seed} if self.source == "glyphs" else {}), **chosen}

    def __post_init__(self) -> None:
        _require(self.source in SOURCES, "source", self.source, f"there are {', '.join(SOURCES)}", "name one")
        if self.invert is None:  # so that manifests, and what stages depend on, have the value itself
            object.__setattr__(self, "invert", self.source in DARK_ON_LIGHT)
        if self.source in OF_PICTURE_FILES:
            _require(bool(self.picture_files.path), f"{self.source}.path", self.picture_files.path,
                     "it names where the pictures lie", f"write {self.source}: {{path: /home/me/pictures}}")
        _require(bool(self.splits), "splits", dict(self.splits), "a dataset needs a split",
                 "add one, such as all: {kind: whole, part: test}")
        for name in self.splits:
            _require(name.isidentifier(), "splits", name, "a split's name is part of file names",
                     "use letters, digits and underscores")
        _require_count("seed", self.seed, 0)
        _require_count("max_pixels", self.max_pixels, 1)
        _require(0 < self.shard_size_mib <= 8192, "shard_size_mib", self.shard_size_mib,
                 "a shard has more than 0 and at most 8192 MiB", "write 256, which is usual")
        _require(self.margin is None or 0 <= self.margin < 0.5, "margin", self.margin,
                 "the share left free at each edge is at least 0 and below 0.5",
                 "write 0.1, or null to leave drawings where they are")
        _require(self.margin is not None or not self.upright, "upright", self.upright,
                 "ink that was moved is cropped anew, with a margin", "write a margin too, such as 0.18")
