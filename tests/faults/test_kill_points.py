"""A process dies where it is told to, in the writing of a checkpoint, and leaves what a kill there leaves."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kill_points import AFTER, BEFORE, HALF
from places import ROOT
from power_loss import cut_power
from ray_nodes import SITE

SAVE = """
from pathlib import Path
from matchnet.files import atomic_write
for step in (10, 20):
    with atomic_write(Path(f"run/step000000{step}/state.pt"), "wb") as file:
        file.write(b"x" * 1000)
    print(step, flush=True)
"""


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[], subprocess.CompletedProcess[str]]:
    """Writes two checkpoints in a process of its own, as workers of tests/chaos.py do."""
    (tmp_path / "run").mkdir()
    environment = {**os.environ, "CHAOS_DISK": str(tmp_path), "PYTHONPATH": f"{ROOT}{os.pathsep}{SITE}"}
    return lambda: subprocess.run([sys.executable, "-c", SAVE], cwd=tmp_path, env=environment, capture_output=True,
                                  text=True)


@pytest.mark.parametrize(("moment", "sizes"), [(HALF, [500]), (BEFORE, [1000]), (AFTER, [1000])])
def test_the_writer_of_the_next_checkpoint_dies_once(
        tmp_path: Path, saved: Callable[[], subprocess.CompletedProcess[str]], moment: int, sizes: list[int]) -> None:
    (tmp_path / "armed").write_text(str(moment))
    killed = saved()
    assert (killed.returncode, killed.stdout) == (-9, ""), killed.stderr
    left = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert [path.stat().st_size for path in left] == sizes
    assert [path.name == "state.pt" for path in left] == [moment == AFTER]
    cut_power(tmp_path / "synced", tmp_path / "run")  # the folder of the checkpoint was not yet synced
    assert [path.name for path in (tmp_path / "run").rglob("*")] == ["step00000010"]
    alive = saved()
    assert (alive.returncode, alive.stdout) == (0, "10\n20\n"), alive.stderr
    cut_power(tmp_path / "synced", tmp_path / "run")
    assert sorted(path.stat().st_size for path in (tmp_path / "run").rglob("state.pt")) == [1000, 1000]
