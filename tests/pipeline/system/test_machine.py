"""A container's limits count where they are lower than what its machine has."""

from pathlib import Path

import psutil
import pytest

from pipeline.system import machine


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    return tmp_path


@pytest.mark.parametrize(("quota", "expected"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None),
                                                 ("99900000 100000", None)])
def test_cores(container: Path, quota: str, expected: int | None) -> None:
    outside = machine.cores()
    (container / "cpu.max").write_text(f"{quota}\n")
    assert machine.cores() == (expected or outside)


def test_memory(container: Path) -> None:
    assert machine.available_memory() > 0
    for name, text in {"memory.max": "1000000", "memory.current": "700000",
                       "memory.stat": "anon 400000\ninactive_file 300000"}.items():
        (container / name).write_text(f"{text}\n")
    assert machine.available_memory() == 600_000, "files that are cached give way"
    (container / "memory.max").write_text("max\n")
    assert machine.available_memory() > psutil.virtual_memory().available / 2


def test_nothing_counts_the_cores_of_the_machine_by_itself() -> None:
    root = Path(machine.__file__).parents[2]
    counting = [path.relative_to(root).as_posix() for folder in ("matchnet", "pipeline", "stages", "benchmarks")
                for path in (root / folder).rglob("*.py") if "cpu_count" in path.read_text(encoding="utf-8")]
    assert counting == ["pipeline/system/machine.py"]
