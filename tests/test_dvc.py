"""`dvc repro` from an empty data folder to the report, in a copy of the repository with small parameters."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from repository_copy import Copy, small_copy


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    copy = small_copy(tmp_path_factory.mktemp("clone"))
    copy.run(sys.executable, "-m", "stages.select", "untrained")
    copy.commit()
    return copy


def test_everything_runs_then_nothing_then_only_what_a_change_touches(copy):
    first = copy.run("dvc", "repro")
    assert copy.ran(first) == ["code", "download@glyphs", "shard@glyphs", "train@glyphs-pixels",
                               "evaluate@glyphs-pixels", "report"]
    metrics = json.loads((copy.folder / "results/glyphs-pixels/metrics.json").read_text(encoding="utf-8"))
    assert metrics["columns"]["5w1s"]["episodes"] == 50
    assert "5-way 1-shot" in copy.run(sys.executable, "-m", "stages.report", "--table")
    for name in ("report.html", "report.md", "glyphs-pixels/episodes.png", "training/glyphs-pixels.csv"):
        assert (copy.folder / "results" / name).is_file()
    copy.commit()

    assert copy.ran(copy.run("dvc", "repro")) == []
    for edit, stale in (("# a remark", ["code"]), ("x = 1", ["code", "report"])):
        with open(copy.folder / "pipeline/results/report.py", "a", encoding="utf-8") as file:
            file.write(f"{edit}\n")
        assert copy.ran(copy.run("dvc", "repro")) == stale
    copy.set("title: ", "Another title")
    assert copy.ran(copy.run("dvc", "repro")) == ["report"]
    copy.set("episodes: ", "60")
    assert copy.ran(copy.run("dvc", "repro")) == ["evaluate@glyphs-pixels", "report"]
    assert "columns.5w1s.episodes" in copy.run("dvc", "metrics", "diff")
    assert "experiments.glyphs-pixels.episodes" in copy.run("dvc", "params", "diff")
    assert "results/glyphs-pixels/metrics.json" in copy.run("dvc", "metrics", "show")


def test_a_mistake_in_the_parameters_stops_it_before_any_work(copy):
    kept = (copy.folder / "params.yaml").read_text(encoding="utf-8")
    copy.set("kernel: ", "cosin")
    done = subprocess.run([sys.executable, "-m", "stages.train", "glyphs-pixels"], cwd=copy.folder,
                          env=copy.environment, capture_output=True, text=True)
    (copy.folder / "params.yaml").write_text(kept, encoding="utf-8")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "method.attention.kernel: found 'cosin'; write one of cosine" in done.stderr


@pytest.mark.slow
def test_ctrl_c_in_training_and_the_same_command_goes_on(copy):
    copy.set("steps: ", "300")
    copy.set("valid_every: ", "100")
    copy.set("checkpoint_every: ", "20")
    copy.set("log_every: ", "5")
    copy.run(sys.executable, "-m", "stages.select", "trained")
    copy.run("dvc", "repro", "shard@glyphs")
    process = subprocess.Popen(["dvc", "repro"], cwd=copy.folder, env=copy.environment, start_new_session=True)
    while process.poll() is None and not list(copy.folder.glob("data/runs/*/step*/state.pt")):
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() != 0
    assert not (copy.folder / "data/models/glyphs/model.pt").exists()
    output = copy.run("dvc", "repro")
    assert "glyphs: goes on from step" in output
    assert copy.ran(output) == ["train@glyphs", "evaluate@glyphs", "report"]
    assert list((copy.folder / "data/runs").iterdir()) == [], "nothing is left of a run that succeeded"
