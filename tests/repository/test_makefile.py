"""`make install` in a clone, and in the ZIP of the repository, where DVC would ask for git after the installing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """The files that `make install` reads, with a Python in .venv that installs nothing; outside of any repository."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", ".dvc/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    write_command(tmp_path, "python", 'echo "$@" >> .venv/asked')
    return tmp_path


def write_command(folder: Path, name: str, script: str) -> None:
    command = folder / ".venv/bin" / name
    command.parent.mkdir(parents=True, exist_ok=True)
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)


def install(folder: Path, python: str = sys.executable, target: str = "install") -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    outside["GIT_CEILING_DIRECTORIES"] = str(folder.parent)
    return subprocess.run(["make", target, f"PYTHON={python}"], cwd=folder, env=outside, capture_output=True, text=True)


def test_the_zip_of_the_repository_needs_no_git(unpacked: Path) -> None:
    done = install(unpacked)
    assert done.returncode == 0, done.stderr
    assert (unpacked / ".dvc/config.local").read_text() == "[core]\n    no_scm = true\n"


def test_a_clone_and_settings_that_are_there_are_left_alone(unpacked: Path) -> None:
    (unpacked / ".git").mkdir()
    assert install(unpacked).returncode == 0
    assert not (unpacked / ".dvc/config.local").exists()
    (unpacked / ".git").rmdir()
    (unpacked / ".venv/.dev").unlink()
    (unpacked / ".dvc/config.local").write_text("[cache]\n    dir = /elsewhere\n")
    assert install(unpacked).returncode == 0
    assert (unpacked / ".dvc/config.local").read_text() == "[cache]\n    dir = /elsewhere\n"


def test_an_old_python_is_refused_before_the_install(unpacked: Path) -> None:
    old = unpacked / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")  # to the question for its version
    old.chmod(0o755)
    done = install(unpacked, str(old))
    assert done.returncode != 0 and f"Python 3.11 or newer is needed; {old} is older" in done.stdout + done.stderr


def test_a_table_installs_less_than_the_tests_and_nothing_twice(unpacked: Path) -> None:
    for target in (".venv/.pipeline", "install", ".venv/.pipeline", "install"):
        assert install(unpacked, target=target).returncode == 0
    asked = (unpacked / ".venv/asked").read_text().splitlines()
    assert [line.split()[-1] for line in asked] == [".[pipeline]", ".[dev]"]


@pytest.mark.parametrize("table", ["demo", "small"])
def test_a_line_parts_the_table_from_what_dvc_advises(unpacked: Path, table: str) -> None:
    (unpacked / "experiments/small").mkdir(parents=True)
    (unpacked / "experiments/small/dvc.yaml").touch()
    write_command(unpacked, "dvc", 'echo "Use dvc push."')
    done = install(unpacked, target=table)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith('Use dvc push.\n\nAll stages are done. DVC may advise "git add" and "dvc push" above: '
                                'the results need neither.\n\n')
    assert (unpacked / ".venv/asked").read_text().splitlines()[-1] == f"-m stages.report --table {table}"


def test_no_table_follows_a_failed_stage(unpacked: Path) -> None:
    write_command(unpacked, "dvc", "exit 1")
    done = install(unpacked, target="demo")
    assert done.returncode != 0 and "All stages are done" not in done.stdout
    assert "stages.report" not in (unpacked / ".venv/asked").read_text()
