"""A repository of its own with small tables, as a clone would be, for tests of `dvc repro` and of stages."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from places import ROOT
from ruamel.yaml import YAML

COPIED = ("matchnet", "pipeline", "stages", ".dvc/config", ".dvcignore", ".gitignore", "dvc.yaml")
DEMO = """\
table: demo
cluster:
  storage:
  num_processes: 1
compute:
  threads_per_worker: 1
datasets:
  glyphs:
    source: glyphs
    glyphs: {max_per_script: 8, num_hands: 11}
    splits:
      scripts: {kind: families, num_valid: 3, num_test: 6}
recipes:
  conv4:
    split: scripts
    image_size: 12
    method:
      name: matching_network
      encoder: {name: conv4, num_filters: 4, num_blocks: 2}
    training:
      episode: {num_ways: 10, num_shots: 1, num_queries: 1}
      steps: 40
      valid_episode: {num_ways: 5, num_shots: 1, num_queries: 5}
      valid_episodes: 20
      valid_every: 20
      checkpoint_every: 20
      log_every: 5
models:
"""
TRAINED = "  matching: {recipe: conv4, from: shards/glyphs}\n"
UNTRAINED = "  pixels: {from: shards/glyphs, split: scripts, image_size: 12, method: {name: pixels}}\n"
ROWS = """\
evaluation: {episodes: 50, columns: [5w1s, 5w5s]}
rows:
"""
REPORT = """\
comparisons: {}
report:
  title: Small
"""


class Copy:
    """A repository of its own, as a clone would be. `folder` of a table is relative to its root."""

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
        done = self.try_to_run(*command)
        assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def try_to_run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)

    def write(self, text: str, table: str = ".") -> None:
        """The parameters of a table; a new one gets a dvc.yaml too."""
        (self.folder / table).mkdir(parents=True, exist_ok=True)
        (self.folder / table / "params.yaml").write_text(text, encoding="utf-8")
        if table != ".":
            stages = (ROOT / "experiments/omniglot/dvc.yaml").read_text(encoding="utf-8")
            stages = stages.replace("omniglot", Path(table).name)
            (self.folder / table / "dvc.yaml").write_text(stages, encoding="utf-8")

    def set(self, path: str, value: object, table: str = ".") -> None:
        """Give one parameter another value: `recipes.conv4.training.steps`."""
        file = self.folder / table / "params.yaml"
        yaml = YAML()
        content = yaml.load(file.read_text(encoding="utf-8"))
        *sections, name = path.split(".")
        section = content
        for key in sections:
            section = section[key]
        section[name] = value
        with open(file, "w", encoding="utf-8") as out:
            yaml.dump(content, out)

    def commit(self) -> None:
        self.run("git", "add", "-A")
        self.run("git", "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "-qm", "state")

    def ran(self, output: str) -> list[str]:
        """The stages that ran."""
        return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def small_copy(folder: Path, trained: bool = False) -> Copy:
    """With a small demo of one row: `matching`, which is trained, or `pixels`."""
    copy = Copy(folder)
    name, model = ("matching", TRAINED) if trained else ("pixels", UNTRAINED)
    copy.write(f"{DEMO}{model}{ROWS}  {name}: {{model: {name}, dataset: glyphs}}\n{REPORT}")
    copy.run("git", "init", "-q")
    return copy


def files(folder: Path) -> dict[str, bytes]:
    """The content of every file below a folder, by its path there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
