"""Stages leave nothing behind: no process, no temporary file, no shared memory; neither at their end nor after Ctrl-C.

A port is open as long as its process lives, so none is left where no process is.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from repository_copy import Copy, small_copy

pytestmark = pytest.mark.slow
MARK = "MATCHNET_TEST_MARK"  # in the environment of a stage, and of all that it starts
SECONDS = 120
SHARED_MEMORY = Path("/dev/shm")


class Watched:
    """A stage with a folder of its own for temporary files."""

    def __init__(self, copy: Copy, *command: str) -> None:
        self.mark = uuid.uuid4().hex
        self.temporary = Path(tempfile.mkdtemp(prefix="lb", dir="/tmp"))  # short: Ray's sockets lie in it
        self.shared_before = set(SHARED_MEMORY.iterdir())
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=copy.folder, start_new_session=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
            env={**copy.environment, MARK: self.mark, "TMPDIR": str(self.temporary)})

    def ended(self) -> int:
        self.output = self.process.communicate(timeout=SECONDS)[0]
        return self.process.returncode

    def running(self) -> list[str]:
        """Command lines of processes that it, or what it started, has started; those that end just now included."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:  # ended meanwhile, or nobody's to read
                continue
        return found

    def nothing_left(self) -> None:
        deadline = time.monotonic() + 5  # the system may take a moment to end what was killed
        while self.running() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert self.running() == [], self.output
        left = [path for path in sorted(self.temporary.rglob("*")) if not path.name.startswith("torchinductor")]
        assert left == [], "torch makes a folder of its own when it is imported, and keeps it; we keep nothing"
        assert set(SHARED_MEMORY.iterdir()) <= self.shared_before
        shutil.rmtree(self.temporary)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    copy = small_copy(tmp_path_factory.mktemp("left"), trained=True)
    copy.set("cluster.num_processes", 2)
    yield copy


STAGES = (("stages.download", "demo/glyphs"), ("stages.shard", "demo/glyphs"), ("stages.train", "demo/matching"),
          ("stages.evaluate", "demo/matching"), ("stages.report", "demo"))


@pytest.mark.parametrize("stage", STAGES, ids=" ".join)
def test_at_the_end_of_a_stage(copy: Copy, stage: tuple[str, ...]) -> None:
    watched = Watched(copy, *stage)
    assert watched.ended() == 0, watched.output
    watched.nothing_left()


def started(watched: Watched, copy: Copy) -> bool:
    return True


def has_children(watched: Watched, copy: Copy) -> bool:
    return len(watched.running()) > 2


def has_checkpoint(watched: Watched, copy: Copy) -> bool:
    return bool(list(copy.folder.glob("data/runs/*/step*/state.pt")))


@pytest.mark.parametrize(("stage", "reached", "pause"), [
    (STAGES[0], started, 1.5), (STAGES[1], has_children, 0.3), (STAGES[2], started, 1.0),
    (STAGES[2], has_children, 0.5),
    (STAGES[2], has_children, 4.0), (STAGES[2], has_checkpoint, 0.1), (STAGES[3], started, 2.5),
    (STAGES[4], started, 0.5)])
def test_after_ctrl_c(copy: Copy, stage: tuple[str, ...], reached: Callable[[Watched, Copy], bool],
                      pause: float) -> None:
    """As a terminal sends it: to the stage and to all that it has started."""
    for folder in {"stages.download": ["data/raw/glyphs"], "stages.shard": ["data/shards/glyphs"],
                   "stages.train": ["data/runs", "data/models/demo/matching"]}.get(stage[0], []):
        kept = copy.folder / f"{folder}.kept"
        if (copy.folder / folder).exists():
            (copy.folder / folder).rename(kept)
    copy.set("recipes.conv4.training.steps", 100_000)
    copy.set("recipes.conv4.training.checkpoint_every", 10)
    watched = Watched(copy, *stage)
    deadline = time.monotonic() + SECONDS
    while not reached(watched, copy) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(pause)
    os.killpg(watched.process.pid, signal.SIGINT)
    status = watched.ended()
    assert "spawn_main" not in watched.output, "a process that it has started shows no traceback"
    assert status != 0 or stage[0] != "stages.train", watched.output
    watched.nothing_left()
    for kept in copy.folder.rglob("*.kept"):
        shutil.rmtree(kept.with_suffix(""), ignore_errors=True)
        kept.rename(kept.with_suffix(""))
