"""`matchnet classify`: what it prints and writes, and each kind of picture that it passes over or refuses."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from places import ROOT
from small_drawings import DRAWINGS, PHOTOGRAPHS, SHAPES, drawing, model_file

from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.methods.pixels import PixelsSpec
from matchnet.pictures.command import main
from matchnet.preparation import Preparation

UNREADABLE = b"\x89PNG\r\n\x1a\n and nothing"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, a support folder with a folder for each class, and three queries; the working directory."""
    monkeypatch.chdir(tmp_path)
    model_file(tmp_path / "model.pt", PixelsSpec(), DRAWINGS)
    for shape in SHAPES:
        save(drawing(shape), tmp_path / "support" / shape / "1.png")
        save(drawing(shape, 1), tmp_path / "queries" / f"a-{shape}.png")
    return tmp_path


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def classify(*arguments: str) -> int:
    return main(["classify", *arguments, "--model", "model.pt"])


def found(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict]:
    status = classify(*arguments, "--json")
    return status, json.loads(capsys.readouterr().out)


def test_a_table_of_file_class_probability_and_nearest_picture(folder: Path, capsys) -> None:
    assert classify("support", "queries") == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert re.split("  +", header) == ["file", "class", "probability", "nearest support picture"]
    for shape, line in zip(sorted(SHAPES), lines, strict=True):
        file, name, probability, nearest = line.split()
        assert (file, name, nearest) == (f"queries/a-{shape}.png", shape, f"support/{shape}/1.png")
        assert 0.5 < float(probability) <= 1


def test_a_folder_of_files_has_a_class_in_each(folder: Path, capsys) -> None:
    for shape in SHAPES:
        save(drawing(shape), folder / "flat" / f"{shape}.png")
    status, content = found(capsys, "flat", "queries/a-cross.png", "queries/a-square.png")
    assert status == 0 and content["model"] == "model.pt"
    assert [query["class"] for query in content["queries"]] == ["cross", "square"]
    for query in content["queries"]:
        assert sum(query["classes"].values()) == pytest.approx(1, abs=1e-6)
        assert query["nearest"][0]["file"] == f"flat/{query['class']}.png"


def test_below_a_probability_the_answer_is_unknown(folder: Path, capsys) -> None:
    save(drawing("cross"), folder / "support/the same/1.png")
    _, content = found(capsys, "support", "queries/a-cross.png", "queries/a-square.png", "--unknown", "0.6")
    assert [query["class"] for query in content["queries"]] == ["unknown", "square"]
    assert content["queries"][0]["probability"] == pytest.approx(0.5, abs=0.01)
    (folder / "support/cross").rename(folder / "support/unknown")
    assert classify("support", "queries", "--unknown", "0.5") == 2
    assert "matchnet: --unknown 0.5: support has a class 'unknown'; rename it" in capsys.readouterr().err


def test_pictures_that_cannot_be_used_are_named_and_passed_over(folder: Path, capsys) -> None:
    (folder / "support/cross/notes.txt").write_text("not a picture")
    (folder / "support/cross/.DS_Store").write_bytes(b"\0")
    (folder / "support/cross/2.png").write_bytes(UNREADABLE)
    save(Image.new("L", (1, 1)), folder / "support/square/dot.png")
    save(drawing("cross"), folder / "support/on-top.png")
    Image.new("1", (20_000, 20_000)).save(folder / "queries/huge.png")
    (folder / "queries/words.pdf").write_bytes(b"%PDF-1.7")
    (folder / "empty").mkdir()
    status, content = found(capsys, "support", "queries", "nowhere.png", "empty")
    assert status == 1 and [query["class"] for query in content["queries"]] == sorted(SHAPES)
    reasons = {one["file"]: one["reason"] for one in content["passed_over"]}
    assert set(reasons) == {"support/cross/notes.txt", "support/cross/2.png", "support/square/dot.png",
                            "support/on-top.png", "queries/huge.png", "queries/words.pdf", "nowhere.png", "empty"}
    assert reasons["support/cross/notes.txt"].startswith("no picture that can be read here (JPEG, PNG, WebP")
    assert reasons["support/cross/2.png"].startswith("not a whole PNG")
    assert reasons["support/square/dot.png"].startswith("1 x 1 pixels, too few to see anything")
    assert reasons["support/on-top.png"] == "beside the folders of the classes; put it into one of them"
    assert reasons["queries/huge.png"].startswith("a picture of 20,000 x 20,000 pixels, more than max_pixels (120,00")
    assert reasons["queries/huge.png"].endswith("; make the picture smaller")
    assert reasons["nowhere.png"] == "there is no such file"
    assert reasons["empty"] == "there is no picture in this folder"
    classify("support", "queries", "nowhere.png")
    assert "matchnet: passed over nowhere.png: there is no such file\n" in capsys.readouterr().err


