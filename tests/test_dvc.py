"""`dvc repro` from an empty data folder to the report, in a copy of the repository with small parameters."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COPIED = ("matchnet", "pipeline", "stages", ".dvc/config", ".dvcignore", ".gitignore", "dvc.yaml",
          "params.yaml")
SMALLER = {"max_per_script: ": "8", "num_hands: ": "11", "num_filters: ": "4", "num_blocks: ": "2",
           "image_size: ": "12", "valid_episodes: ": "20", "episodes: ": "50",
           "threads_per_worker: ": "1", "num_processes: ": "1"}


class Copy:
    """A repository of its own, as a clone would be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, target)
        self.environment = {**os.environ, "PYTHONPATH": str(folder), "GIT_CEILING_DIRECTORIES": str(folder.parent),
                            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def run(self, *command: str) -> str:
        """Standard output and error of a command that must succeed."""
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def set(self, name: str, value: str) -> None:
        """Give every parameter of this name, such as `steps: `, another value."""
        path = self.folder / "params.yaml"
        before = r"(^ *|\{|, )"  # on a line of its own, or in a flow map
        text = path.read_text(encoding="utf-8")
        text = re.sub(rf"(?m){before}{re.escape(name)}(\"[^\"]*\"|[^,}}\n]*)", rf"\g<1>{name}{value}", text)
        path.write_text(text, encoding="utf-8")

    def commit(self) -> None:
        self.run("git", "add", "-A")
        self.run("git", "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "-qm", "state")

    def ran(self, output: str) -> list[str]:
        """The stages that ran."""
        return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    copy = Copy(tmp_path_factory.mktemp("clone"))
    for name, value in SMALLER.items():
        copy.set(name, value)
    params = copy.folder / "params.yaml"
    text = params.read_text(encoding="utf-8").replace("image_size: 12\n    context:", "image_size: null\n    context:")
    params.write_text(text.replace(
        "suites:\n", "suites:\n  untrained:\n    - glyphs-pixels\n  trained:\n    - glyphs\n"), encoding="utf-8")
    copy.run("git", "init", "-q")
    copy.run(sys.executable, "-m", "stages.select", "untrained")
    copy.commit()
    return copy


def test_everything_runs_then_nothing_then_only_what_a_change_touches(copy):
    first = copy.run("dvc", "repro")
    assert copy.ran(first) == ["download@glyphs", "shard@glyphs", "train@glyphs-pixels", "evaluate@glyphs-pixels",
                               "report"]
    metrics = json.loads((copy.folder / "results/glyphs-pixels/metrics.json").read_text(encoding="utf-8"))
    assert metrics["columns"]["5w1s"]["episodes"] == 50
    assert "5-way 1-shot" in copy.run(sys.executable, "-m", "stages.report", "--table")
    for name in ("report.html", "report.md", "glyphs-pixels/episodes.png", "training/glyphs-pixels.csv"):
        assert (copy.folder / "results" / name).is_file()
    copy.commit()

    assert copy.ran(copy.run("dvc", "repro")) == []
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
