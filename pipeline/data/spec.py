"""What a dataset is made with: the `datasets:` section of params.yaml as frozen dataclasses. Light to import.

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
    """In random order: `num_test` for test, `num_valid` for valid, all others for train."""

    kind: str
    num_valid: int
    num_test: int
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_valid", "num_test", "seed"):
            _require_count(name, getattr(self, name), 0)


@dataclass(frozen=True, kw_only=True)
class RandomSplit(_DrawnSplit):
    """Classes are drawn."""

    kind: Literal["random"] = "random"


@dataclass(frozen=True, kw_only=True)
class FamilySplit(_DrawnSplit):
    """Whole families are drawn: an alphabet, a script; the class name up to its first `/`."""

    kind: Literal["families"] = "families"


@dataclass(frozen=True, kw_only=True)
class _ListedSplit:
    """Test classes from a list in `pipeline/data/lists/`, one class or family a line; `num_valid` families
    of the others, at random, for valid; all others for train."""

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
    """The dataset has every class of the list."""

    kind: Literal["list"] = "list"


@dataclass(frozen=True, kw_only=True)
class CutListSplit(_ListedSplit):
    """The list is of a larger dataset (L_dogs of ImageNet, for miniImageNet): its other classes are passed over."""

    kind: Literal["cut_list"] = "cut_list"


@dataclass(frozen=True, kw_only=True)
class TwoListsSplit:
    """Valid and test classes from two lists in `pipeline/data/lists/`; all others for train."""

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
    """Every class belongs to one part (MNIST after training on Omniglot: all of it is test)."""

    kind: Literal["whole"] = "whole"
    part: Part = "test"

    def __post_init__(self) -> None:
        _require(self.part in PARTS, "part", self.part, f"parts are {', '.join(PARTS)}", "write one of them")


@dataclass(frozen=True, kw_only=True)
class WordSplit:
    """Words of a corpus: for test those of a list in `pipeline/data/lists/`, or `num_test` at random; `num_valid` of
    the others, at random, for valid; all others for train. A part has the sentences of its own file as well."""

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
    """How the embedded dataset is drawn: `num_hands` drawings a character, up to `max_per_script` characters
    of a script (80 gives 1,239 characters, 5 gives 110), so that no script fills a part of a split."""

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
        images: of which archive; `held_out` are images of the training archive that `train` leaves out.
        held_out: the last so many images of each class of the training archive, by file name: unseen images of
            seen classes where there is no validation archive (the stand-in). 0 with the real ones.
        shorter_side: images whose shorter side is longer are scaled down to it, antialiased, and encoded as JPEG of
            `quality`; null keeps their size. Bytes of whole, upright JPEGs that are not scaled stay as they are.
        quality: 1 to 95. At a shorter side of 256, 90 makes 28 KB of a photograph, 95 makes 41 KB, 75 makes 17 KB.
        central_crop: how they are loaded: null takes all of a photograph, whatever its shape; else the square in its
            middle whose side is this share of the shorter one.
        sample: the archive is a part of the real one: its synsets and images are not counted, and a split may name
            classes that it lacks.
        keep_damaged: a JPEG that can be decoded only with errors is kept as it decodes, and counted; else refused.
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
        list: `vinyals` is the authors' own list of 100 classes x 600, `ravi` that of Ravi and Larochelle (2017), of
            other classes and images.
        prepared: false picks the listed images from ILSVRC2012's archive, and stores PNGs. True takes the photographs
            of `ravi` as they are passed around, JPEGs of 84 x 84, and stores their bytes.
        images, held_out: see ImagenetParams. All images are `train` where 0 are held out.
        image_size: pixels of a side. An image of the archive is squashed to a square, antialiased; a prepared
            photograph has to have this size.
        sample: the archive, or the prepared photographs, are a part of the real ones: images that are not there are
            left out, and a split may name classes that are not there.
        keep_damaged: see ImagenetParams.
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
        path: where they lie; relative to the repository's folder, or absolute. They stay there, and are not copied.
        min_pictures: classes with fewer are left out, and named in the manifest; 0 refuses a class folder without any.
        format: what they are stored as. `png` keeps every pixel. `jpg`, of `quality`, is for large photographs; whole,
            upright JPEGs that are not scaled then keep their bytes.
        shorter_side: pictures whose shorter side is longer are scaled down to it, antialiased; null keeps their size.
            Twice the size that models see leaves them room to crop.
        quality: 1 to 95, of a jpg.
        central_crop: how they are loaded: null squashes the whole picture to a square; else the square in its middle
            whose side is this share of the shorter one.
        paper: the grey, 0 (black) to 255 (white), that shows through where a picture is transparent.
        keep_damaged: a JPEG that is cut short or damaged is kept as it decodes, and counted; else refused.
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
    """Pictures in a folder, a zip or a tar, `class/picture.png`; the name of the class is the path of its folder.

    `alphabet/character/picture.png` makes the class `alphabet/character` of the family `alphabet`. What all pictures
    have in common at the beginning of their paths is not part of the name.
    """


@dataclass(frozen=True, kw_only=True)
class WebdatasetParams(_PictureFilesParams):
    """Pictures in WebDataset tars that others made; `path` is a tar, or a folder of tars.

    Args:
        class_from: where a sample's class stands: in its member `cls`, in the field `json_field` of its member `json`,
            or in the folder of its key (`rose/0001.jpg`).
        picture: the extension of the member that is the picture; null where a sample has one picture alone.
    """

    class_from: Literal["cls", "json", "folder"] = "cls"
    json_field: str = "label"
    picture: str | None = None


OF_PICTURE_FILES = ("folder", "webdataset")
LOADED_ONLY = ("central_crop",)  # decide no byte of a shard
RAW_ONLY = ("path",)  # does not matter any more once the pictures are listed
STORED_ONLY = ("held_out", "format", "shorter_side", "quality", "paper", "central_crop", "image_size", "keep_damaged",
               "min_pictures")  # not of raw files


@dataclass(frozen=True, kw_only=True)
class DatasetParams:
    """One entry of `datasets:`.

    Args:
        source: which module of `pipeline/data/raw/datasets` reads (or draws) it.
        splits: the named splits of its classes.
        seed: decides the order of the samples in the shards (and what glyphs look like).
        shard_size_mib: a shard is closed before it would grow beyond this many MiB; by guessed sizes, good to a
            third, where photographs are encoded anew (mini_imagenet of the archive, imagenet with a shorter_side).
        invert: True where ink is dark in the files; samples are loaded with ink = 255. None is what the source is
            known to have (True for Omniglot and the glyphs), False where that is not known.
        margin: None leaves the drawing where it is; else it is cropped to its ink and put in the middle with
            this share of the side free at each edge (MNIST, to fill the square as Omniglot does).
        max_pixels: a picture of more is refused, named, before memory is taken for it.
        glyphs: only for source `glyphs`.
        imagenet, mini_imagenet, folder, webdataset: only for the source of that name.
    """

    source: str
    splits: Mapping[str, SplitParams]
    seed: int = 0
    shard_size_mib: float = 256
    invert: bool | None = None
    margin: float | None = None
    max_pixels: int = MAX_PIXELS
    glyphs: GlyphParams = field(default_factory=GlyphParams)
    imagenet: ImagenetParams = field(default_factory=ImagenetParams)
    mini_imagenet: MiniImagenetParams = field(default_factory=MiniImagenetParams)
    folder: FolderParams = field(default_factory=FolderParams)
    webdataset: WebdatasetParams = field(default_factory=WebdatasetParams)

    @property
    def sample(self) -> bool:
        """Whether the raw data are a part of the real ones, so that not all that is listed need be there."""
        return {"imagenet": self.imagenet.sample, "mini_imagenet": self.mini_imagenet.sample}.get(self.source, False)

    @property
    def is_prepared(self) -> bool:
        """Whether it is made of photographs that somebody else has prepared, not of ILSVRC2012's archive."""
        return self.source == "mini_imagenet" and self.mini_imagenet.prepared

    @property
    def stands_in(self) -> bool:
        """Whether the data only stand in for the paper's: figures on them say nothing about its tables."""
        return self.source in ("glyphs", "ptb_sample") or self.sample

    def shard_parameters(self) -> dict[str, Any]:
        """What its shards depend on: all but the sections of other sources, and a limit that nobody has raised."""
        found = {name: value for name, value in asdict(self).items() if name == self.source or name not in SOURCES}
        if self.max_pixels == MAX_PIXELS:
            del found["max_pixels"]
        for name in RAW_ONLY:
            found.get(self.source, {}).pop(name, None)
        return found

    @property
    def picture_files(self) -> FolderParams | WebdatasetParams:
        """The section of a source of somebody's own pictures."""
        return self.webdataset if self.source == "webdataset" else self.folder

    def raw_parameters(self) -> dict[str, Any]:
        """What its raw files depend on."""
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