def test_loops_of_links_pipes_and_devices_are_passed_over(folder: Path, capsys) -> None:
    _, expected = found(capsys, "support", "queries")
    for name in ("support/all", "support/cross/loop", "support/cross/up", "queries/a", "queries/b"):
        Path(name).symlink_to({"up": ".."}.get(Path(name).name, "."))
    os.mkfifo("queries/pipe.png")
    os.mkfifo("support/cross/pipe.png")
    os.mkfifo("pipe.png")
    Path("queries/device").symlink_to("/dev/zero")
    status, content = found(capsys, "support", "queries", "pipe.png")
    assert status == 1 and content["queries"] == expected["queries"]
    loop, pipe = "a link to a folder that holds it; remove the link", "a pipe or a device, and no file; save the"
    reasons = {one["file"]: one["reason"] for one in content["passed_over"]}
    assert {name for name, reason in reasons.items() if reason == loop} == {
        "support/all", "support/cross/loop", "support/cross/up", "queries/a", "queries/b"}
    assert {name for name, reason in reasons.items() if reason.startswith(pipe)} == {
        "support/cross/pipe.png", "queries/pipe.png", "pipe.png", "queries/device"}


def empty(folder: Path) -> None:
    for shape in SHAPES:
        (folder / f"support/{shape}/1.png").unlink()
        (folder / f"support/{shape}").rmdir()


def one_class(folder: Path) -> None:
    for shape in SHAPES[1:]:
        (folder / f"support/{shape}/1.png").unlink()
        (folder / f"support/{shape}").rmdir()


def without_a_picture(folder: Path) -> None:
    (folder / "support/cross/1.png").rename(folder / "support/cross/1.txt")
    (folder / "support/cross/1.txt").write_text("gone")


def unreadable(folder: Path) -> None:
    (folder / "support/cross/1.png").write_bytes(UNREADABLE)


def twice_by_case(folder: Path) -> None:
    save(drawing("cross"), folder / "support/Cross/1.png")


def twice_by_ending(folder: Path) -> None:
    empty(folder)
    for name in ("a.png", "a.bmp", "b.png"):
        save(drawing("cross"), folder / "support" / name)


@pytest.mark.parametrize(("spoil", "message"), [
    (empty, r"support: there is no picture in it \(JPEG, PNG, WebP, BMP, TIFF, GIF\); put a folder of pictures for e"),
    (one_class, "support: found one class only, 'circle'; there is nothing to tell it from: add a second class"),
    (without_a_picture, r"support/cross: there is no picture of this class; put one there, or delete the folder \(1"),
    (unreadable, r"class 'cross': none of its pictures can be read; support/cross/1\.png: not a whole PNG"),
    (twice_by_case, "support: classes 'Cross' and 'cross' differ in upper and lower case alone; put them together"),
    (twice_by_ending, r"support/a\.bmp and a\.png: two pictures of class 'a', and in a folder without folders each"),
])
def test_a_support_folder_that_cannot_be_used_is_refused(folder: Path, capsys, spoil, message: str) -> None:
    spoil(folder)
    assert classify("support", "queries") == 2
    assert re.match(f"matchnet: {message}", capsys.readouterr().err)


@pytest.mark.parametrize(("arguments", "message"), [
    (["nowhere", "queries"], "nowhere: there is no such folder; name a folder with a folder of pictures for each cla"),
    (["model.pt", "queries"], r"model\.pt: it is a file; name a folder with a folder of pictures for each class"),
    (["support", "nowhere"], "nowhere: there is no such file; name pictures, or folders of them"),
    (["support", "model.pt"], r"passed over model\.pt: no picture that can be read here .*\n"
                              "matchnet: none of the 1 queries can be read"),
    (["support", "queries", "--margin", "7"], r"margin is 7\.0; the share left free at each edge is at least 0"),
    (["support", "queries", "--upright"], "upright without a margin: a drawing that was sheared must be cropped ane"),
])
def test_arguments_that_cannot_be_are_refused(folder: Path, capsys, arguments: list[str], message: str) -> None:
    assert classify(*arguments) == 2
    assert re.match(f"matchnet: {message}", capsys.readouterr().err)


