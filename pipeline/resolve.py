"""Dependencies of each stage of a table, in one file a stage: its whole parameters, and the code that it runs.

DVC sees the keys that are written in a file of parameters, and neither defaults nor inheritance. So a stage depends on
its file in data/resolved/TABLE instead, and is stale if and only if something in that file changed:

    {"parameters": {...}, "code": {"matchnet/episodes.py": "<SHA-256>", ...}}

Parameters are those that the stage's result depends on, defaults included. For the code see stage_code.py.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matchnet.files import atomic_write
from pipeline import paths
from pipeline.params import Params
from pipeline.stage_code import code_hash, stage_code

REPORT = "report"


def resolved_files(params: Params, root: Path = Path()) -> dict[str, str]:
    """`train/short-fce.json` -> its text, for every stage of the table."""
    return {name: json.dumps({"parameters": parameters, "code": _code(stage, methods, root)}, indent=1) + "\n"
            for name, stage, methods, parameters in stage_parameters(params)}


def write_resolved(params: Params) -> None:
    """Make data/resolved/TABLE anew. A file that says the same as before has the same bytes: its stage is unchanged."""
    folder = paths.RESOLVED / params.table
    texts = resolved_files(params)
    if folder.exists():
        shutil.rmtree(folder)
    for name, text in texts.items():
        with atomic_write(folder / name) as file:
            file.write(text)


def stage_parameters(params: Params) -> Iterator[tuple[str, str, tuple[str, ...], Any]]:
    """(file, stage, methods that it runs, parameters) of every stage of the table."""
    for name in params.own_datasets:
        dataset = params.datasets[name]
        yield f"download/{name}.json", "download", (), dataset.raw_parameters()
        yield f"shard/{name}.json", "shard", (), dataset.shard_parameters()
    for full_name, model in params.own_models.items():
        parameters = {"model": asdict(model), "sample_shape": model.sample_shape,
                      "compute": asdict(params.compute_of(full_name))}
        yield f"train/{paths.short_name(full_name)}.json", "train", (model.method.name,), parameters
    for full_name, row in params.rows.items():
        parameters = asdict(row) | {"tasks": {column: asdict(task) for column, task in row.tasks.items()}}
        del parameters["columns"], parameters["queries"]
        method = params.models[row.model].method.name
        yield f"evaluate/{paths.short_name(full_name)}.json", "evaluate", (method,), parameters
    for full_name, comparison in params.comparisons.items():
        rows = comparison.row, comparison.baseline
        titles = [title_of(params, row) for row in rows]
        methods = tuple(params.models[params.rows[row].model].method.name for row in rows)
        yield f"compare/{paths.short_name(full_name)}.json", "compare", methods, asdict(comparison) | {"titles": titles}
    yield f"{REPORT}.json", REPORT, (), report_parameters(params)


def report_parameters(params: Params) -> dict[str, Any]:
    """The texts and the paper's figures, and the model, dataset and tasks of every row, since the page shows them."""
    rows = {name: [row.model, row.dataset, row.split, row.part, list(row.columns)] for name, row in params.rows.items()}
    return {"report": asdict(params.report), "rows": rows, "comparisons": list(params.comparisons),
            "models": {name: asdict(model) for name, model in params.own_models.items()}}


def title_of(params: Params, row: str) -> str:
    """A row's title; its name where the report gives it none."""
    short = paths.short_name(row)
    return params.report.titles.get(short, short)


def _code(stage: str, methods: tuple[str, ...], root: Path) -> dict[str, str]:
    files = {file for method in methods or ("",) for file in stage_code(stage, method, root)}
    return {file.as_posix(): code_hash(root / file) for file in sorted(files)}
