"""The tree above ImageNet's classes: against WordNet itself, and groups against a slow reference."""

import re
from pathlib import Path

import pytest
from small_omniglot import mirror

from pipeline.data.spec import CutListSplit
from pipeline.data.splits import make_split, read_list
from pipeline.data.wordnet.class_tree import (
    IMAGENET_TREE,
    ClassTree,
    class_groups,
    imagenet_tree,
    read_tree,
    write_tree,
)
from pipeline.data.wordnet.make_tree import make_tree, notice, read_synsets, tree_above

WORDNET = Path("/usr/share/wordnet")  # of Debian's package wordnet-base
needs_wordnet = pytest.mark.skipif(not (WORDNET / "data.noun").is_file(),
                                   reason=f"no WordNet in {WORDNET}: apt-get install wordnet-base")
DOG = "n02084071"

# A diamond and a node with one child: a is above b and c, both above d; e is above d alone.
#       a
#      / \
#     b   c   e
#    / \ / \ /
#   x   d   y      d is above p and q
SMALL = ClassTree({"a": (), "b": ("a",), "c": ("a",), "e": (), "d": ("b", "c"), "x": ("b",), "y": ("c", "e"),
                   "p": ("d",), "q": ("d",)}, {})


def below_by_going_up(tree: ClassTree, classes: list[str]) -> dict[str, tuple[str, ...]]:
    """Every way up from every class, node by node."""
    def above(node: str) -> set[str]:
        return {node}.union(*(above(parent) for parent in tree.parents[node]))

    lineages = {name: above(name) for name in classes}
    return {node: tuple(sorted(name for name in classes if node in lineages[name])) for node in tree.parents}


# ---- the tree in the package ----

@pytest.fixture(scope="module")
def synsets() -> list[str]:
    return read_synsets(Path(mirror()) / "imagenet" / "synset_words.txt")


@needs_wordnet
def test_wordnet_makes_the_same_file_again(synsets: list[str], tmp_path: Path) -> None:
    make_tree(WORDNET, synsets, tmp_path / "tree.txt")
    assert (tmp_path / "tree.txt").read_bytes() == IMAGENET_TREE.read_bytes()


@needs_wordnet
def test_parents_are_the_pointers_in_wordnet_s_own_file() -> None:
    """Read as text: `@ 02083346 n 0000` points to a hypernym, `@i` to what an instance is one of."""
    with open(WORDNET / "data.noun", encoding="utf-8") as file:
        lines = {f"n{line[:8]}": line.partition(" | ")[0] for line in file if not line.startswith("  ")}
    for node, parents in imagenet_tree().parents.items():
        assert sorted(parents) == sorted(f"n{offset}" for offset in re.findall(r"@i? (\d{8}) n 0000", lines[node]))


def test_the_paper_s_dogs_are_all_classes_below_dog(synsets: list[str]) -> None:
    assert len(synsets) == 1000
    below = imagenet_tree().classes_below(synsets)
    assert list(below[DOG]) == sorted(read_list("imagenet_dogs.txt"))
    assert imagenet_tree().words[DOG] == "dog, domestic dog, Canis familiaris"


def test_no_class_is_below_another_and_all_are_below_entity(synsets: list[str]) -> None:
    below = imagenet_tree().classes_below(synsets)
    assert all(below[name] == (name,) for name in synsets)
    assert len(below["n00001740"]) == 1000
    assert set(below) == set(imagenet_tree().parents), "nothing in the file but the classes and what is above them"
    assert [node for node, parents in imagenet_tree().parents.items() if not parents] == ["n00001740"]


def test_the_file_has_wordnet_s_notice() -> None:
    text = IMAGENET_TREE.read_text(encoding="utf-8")
    assert "# WordNet 3.0 Copyright 2006 by Princeton University.  All rights reserved.\n" in text
    assert "including modifications that you make" in text and "no synset" not in text


@needs_wordnet
def test_the_notice_is_whole() -> None:
    lines = notice(WORDNET)
    assert lines[0].startswith("This software and database is being provided")
    assert lines[-1] == "Princeton University and LICENSEE agrees to preserve same." and len(lines) == 29


