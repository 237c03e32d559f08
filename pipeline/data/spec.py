"""Parameters of a dataset: the `datasets:` section of params.yaml as frozen dataclasses. Light to import.

Each class checks its own values. The sections that are named as a source are in pipeline.data.source_spec.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from matchnet.pictures import MAX_PIXELS
from pipeline.data.checks import require, require_count
from pipeline.data.source_spec import FolderParams, GlyphParams, ImagenetParams, MiniImagenetParams, WebdatasetParams

Part = Literal["train", "valid", "test"]
PARTS: tuple[Part, ...] = ("train", "valid", "test")
SOURCES = ("omniglot", "mnist", "glyphs", "ptb", "ptb_sample", "treebank3", "imagenet", "mini_imagenet", "folder",
           "webdataset")
MENDING = ("imagenet", "mini_imagenet", "folder", "webdataset")  # sources that mend odd pictures, and count them
DARK_ON_LIGHT = ("omniglot", "glyphs")  # sources whose files have dark ink on light ground
TEXT_SOURCES = ("ptb", "ptb_sample", "treebank3")  # samples are sentences, classes the words in them


def _require_list(field_name: str, value: str, such_as: str) -> None:
    require(bool(value), field_name, value, "it is a list of classes", f"name a file of pipeline/data/lists/, such as "
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
            require_count(name, getattr(self, name), 0)


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
            require_count(name, getattr(self, name), 0)


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
        require(self.valid != self.test, "valid, test", self.valid, "a class is in one part alone",
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
        require(self.part in PARTS, "part", self.part, f"parts are {', '.join(PARTS)}", "write one of them")


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
        require((self.test is None) != (self.num_test is None), "test, num_test", (self.test, self.num_test),
                "test words are either listed or drawn", "give one of the two and leave the other out")
        if self.test is not None:
            _require_list("test", self.test, "ptb_test_words.txt")
        for name in ("num_valid", "seed", *(["num_test"] if self.test is None else [])):
            require_count(name, getattr(self, name), 0)


SplitParams = RandomSplit | FamilySplit | ListSplit | CutListSplit | TwoListsSplit | WholeSplit | WordSplit


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
        require(self.source in SOURCES, "source", self.source, f"there are {', '.join(SOURCES)}", "name one")
        if self.invert is None:  # so that manifests, and what stages depend on, have the value itself
            object.__setattr__(self, "invert", self.source in DARK_ON_LIGHT)
        if self.source in OF_PICTURE_FILES:
            require(bool(self.picture_files.path), f"{self.source}.path", self.picture_files.path,
                    "it names where the pictures lie", f"write {self.source}: {{path: /home/me/pictures}}")
        require(bool(self.splits), "splits", dict(self.splits), "a dataset needs a split",
                "add one, such as all: {kind: whole, part: test}")
        for name in self.splits:
            require(name.isidentifier(), "splits", name, "a split's name is part of file names",
                    "use letters, digits and underscores")
        require_count("seed", self.seed, 0)
        require_count("max_pixels", self.max_pixels, 1)
        require(0 < self.shard_size_mib <= 8192, "shard_size_mib", self.shard_size_mib,
                "a shard has more than 0 and at most 8192 MiB", "write 256, which is usual")
        require(self.margin is None or 0 <= self.margin < 0.5, "margin", self.margin,
                "the share left free at each edge is at least 0 and below 0.5",
                "write 0.1, or null to leave drawings where they are")
        require(self.margin is not None or not self.upright, "upright", self.upright,
                "ink that was moved is cropped anew, with a margin", "write a margin too, such as 0.18")
