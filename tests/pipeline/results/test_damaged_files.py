"""Files of our own that something has damaged: one line, with the file, what is wrong, and what makes it again."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import paths
from pipeline.data.formats.word_table import WORDS
from pipeline.data.raw.linked_archives import FOLDER, VERIFIED, _record
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.index import INDEX
from pipeline.data.shards.manifest import MANIFEST
from pipeline.data.shards.notes import WrittenShard, read_note, write_note
from pipeline.data.shards.reader import ShardReader
from pipeline.evaluate.compare import read_column
from pipeline.evaluate.row import write_columns
from pipeline.params import read_params
from pipeline.results.curves import CurvePoint, read_curve, write_curve
from pipeline.results.episode_text import read_episodes
from pipeline.results.metrics import (
    ColumnResult,
    DatasetUsed,
    Details,
    Machine,
    MetricsError,
    ModelUsed,
    SecondsSpent,
    read_details,
    write_details,
)
from pipeline.results.report_html import _data_uri
from pipeline.results.speed import Speed, SpeedError, WorkerSpeed, read_speed, speed_from_logs, write_speed
from pipeline.results.staleness import _Locks
from pipeline.training.run_log import LOG_FILE, NewLines, RunLog, read_log
from pipeline.training.runs import location_of_run
from stages.report import report

DETAILS = Details({"5w1s": ColumnResult(99.31, 0.03, 10000, 5)}, SecondsSpent(1012.3, 14.2),
                  Machine("a processor", 2, None, "2.13.0"), DatasetUsed("omniglot", "vinyals", "test", "ab" * 32),
                  ModelUsed("omniglot/matching", 20000, 111936, 0))
SPEED = Speed((WorkerSpeed(0, 0, 4.0, {"episodes": 8.0}, 0.1, 600.0, None),))
AS_BYTES = [(b"", "the whole file: Invalid JSON"), (b"\xff\xfe{}", "the whole file: Invalid JSON"),
            (b"[" * 100_000, "the whole file: Invalid JSON"), (b"[]", "the whole file: Input should be"),
            (b"null", "the whole file: Input should be")]


def one_line(error: pytest.ExceptionInfo[Any], path: Path) -> str:
    text = str(error.value)
    assert text.startswith(f"{path}") and "\n" not in text and len(text) < 1000
    return text


@pytest.mark.parametrize(("content", "message"), AS_BYTES)
def test_results_that_are_no_json(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "omniglot" / "short" / "details.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(MetricsError, match=message) as raised:
        read_details(path)
    assert "make it again" in one_line(raised, path)
    with pytest.raises(SpeedError, match=rf"{message}.*; train the model again$"):
        read_speed(path)


@pytest.mark.parametrize(("read", "error"), [(read_details, MetricsError), (read_speed, SpeedError)])
def test_a_folder_where_a_file_should_be(tmp_path: Path, read: Callable, error: type[Exception]) -> None:
    with pytest.raises(error, match=rf"^{tmp_path}: there is no such file; "):
        read(tmp_path)


@pytest.mark.parametrize(("before", "after", "message"), [
    ("99.31", '"99.31"', "columns.5w1s.accuracy: Input should be a valid number .found '99.31'"),
    ("99.31", "1e400", "the whole file: Invalid JSON|columns.5w1s.accuracy: Input should be a finite number"),
    ("10000,", "-1,", "columns.5w1s.episodes: Input should be greater than 0 .found -1."),
    ("omniglot/m", "\\ud800", "Invalid JSON")])
def test_results_with_impossible_values(tmp_path: Path, before: str, after: str, message: str) -> None:
    path = tmp_path / "short" / "details.json"
    write_details(path, DETAILS)
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(MetricsError, match=message) as raised:
        read_details(path)
    one_line(raised, path)


def edited(shards: Path, edit: Callable[[dict], object]) -> Path:
    content = json.loads((shards / MANIFEST).read_text())
    edit(content)
    (shards / MANIFEST).write_text(json.dumps(content))
    return shards / MANIFEST


def put(*path: str | int, value: object) -> Callable[[dict], object]:
    def edit(content: dict) -> None:
        for key in path[:-1]:
            content = content[key]  # type: ignore[index]
        content[path[-1]] = value  # type: ignore[index]
    return edit


MANIFESTS: dict[str, tuple[Callable[[dict], object], str]] = {
    "a text": (put("num_samples", value="320"), "num_samples: Input should be a valid integer .found '320'"),
    "too few": (put("num_samples", value=3), "num_samples: 3, but its shards have 320"),
    "negative": (put("shards", 0, "size", value=-1), "shards.0.size: Input should be greater than or equal to 0"),
    "huge": (put("classes", 0, "num_samples", value=10**12), "num_samples: 320, but its classes have 1,000,000,000,"),
    "a path": (put("shards", 0, "name", value="../../etc/x.tar"), r"shards\.0\.name: String should match pattern"),
    "a digest": (put("index_sha256", value="ab"), "index_sha256: String should match pattern"),
    "a source": (put("parameters", "source", value="os"), "parameters.source: 'os' is none of omniglot, mnist, "),
    "invert": (put("parameters", "invert", value=None), "parameters.invert: None is neither true nor false"),
    "upright": (put("parameters", "upright", value="yes"), "parameters.upright: found 'yes'; it must be true or false"),
    "margin": (put("parameters", "margin", value="wide"), "parameters.margin: found 'wide'; it must be a number"),
    "a group": (put("classes", 0, "group", value="x"), "classes: '.*' is of group 'x', which has no shard"),
    "a class": (put("splits", "random", "test", value=["x"]), "splits.random: 'x' is none of its classes"),
    "parts": (put("splits", "random", value={"train": []}), "splits.random: its parts are train, not train, valid, te"),
    "twice": (lambda content: content["shards"].append({**content["shards"][0], "num_samples": 0}),
              "shards: a name is there twice"),
    "a field": (lambda content: content.pop("sources"), "sources: Field required"),
    "another": (put("more", value=1), "more: Unexpected keyword argument"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_with_impossible_values(copied_shards: Path, name: str) -> None:
    edit, message = MANIFESTS[name]
    path = edited(copied_shards, edit)
    with pytest.raises(ValueError, match=message) as raised:
        _ = ShardFolder(copied_shards).manifest
    assert one_line(raised, path).endswith("; run the shard stage again")


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b"7", b'{"format": [1]}'])
def test_a_manifest_that_is_none(copied_shards: Path, content: bytes) -> None:
    (copied_shards / MANIFEST).write_bytes(content)
    with pytest.raises(ValueError, match=r"; run the shard stage again$") as raised:
        _ = ShardFolder(copied_shards).manifest
    one_line(raised, copied_shards / MANIFEST)


def test_an_index_or_a_word_table_is_compared_with_its_sha_256_when_it_is_read(
        copied_shards: Path, small_corpus_shards: Path, tmp_path: Path) -> None:
    index = pq.read_table(copied_shards / INDEX)
    pq.write_table(index, copied_shards / INDEX, compression="none")  # the same rows, in other bytes
    message = r"index\.parquet: edited after it was written: SHA-256 \w{64}, dataset\.json says \w{64}; run the shard"
    with pytest.raises(ValueError, match=message):
        ShardReader(ShardFolder(copied_shards))
    for name in (MANIFEST, WORDS):
        (tmp_path / name).write_bytes((small_corpus_shards / name).read_bytes() + b" " * (name == WORDS))
    with pytest.raises(ValueError, match=r"words\.parquet: edited after it was written: SHA-256 .*; run the shard"):
        ShardFolder(tmp_path).words  # noqa: B018  # read when it is asked for


CURVES = {
    "step,loss": "columns are .*, expected .*; make it again with the stage train@conv4 of omniglot",
    "": "columns are ",
    "{head}\n1,2,3": "line 2: 3 cells, and the head has 7; make it",
    "{head}\n1,nan,,,,,": "line 2, column loss: 'nan' cannot be; make it",
    "{head}\n1,1e999,,,,,": "line 2, column loss: '1e999' cannot be",
    "{head}\n1,,200,,,,": "line 2, column accuracy: '200' cannot be",
    "{head}\n1,,,,,,\n1,,,,,,": "line 3, column step: '1' is no whole number above the one before it",
    "{head}\n1.5,,,,,,": "line 2, column step: '1.5' is no whole number",
    "{head}\n,,,,,,": "line 2, column step: '' is no whole number",
    "{head}\nx,,,,,,": "line 2, column step: 'x' is not a number",
    "{head}\n1,\"" + "x" * 200_000: "no table of text",
}


@pytest.mark.parametrize("text", CURVES)
def test_a_damaged_learning_curve(tmp_path: Path, text: str) -> None:
    path = tmp_path / "curves" / "omniglot" / "conv4.csv"
    write_curve(path, [CurvePoint(1, 2.0)])
    head = path.read_text().splitlines()[0]
    path.write_text(text.replace("{head}", head))
    with pytest.raises(ValueError, match=CURVES[text]) as raised:
        read_curve(path)
    one_line(raised, path)
    path.write_bytes(b"step\xff")
    with pytest.raises(ValueError, match=r"conv4\.csv: no table of text \(.*; make it again with the stage train@"):
        read_curve(path)


SPEEDS = {"steps_per_second": 4.0, "worker_episodes_per_second": 8.0, "data_wait_share": 0.1, "peak_rss_mib": 600.0,
          "peak_gpu_mib": None}
DAMAGED = [b'{"step": 30, "lo', b"\xff\xfe\x00", b"[1, 2]", b"7", b"null", b"[" * 100_000,
           b'{"step": "x", "attempt": 1, "seconds": 1}', b'{"step": 30, "attempt": 1}', b'{"attempt": 1, "seconds": 1}',
           b'{"step": 30, "attempt": 1, "seconds": 1, "loss": "high"}',
           b'{"step": 30, "attempt": 1, "seconds": 1, "loss": NaN}', b'{"step": -1, "attempt": 1, "seconds": 1}',
           b'{"step": 30, "attempt": 1, "seconds": 1, "host": 7}']


def test_damaged_lines_of_a_run_s_log_are_left_out(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0, node="n", workers=1)
    log.write({"step": 10, **SPEEDS})
    before = read_log(tmp_path)
    follower = NewLines(tmp_path / LOG_FILE)
    with open(tmp_path / LOG_FILE, "ab") as file:
        file.write(b"\n".join([*DAMAGED, b""]))
    assert follower.read() == [] and read_log(tmp_path) == before
    log.write({"step": 20, **SPEEDS})
    log.write({"step": 30, **{name: value for name, value in SPEEDS.items() if name != "data_wait_share"}})
    log.write({"step": 40, **SPEEDS, "data_wait_share": 5.0})
    assert speed_from_logs({0: read_log(tmp_path)}) == SPEED


def test_a_note_of_a_shard_that_something_touched_is_not_believed(tmp_path: Path) -> None:
    written = WrittenShard("made so", "ab" * 32, 2048, [512], [300])
    note = tmp_path / "note.json"
    write_note(note, written)
    assert read_note(note, "made so") == written
    text = note.read_text()
    for damaged in (text.replace("[300]", "[301]"), text[:-3], "[]", "", text.partition("\n")[2]):
        note.write_text(damaged)
        assert read_note(note, "made so") is None


@pytest.mark.parametrize("content", [
    b"[]", b"{", b"\xff", b'{"a": {"size": 1}}', b'{"a": {"size": "x", "mtime_ns": 1}}'])
def test_a_damaged_record_of_verified_archives_is_none(tmp_path: Path, content: bytes) -> None:
    """They are then read once more."""
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / VERIFIED).write_bytes(content)
    assert _record(tmp_path / FOLDER) == {}


def test_accuracies_of_episodes_that_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "accuracies.parquet"
    write_columns(path, {"5w1s": np.linspace(0, 1, 2000)})
    assert read_column(path, "5w1s", 2000, "omniglot/short")[-1] == 1
    whole = path.read_bytes()
    for damaged in (b"", whole[:-9], whole[:400] + bytes([whole[400] ^ 1]) + whole[401:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"parquet: not a whole Parquet file \(.*; make it with the stage"):
            read_column(path, "5w1s", 2000, "omniglot/short")
    for column in (pa.array(["x"] * 2), pa.array([0.5, 2.0]), pa.array([0.5, float("nan")]), pa.array([0.5, None])):
        pq.write_table(pa.table({"5w1s": column}), path)
        with pytest.raises(ValueError, match=r"accuracies.parquet: 5w1s: what an episode has is a share of"):
            read_column(path, "5w1s", 2, "omniglot/short")


@pytest.mark.parametrize("inside", ["<script>alert(1)</script>", "<p onclick=x>", "<img src=x>", "<b", "<!-- x -->"])
def test_test_episodes_with_tags_that_are_not_ours(tmp_path: Path, inside: str) -> None:
    path = tmp_path / "short" / "episodes.html"
    path.parent.mkdir()
    ours = '<p><b>1 &lt; 2</b></p>\n<table class="episode">\n<tr><td><kbd>&nbsp;?&nbsp;</kbd><br></td></tr>\n</table>\n'
    path.write_text(ours)
    assert read_episodes(path) == ours
    path.write_text(ours + inside)
    with pytest.raises(ValueError, match=r"html: '<.*' is no tag of test episodes; make it again with the stage"):
        read_episodes(path)
    for more in ("\n", "x", "\0" * 512):
        path.write_text(ours + more)
        with pytest.raises(ValueError, match=r"html: line 5 is '.*', no heading and no part of a table; make it again"):
            read_episodes(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"html: byte 1 is not UTF-8; make it again with the stage evaluate@short"):
        read_episodes(path)


def test_a_picture_that_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "episodes.png"
    Image.new("RGB", (64, 64)).save(path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"episodes\.png: not a whole picture \(.*\); make it again with the stage"):
        _data_uri(path)


@pytest.mark.parametrize(("text", "message"), [
    ("stages: [1]", r"stages: Input should be a valid dictionary; restore it from git, or delete it, and all stages"),
    ("stages: {train@x: {outs: [{md5: 1}]}}", r"stages.train@x.outs.0.path: Field required; restore"),
    ("a: [", "this is not YAML"), ("\x00", "this is not YAML")])
def test_a_damaged_dvc_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("table: demo\ndatasets: {}\nmodels: {}\nrows: {}\ncomparisons: {}\n"
                                   "report: {title: x}\n")
    Path("dvc.lock").write_text(text)
    with pytest.raises(ValueError, match=rf"^dvc\.lock.*: {message}"):
        _Locks().lock("demo")


def test_the_name_of_a_checkout_that_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "checkout").write_bytes(b"../..\xff")
    with pytest.raises(ValueError, match=rf"^{tmp_path}/checkout: found '\.\./\.\..', not the 12 hex digits .*; del"):
        location_of_run(tmp_path / "conv4-0123456789ab", str(tmp_path / "storage"))


@pytest.mark.parametrize(("name", "message"), [
    ("curve.csv", "columns are ['step', 'loss'], expected ['step', 'loss', "),
    ("speed.json", "the whole file: Invalid JSON")])
def test_a_damaged_file_beside_a_model_replaces_no_good_copy(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(
        "table: demo\n"
        "datasets: {small: {source: glyphs, splits: {scripts: {kind: families, num_valid: 1, num_test: 2}}}}\n"
        "models: {conv: {from: shards/small, split: scripts, image_size: 28, method: {name: pixels}}}\n"
        "rows: {}\n"
        "comparisons: {}\n"
        "report: {title: x}\n")
    (curve, good_curve), (speed, good_speed) = paths.training_files("demo/conv").items()
    write_curve(curve, [CurvePoint(1, 2.0, 20.0)])
    write_speed(speed, SPEED)
    params = read_params("demo")
    report(params)
    good = good_curve.read_bytes(), good_speed.read_bytes()
    damaged, copy = (curve, good_curve) if name == curve.name else (speed, good_speed)
    damaged.write_text("step,loss\n")
    (good_curve.parent / f".conv.csv.{os.getpid()}.tmp").write_text("of a process that was killed")
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        report(params)
    assert one_line(raised, damaged).endswith(f"; make it again with the stage train@conv of demo; {copy} is as before")
    assert good == (good_curve.read_bytes(), good_speed.read_bytes())
    write_curve(curve, [CurvePoint(2, 2.0, 20.0)])
    write_speed(speed, SPEED)
    report(params)
    assert good != (good_curve.read_bytes(), good_speed.read_bytes())
    assert [path.name for path in good_curve.parent.iterdir()] == ["conv.csv"]


def test_a_speed_that_was_written_is_read(tmp_path: Path) -> None:
    write_speed(tmp_path / "x.speed.json", SPEED)
    assert read_speed(tmp_path / "x.speed.json") == SPEED
