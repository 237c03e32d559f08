"""Choose what `dvc repro` runs: the experiments of some suites, their models and their datasets.

Rewrites the run: section of params.yaml and adds to the list of metrics in dvc.yaml; all other lines stay as they are.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from matchnet.parsing import parse
from pipeline.files import atomic_write
from pipeline.params import ParamsError, named
from pipeline.params.reading import PARAMS_FILE, read_yaml
from pipeline.params.rules import check_params, run_section
from pipeline.params.sections import Params

DVC_FILE = Path("dvc.yaml")
RUN_SECTION = re.compile(r"^run:.*\n(?:[ -].*\n)*", re.MULTILINE)
METRICS_SECTION = re.compile(r"^metrics:\n(?:[ -].*\n)*", re.MULTILINE)


def select(suites: list[str]) -> list[str]:
    """Write both files; returns the experiments that are now to run. ParamsError: what is wrong, nothing is written."""
    values = read_yaml(PARAMS_FILE)
    nothing: dict[str, Any] = {"datasets": [], "models": {}, "experiments": {}}
    params = parse(Params, {**values, "run": nothing}, "")
    check_params(params)  # so that every name below is known
    experiments = list(dict.fromkeys(name for suite in suites for name in named(params.suites, "suites", suite)))
    run = run_section(experiments, params)
    check_params(parse(Params, {**values, "run": run}, ""))
    _replace(PARAMS_FILE, RUN_SECTION, "\n".join(["run:", *_block(run, "  "), ""]))
    _list_metrics(list(params.experiments), experiments)
    return experiments


def _list_metrics(known: list[str], selected: list[str]) -> None:
    """Those listed before, as long as they are in params.yaml, and the selected ones; in the order of params.yaml."""
    listed = read_yaml(DVC_FILE)["metrics"]
    paths = {name: f"results/{name}/metrics.json" for name in known}
    lines = [f"  - {path}" for name, path in paths.items() if path in listed or name in selected]
    _replace(DVC_FILE, METRICS_SECTION, "\n".join(["metrics:", *lines, ""]))


def _block(section: dict[str, Any], indent: str) -> list[str]:
    """The lines of a section in YAML's block style, the only one that DVC interpolates everywhere."""
    lines = []
    for name, value in section.items():
        if isinstance(value, str):
            lines.append(f"{indent}{name}: {value}")
            continue
        if not value:
            lines.append(f"{indent}{name}: {'{}' if isinstance(value, dict) else '[]'}")
            continue
        items = _block(value, indent + "  ") if isinstance(value, dict) else [f"{indent}  - {item}" for item in value]
        lines += [f"{indent}{name}:", *items]
    return lines


def _replace(path: Path, section: re.Pattern[str], new: str) -> None:
    old_text = path.read_text(encoding="utf-8")
    if not section.search(old_text):
        raise ParamsError(f"{path}: no such section: {section.pattern.split(':')[0][1:]}; restore it from git")
    text = section.sub(lambda _: new, old_text, count=1)
    if text != old_text:
        with atomic_write(path) as file:
            file.write(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", metavar="suite", nargs="+", help="name under suites: in params.yaml")
    try:
        experiments = select(parser.parse_args().suites)
    except ParamsError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(f"`dvc repro` now runs {len(experiments)} experiments: {', '.join(experiments)}")


if __name__ == "__main__":
    main()
