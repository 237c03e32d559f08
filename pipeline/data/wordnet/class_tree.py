"""WordNet above the classes of ImageNet: which synset is a kind of which, and the groups of classes that this makes.

It is no tree but a directed acyclic graph: a synset may have several parents (a dog is a canine and a domestic animal).
So a class lies below each node once, by however many ways, and groups may overlap without one holding the other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from matchnet.class_groups import ClassGroups

IMAGENET_TREE = Path(__file__).parent / "lists" / "imagenet_tree.txt"


@dataclass(frozen=True)
class ClassTree:
    """Nodes are synset numbers such as n02084071. `parents`: the nodes right above each; `words`: what it is called."""

    parents: Mapping[str, Sequence[str]]
    words: Mapping[str, str]

    def lineage(self, node: str) -> set[str]:
        """The node and all above it."""
        seen: set[str] = set()
        waiting = [node]
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting += self.parents[node]
        return seen

    def classes_below(self, class_names: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Every node with one of the classes below it, or that is one -> which, sorted.

        Raises:
            ValueError: a class that is not in the tree.
        """
        below: dict[str, list[str]] = {}
        for name in sorted(set(class_names)):
            if name not in self.parents:
                raise ValueError(f"class {name!r} is no synset of {IMAGENET_TREE.name} (such as n02084071): only "
                                 "classes of ILSVRC2012 have a place there; use episodes that are not fine-grained")
            for node in self.lineage(name):
                below.setdefault(node, []).append(name)
        return {node: tuple(below[node]) for node in sorted(below)}

    def groups(self, class_names: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Node -> the classes below it, two or more. If nodes have the same classes, the most special stands for all.

        The most special node has the longest lineage: where such nodes lie in a line, it is below the others.
        """
        nodes: dict[tuple[str, ...], str] = {}
        for node, below in self.classes_below(class_names).items():
            if len(below) > 1 and (below not in nodes or len(self.lineage(node)) > len(self.lineage(nodes[below]))):
                nodes[below] = node
        return {nodes[below]: below for below in sorted(nodes, key=lambda below: nodes[below])}


def class_groups(class_names: Sequence[str]) -> ClassGroups:
    """The groups that WordNet makes of these classes of ImageNet; a class is its position in class_names.

    Raises:
        ValueError: a class that is no synset of ILSVRC2012.
    """
    position = {name: place for place, name in enumerate(class_names)}
    groups = imagenet_tree().groups(class_names).values()
    return ClassGroups.from_lists([position[name] for name in names] for names in groups)


@cache
def imagenet_tree() -> ClassTree:
    """The 1000 synsets of ILSVRC2012 and all above them in WordNet 3.0."""
    return read_tree(IMAGENET_TREE)


def read_tree(path: Path) -> ClassTree:
    """Read the tree that `write_tree` wrote."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    fields = [line.split("\t") for line in lines]
    return ClassTree({node: tuple(parents.split()) for node, parents, _ in fields},
                     {node: words for node, _, words in fields})


def write_tree(path: Path, tree: ClassTree, comment: Sequence[str]) -> None:
    """One line a node, sorted: its number, its parents with spaces between, its words; tabs between the three."""
    lines = [f"# {line}".rstrip() for line in comment]
    lines += [f"{node}\t{' '.join(tree.parents[node])}\t{tree.words[node]}" for node in sorted(tree.parents)]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