@pytest.mark.parametrize(("path", "message"), [
    ("queries", r"matchnet: --html queries: it is a folder; name a file such as page\.html"),
    ("keep.png", r"matchnet: --html keep\.png: it is there already, and no page; name a file such as page\.html"),
])
def test_a_page_replaces_nothing_but_a_page(folder: Path, capsys, path: str, message: str) -> None:
    save(drawing("cross"), folder / "keep.png")
    before = (folder / "keep.png").read_bytes()
    assert classify("support", "queries", "--html", path) == 2
    assert re.match(message, capsys.readouterr().err) and (folder / "keep.png").read_bytes() == before


def test_a_picture_is_no_model(folder: Path, capsys) -> None:
    save(drawing("cross"), folder / "star.png")
    with_model = ["classify", "support", "queries", "--model", "star.png"]
    assert main(with_model) == 2
    assert re.match(r"matchnet: star\.png: a PNG picture, where a model file is wanted", capsys.readouterr().err)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there_is_refused_in_a_line(folder: Path, capsys) -> None:
    assert classify("support", "queries", "--device", "cuda") == 2
    assert re.match(r"matchnet: device is 'cuda', which this machine or this build of torch lacks: ",
                    capsys.readouterr().err)


def test_head_may_close_the_pipe(folder: Path) -> None:
    command = [sys.executable, "-m", "matchnet.pictures.command", "models"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 1


def test_a_probability_is_between_0_and_1(folder: Path, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        classify("support", "queries", "--unknown", "50")
    assert "'50' is no probability; write a number from 0 to 1, such as 0.5" in capsys.readouterr().err


def test_the_page_holds_all_and_loads_nothing(folder: Path, capsys) -> None:
    (folder / "queries/<b>&.txt").write_text("no picture")
    save(drawing("cross"), folder / "support/<i>x/1.png")
    assert classify("support", "queries", "--unknown", "0.999", "--html", "out/page.html") == 1
    page = (folder / "out/page.html").read_text(encoding="utf-8")
    assert page.count("<article") == 3 and page.count("as the model sees it</figcaption>") == 3
    assert "&lt;b&gt;&amp;.txt" in page and "&lt;i&gt;x" in page and "<i>x" not in page
    assert not re.search(r'(src|href)="(?!data:)|url\((?!data:)|<script|https?:', page)
    assert "1 of 3 are <b>unknown</b>: their largest probability is below 0.999" in page


def test_the_page_of_a_model_of_photographs(folder: Path, capsys) -> None:
    preparation = Preparation(channels=3, size=24, kind="photographs")
    model_file(folder / "model.pt", MatchingNetworkSpec(), preparation)
    assert classify("support", "queries", "--html", "page.html") == 0
    assert preparation != PHOTOGRAPHS and (folder / "page.html").read_text().count("<article") == 3


def test_lost_colours_are_said_once(folder: Path, capsys) -> None:
    for name in ("1.png", "2.png"):
        save(Image.new("RGB", (20, 20), (250, 20, 20)), folder / "colours" / name)
    for shape in SHAPES:
        save(Image.new("RGB", (20, 20), (250, 20, 20)), folder / "support" / shape / "red.png")
    assert classify("support", "colours", "colours") == 0
    assert capsys.readouterr().err.count("matchnet: note: pictures have colours, and the model model.pt sees grey") == 1


def test_models_are_listed_and_help_needs_no_torch(folder: Path, capsys) -> None:
    assert main(["models"]) == 0
    assert re.search(r"omniglot, test classes, 20w1s: 97\.32 ± 0\.05 % right \(10,000 episodes\)",
                     capsys.readouterr().out)
    program = ("import sys; sys.modules['torch'] = None; from matchnet.pictures.command import main; "
               "sys.exit(main(['classify', 'nowhere', 'x']))")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 2 and done.stderr.startswith("matchnet: nowhere: there is no such folder")
