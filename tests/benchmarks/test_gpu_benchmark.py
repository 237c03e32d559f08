"""The script for a GPU, where there is none: its parts import, its rows are kept, its checks count."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from places import ROOT

from benchmarks.gpu_part import LINES_FILE, Part, easy_images
from benchmarks.gpu_summary import summary
from benchmarks.peers import FCE, OURS, OURS_FCE, OURS_FP32, PLAIN, EmptyModule, rows, stand_in_for_torchvision
from matchnet.encoders.conv4 import Conv4Spec

PARTS = ("correct", "conv4", "inception", "decoding", "supports", "mini", "summary")
CONV4 = Conv4Spec(num_filters=4, num_blocks=2)


@pytest.fixture
def part(tmp_path: Path) -> Part:
    return Part("some", argparse.ArgumentParser(), ["--device", "cpu", "--tiny", "--out", str(tmp_path)])


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LINES_FILE).read_text().splitlines()]


def test_parts_import_matchnet_alone() -> None:
    """On a machine with torch, numpy and Pillow."""
    missing = "import sys; sys.modules.update(dict.fromkeys(('pipeline', 'ray', 'pyarrow', 'pydantic', 'psutil')))"
    imports = "; ".join(f"import benchmarks.gpu_{name}" for name in PARTS)
    subprocess.run([sys.executable, "-c", f"{missing}; {imports}"], cwd=ROOT, check=True)


def test_rows_are_printed_and_put_down_at_once(part: Part, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part.begin("a table", "episodes/s")
    part.row("one", 12345.6)
    assert lines(tmp_path) == [{"part": "some", "table": "a table", "what": "one", "episodes/s": 12345.6}]
    assert capsys.readouterr().out.splitlines()[-1].split() == ["one", "12,346"]


def test_what_does_not_hold_or_fails_is_counted_and_the_part_goes_on(part: Part, tmp_path: Path) -> None:
    part.begin("checks", "difference", "limit", "holds")
    part.check("near", 1e-6, 1e-3)
    part.check("far", 1.0, 1e-3)
    part.check("no number", float("nan"), 1e-3)
    with part.attempt("broken"):
        raise RuntimeError("out of\nmemory")
    assert not part.has(1e9, "a long one")
    with pytest.raises(SystemExit, match="1"):
        part.end()
    found = lines(tmp_path)
    assert [line["holds"] for line in found[:3]] == ["yes", "NO", "NO"]
    assert found[3]["failed"] == "RuntimeError: out of memory" and "left out" in found[4]["note"]


def test_the_summary_names_what_does_not_hold() -> None:
    good = {"part": "correct", "what": "a", "difference": "1e-6", "holds": "yes"}
    wrong = {"part": "correct", "what": "b", "count": "3", "holds": "NO"}
    ended = [{"part": "correct", "status": 0, "seconds": 9}, {"part": "mini", "status": 124, "seconds": 30}]
    text, well = summary([good, wrong, *ended])
    assert not well and "1 of 2 checks hold" in text and "  correct: b: 3" in text
    assert any("stopped at its time limit" in line for line in text)
    assert summary([good, ended[0]])[1] and not summary([good, ended[1]])[1]


def test_the_script_says_how_it_is_used() -> None:
    done = subprocess.run(["bash", "benchmarks/gpu.sh", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "benchmarks/gpu.sh --device cpu --tiny" in done.stdout


def test_easy_images_are_the_same_each_time() -> None:
    one, other = (easy_images(8, 3, (1, 28, 28)) for _ in range(2))
    rows = torch.arange(24)
    assert torch.equal(one.store.gather(rows), other.store.gather(rows))
    assert one.valid_classes is not None and (one.classes.num_classes, one.valid_classes.num_classes) == (6, 2)


def test_modules_of_others_find_classes_in_place_of_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torchvision", "torchvision.datasets", "torchvision.models", "torchvision.models.resnet",
                 "torchvision.transforms", "torchvision.utils"):
        monkeypatch.setitem(sys.modules, name, None)  # so that what was there comes back
    stand_in_for_torchvision()
    from torchvision import transforms  # type: ignore[import-not-found]
    from torchvision.datasets import ImageFolder  # type: ignore[import-not-found]
    from torchvision.models.resnet import BasicBlock  # type: ignore[import-not-found]

    class Folder(ImageFolder):  # type: ignore[misc]
        pass

    assert isinstance(transforms, EmptyModule) and isinstance(transforms.Compose, type)
    assert isinstance(BasicBlock, type) and issubclass(Folder, ImageFolder)


def test_ratios_are_ours_over_theirs() -> None:
    plain = {"task": {OURS: 40.0, OURS_FP32: 20.0, OURS_FCE: 30.0, PLAIN: 10.0, FCE: 5.0}}
    tuned = {"task": {OURS: 60.0, OURS_FP32: 30.0, OURS_FCE: 45.0, PLAIN: 15.0, FCE: 9.0}}
    assert rows(plain, tuned) == [["task: " + PLAIN, 10.0, 15.0, 60.0, 6.0, 4.0, 2.0],
                                  ["task: " + FCE, 5.0, 9.0, 45.0, 9.0, 5.0, ""]]
