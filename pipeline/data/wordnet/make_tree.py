"""Makes `lists/imagenet_tree.txt`: the synsets above those of ILSVRC2012, out of WordNet 3.0, with nltk's reader.

    python -m pipeline.data.wordnet.make_tree FOLDER SYNSETS

FOLDER has WordNet 3.0 (Debian's wordnet-base puts it in /usr/share/wordnet), whose offsets are ImageNet's numbers.
SYNSETS begins every line with a synset, as ILSVRC2012's `synset_words.txt` does.
"""

import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

from pipeline.data.wordnet.class_tree import IMAGENET_TREE, ClassTree, write_tree

FILES = [f"{kind}.{pos}" for pos in ("noun", "verb", "adj", "adv") for kind in ("data", "index")] + [
    f"{pos}.exc" for pos in ("noun", "verb", "adj", "adv")]
NUM_LEXNAMES = 45  # lexicographer files of WordNet 3.0: the numbers in its data files are below it [lexnames(5WN)]
ABOUT = (
    "The synsets of ILSVRC2012 and all above them in WordNet 3.0, made by `python -m pipeline.data.wordnet.make_tree`.",
    "A line has a synset, its parents and its words, with tabs between. A synset may have several parents.",
    "The following is WordNet's own notice.", "")


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    folder, synsets = map(Path, sys.argv[1:])
    make_tree(folder, read_synsets(synsets), IMAGENET_TREE)


def make_tree(folder: Path, synsets: Sequence[str], out: Path) -> None:
    """Write the synsets and all above them, with WordNet's notice.

    Raises:
        ValueError: a folder that is not WordNet 3.0's, or a synset that WordNet lacks.
    """
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder}: no file {missing[0]}: this is not WordNet's folder; name the one that has it, "
                         "such as /usr/share/wordnet of Debian's package wordnet-base")
    write_tree(out, tree_above(folder, synsets), [*ABOUT, *notice(folder)])


def read_synsets(path: Path) -> list[str]:
    """Read the first word of each line.

    Raises:
        ValueError: one that is not n and eight digits.
    """
    numbers = [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    for number in numbers:
        if not re.fullmatch(r"n\d{8}", number):
            raise ValueError(f"{path}: {number!r} is no synset; a line begins with one, such as n02084071")
    return numbers


def notice(folder: Path) -> list[str]:
    """The licence that heads every data file; its lines begin with two spaces and their number."""
    with open(folder / "data.noun", encoding="utf-8") as file:
        return [line[4:].strip() for line in takewhile(lambda line: line.startswith("  "), file)]


def tree_above(folder: Path, synsets: Sequence[str]) -> ClassTree:
    """The synsets and all above them: hypernyms, and for an instance what it is an instance of."""
    parents, words = {}, {}
    with _reader(folder) as wordnet:
        waiting = [_synset(wordnet, number) for number in synsets]
        while waiting:
            synset = waiting.pop()
            if _number(synset) not in parents:
                above = synset.hypernyms() + synset.instance_hypernyms()
                parents[_number(synset)] = tuple(sorted(map(_number, above)))
                words[_number(synset)] = ", ".join(name.replace("_", " ") for name in synset.lemma_names())
                waiting += above
    return ClassTree(parents, words)


def _synset(wordnet: Any, number: str) -> Any:
    with warnings.catch_warnings(action="ignore"):  # warnings repeat what the error says
        synset = wordnet.synset_from_pos_and_offset("n", int(number[1:]))
    if synset is None:
        raise ValueError(f"{number} is no noun of this WordNet; ImageNet's numbers are offsets in the file data.noun "
                         "of version 3.0: use that version")
    return synset


def _number(synset: Any) -> str:
    return f"n{synset.offset():08d}"


@contextmanager
def _reader(folder: Path) -> Iterator[Any]:
    """nltk's reader on a copy of the folder, since nltk follows no links and needs two files that Debian leaves out.

    `lexnames` has the names of WordNet's source files, `index.sense` the way from other versions' synsets to these:
    nothing here asks for either, so ours name nothing.
    """
    import nltk.data  # half a second to import
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    before = list(nltk.data.path)
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings(action="ignore"):  # has no other languages
        copy = Path(place, "corpora", "wordnet")  # where nltk looks for the version to come from
        copy.mkdir(parents=True)
        for name in FILES:
            shutil.copyfile(folder / name, copy / name)
        (copy / "lexnames").write_text("".join(f"{number:02d} unnamed 0\n" for number in range(NUM_LEXNAMES)))
        (copy / "index.sense").touch()
        nltk.data.path[:] = [place]  # nltk may read there and nowhere else
        try:
            yield WordNetCorpusReader(str(copy), None)
        finally:
            nltk.data.path[:] = before


if __name__ == "__main__":
    main()