def test_a_tree_is_read_as_it_was_written(tmp_path: Path) -> None:
    tree = ClassTree(SMALL.parents, {node: f"{node}, the node" for node in SMALL.parents})
    write_tree(tmp_path / "tree.txt", tree, ["about", ""])
    assert read_tree(tmp_path / "tree.txt") == tree
    assert (tmp_path / "tree.txt").read_text().startswith("# about\n#\na\t\ta, the node\nb\ta\tb, the node\n")


# ---- what cannot be made a tree of ----

@needs_wordnet
def test_a_number_of_another_wordnet_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^n02084072 is no noun of this WordNet; .* version 3.0: use that version"):
        tree_above(WORDNET, [DOG, "n02084072"])


@pytest.mark.parametrize("number", ["v02084071", "dog", "n2084071"])
def test_what_is_no_synset_is_refused(number: str, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text(f"{DOG} dog\n\n{number} what\n")
    with pytest.raises(ValueError, match=rf"words.txt: '{number}' is no synset; a line begins with one"):
        read_synsets(tmp_path / "words.txt")


def test_a_folder_without_wordnet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no file data.noun: this is not WordNet's folder; name the one"):
        make_tree(tmp_path, [DOG], tmp_path / "tree.txt")
    assert not (tmp_path / "tree.txt").exists()


# ---- classes below nodes, and groups ----

def test_classes_below_are_those_that_every_way_up_finds() -> None:
    classes = ["y", "q", "p", "x"]
    assert SMALL.classes_below(classes) == below_by_going_up(SMALL, classes)
    assert SMALL.classes_below(["y", "y"]) == {"a": ("y",), "c": ("y",), "e": ("y",), "y": ("y",)}


def test_a_class_may_itself_be_above_others() -> None:
    assert SMALL.groups(["d", "p"]) == {"d": ("d", "p")}


def test_nodes_with_equal_classes_are_one_group() -> None:
    """d, b, c and a all have p and q alone; d, the most special, stands for them."""
    assert SMALL.groups(["p", "q"]) == {"d": ("p", "q")}
    assert SMALL.groups(["p", "q", "x", "y"]) == {
        "a": ("p", "q", "x", "y"), "b": ("p", "q", "x"), "c": ("p", "q", "y"), "d": ("p", "q")}
    assert SMALL.groups(["x", "y"]) == {"a": ("x", "y")}
    assert SMALL.groups(["x"]) == {} and SMALL.groups([]) == {}


def test_groups_of_the_paper_s_dogs() -> None:
    dogs = read_list("imagenet_dogs.txt")
    tree = imagenet_tree()
    groups = tree.groups(dogs[::-1])
    assert groups == tree.groups(dogs), "the order of the classes does not matter"
    assert len(groups[DOG]) == 118 and not {"n00001740", "n02083346"} & set(groups), "nodes above dog have no others"
    sets = list(groups.values())
    assert len(set(sets)) == len(sets)
    below = below_by_going_up(tree, dogs)
    assert set(sets) == {names for names in below.values() if len(names) > 1}
    assert all(below[node] == names for node, names in groups.items())
    assert {tree.words[node] for node in groups} >= {"terrier", "shepherd dog, sheepdog, sheep dog", "spitz"}


def test_miniimagenet_s_classes_have_groups(synsets: list[str]) -> None:
    """What fine-grained episodes are drawn from, in the splits that L_rand and L_dogs make of its 100 classes."""
    names = {name[:9] for part in ("train", "val", "test") for name in
             (Path(mirror()) / "mini_imagenet" / f"ravi_{part}.csv").read_text().splitlines()[1:]}
    assert len(names) == 100 and names <= set(synsets)
    for kind, num_test in (("dogs", 13), ("rand", 12)):
        split = make_split(CutListSplit(test=f"imagenet_{kind}.txt", num_valid=16), sorted(names))
        for part, most in (("train", 84 - num_test), ("test", num_test)):
            groups = imagenet_tree().groups(split[part])
            below = below_by_going_up(imagenet_tree(), split[part])
            assert set(groups.values()) == {names for names in below.values() if len(names) > 1}
            assert max(map(len, groups.values())) == most and len(class_groups(split[part])) == len(groups)
            assert any(5 <= len(names) < most for names in groups.values()), "a group that 5 ways can be drawn from"


def test_a_class_that_is_no_synset_is_refused() -> None:
    with pytest.raises(ValueError, match=r"class 'Greek/character01' is no synset of imagenet_tree.txt"):
        imagenet_tree().groups([DOG, "Greek/character01"])
