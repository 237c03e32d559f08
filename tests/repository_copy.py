"""A repository of its own with small parameters, as a clone would be, for tests of `dvc repro` and of stages."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
COPIED = ("matchnet", "pipeline", "stages", ".dvc/config", ".dvcignore", ".gitignore", "dvc.yaml",
          "params.yaml")
SMALLER = {"max_per_script: ": "8", "num_hands: ": "11", "num_filters: ": "4", "num_blocks: ": "2",
           "image_size: ": "12", "valid_episodes: ": "20", "episodes: ": "50",
           "threads_per_worker: ": "1", "num_processes: ": "1", "warmup_steps: ": "0"}


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


def small_copy(folder: Path) -> Copy:
    """With a small embedded dataset, and the suites `untrained` and `trained` on it, one experiment each."""
    copy = Copy(folder)
    for name, value in SMALLER.items():
        copy.set(name, value)
    params = copy.folder / "params.yaml"
    text = params.read_text(encoding="utf-8").replace("image_size: 12\n    context:", "image_size: null\n    context:")
    params.write_text(text.replace(
        "suites:\n", "suites:\n  untrained:\n    - glyphs-pixels\n  trained:\n    - glyphs\n"), encoding="utf-8")
    copy.run("git", "init", "-q")
    return copy
