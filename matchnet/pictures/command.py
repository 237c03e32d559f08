"""The command `matchnet`: tells pictures apart from one example of each class, and lists the published models."""

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matchnet import published
from matchnet.garbage import few_collections
from matchnet.pictures.folders import PassedOver, Support, find_queries, find_support

if TYPE_CHECKING:
    from matchnet.pictures.answers import Answer

ALL_READ, SOME_PASSED_OVER, NOTHING_DONE = 0, 1, 2  # the exit status
LONGEST_NAME = 60  # characters of a path in the table; the end of a longer one is shown

CLASSIFY = """\
SUPPORT is a folder with a folder of pictures for each class, or with one picture of each class, whose name is the
class. QUERIES are pictures, or folders of them. One picture of a class is enough; no training takes place.

A probability says how the attention is divided among the classes of SUPPORT, for classes like those that the model was
trained on. It does not say whether the query belongs to any of them.

Exit status: 0 if all pictures were read, 1 if some were passed over (each is named), 2 if nothing was done.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    few_collections()
    try:
        status = options.run(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # `matchnet ... | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SOME_PASSED_OVER
    except (ValueError, OSError) as error:
        print(f"matchnet: {error}", file=sys.stderr)
        return NOTHING_DONE
    except KeyboardInterrupt:
        print("matchnet: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="matchnet", description="One-shot classification of pictures.")
    parser.add_argument("--version", action="version", version=f"matchnet {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    classify = commands.add_parser("classify", help="tell which class each picture is of", description=CLASSIFY,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    classify.add_argument("support", metavar="SUPPORT", type=Path)
    classify.add_argument("queries", metavar="QUERIES", type=Path, nargs="+")
    classify.add_argument("--model", default="omniglot", metavar="MODEL",
                          help="a published model (see `matchnet models`), or the path of a model file; default "
                               "%(default)s")
    classify.add_argument("--unknown", type=_probability, metavar="P",
                          help="say `unknown` if the largest probability is below P")
    classify.add_argument("--ink", choices=("auto", "dark", "light"), default="auto",
                          help="for drawings: dark ink on light ground, or light on dark; default: the edges decide")
    classify.add_argument("--clean", action=argparse.BooleanOptionalAction, default=True,
                          help="for drawings: make paper pure and ink full, as most models expect; default: yes")
    classify.add_argument("--margin", type=float, metavar="M",
                          help="for drawings: crop each to its ink, and leave this share free at each edge; 0.18 suits "
                               "omniglot")
    classify.add_argument("--upright", action="store_true",
                          help="for slanting handwriting: shear each drawing until it stands upright; needs --margin")
    classify.add_argument("--device", default="cpu", help="default %(default)s")
    classify.add_argument("--html", type=Path, metavar="PAGE", help="also write one page with all pictures")
    classify.add_argument("--json", action="store_true", help="print JSON instead of a table")
    classify.set_defaults(run=_classify)
    commands.add_parser("models", help="list the published models, with their cards").set_defaults(run=_models)
    return parser


def _version() -> str:
    try:
        return version("matchnet")
    except PackageNotFoundError:
        return "of a checkout, not installed"


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no probability; write a number from 0 to 1, such as 0.5")
    return value


def _classify(options: argparse.Namespace) -> int:
    if options.html:
        _require_page(options.html)
    support = find_support(options.support)
    queries, passed_over = find_queries(options.queries)
    if not queries:
        raise ValueError(f"{passed_over[0].path}: {passed_over[0].reason}; name pictures, or folders of "
                         "them")
    # torch takes seconds to import, so mistakes are reported first
    from matchnet.pictures.answers import UNKNOWN, answers, fit_readable
    from matchnet.pictures.one_shot import OneShotClassifier

    if options.unknown is not None and UNKNOWN in support.labels:
        raise ValueError(f"--unknown {options.unknown}: {options.support} has a class {UNKNOWN!r}; rename it")
    classifier = OneShotClassifier(options.model, ink=options.ink, clean=options.clean, margin=options.margin,
                                   upright=options.upright, device=options.device)
    with warnings.catch_warnings():
        warnings.showwarning = _say_once(set())
        support = fit_readable(classifier, support)
        found, unreadable = answers(classifier, queries, options.unknown)
    passed_over = support.passed_over + passed_over + unreadable
    for one in passed_over:
        print(f"matchnet: passed over {one.path}: {one.reason}", file=sys.stderr)
    if not found:
        raise ValueError(f"none of the {len(queries)} queries can be read")
    print(_as_json(options, support, found, passed_over) if options.json else _as_table(support, found))
    if options.html:
        from matchnet.pictures.page import write_page

        write_page(options.html, classifier, support, found, passed_over, options.unknown)
        print(f"matchnet: wrote {options.html}", file=sys.stderr)
    return SOME_PASSED_OVER if passed_over else ALL_READ


def _require_page(path: Path) -> None:
    """ValueError for a path where a page would replace something else."""
    if path.is_dir() or (path.suffix.lower() not in (".html", ".htm") and path.exists()):
        what = "a folder" if path.is_dir() else "there already, and no page"
        raise ValueError(f"--html {path}: it is {what}; name a file such as page.html")


def _as_table(support: Support, found: "Sequence[Answer]") -> str:
    rows = [("file", "class", "probability", "nearest support picture")]
    rows += [(_ending(one.path), one.name, f"{one.probability:.3f}", _ending(support.paths[one.nearest[0][0]]))
             for one in found]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
                     for row in rows)


def _ending(path: Path) -> str:
    text = str(path)
    return text if len(text) <= LONGEST_NAME else f"...{text[3 - LONGEST_NAME:]}"


def _as_json(options: argparse.Namespace, support: Support, found: "Sequence[Answer]",
             passed_over: Sequence[PassedOver]) -> str:
    queries = [{"file": str(one.path), "class": one.name, "probability": one.probability,
                "classes": dict(one.classes),
                "nearest": [{"file": str(support.paths[s]), "class": support.labels[s], "weight": weight}
                            for s, weight in one.nearest]} for one in found]
    return json.dumps({"model": options.model, "support": str(options.support), "queries": queries,
                       "passed_over": [{"file": str(one.path), "reason": one.reason} for one in passed_over]},
                      indent=2, ensure_ascii=False)


def _models(options: argparse.Namespace) -> int:
    cards = [published.read_card(name) for name in published.names()]
    if not cards:
        print("no model is published with this version; give --model the path of a model file")
    for card in cards:
        print(f"{card.name}: {card.picture}\n  trained on: {card.trained_on}\n  limits: {card.limits}")
        for figure in card.figures:
            print(f"  {figure.dataset}, {figure.task}: {figure.accuracy:.2f} ± {figure.ci95:.2f} % right ("
                  f"{figure.episodes:,} episodes)")
        print(f"  {card.size:,} bytes, SHA-256 {card.sha256}")
    return ALL_READ


def _say_once(said: set[str]) -> Callable[..., None]:
    """A function that shows each warning once: examples and queries may both cause the same one."""
    def say(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in said:
            said.add(str(message))
            print(f"matchnet: note: {message}", file=sys.stderr)
    return say


if __name__ == "__main__":
    sys.exit(main())
