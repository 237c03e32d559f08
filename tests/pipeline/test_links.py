"""A folder of outputs that is a link out of the repository: refused before any work, since DVC refuses it after."""

import subprocess
import sys
from pathlib import Path

import pytest
from repository_copy import ROOT

from pipeline import paths


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "repository").mkdir()
    (tmp_path / "larger disk").mkdir()
    monkeypatch.chdir(tmp_path / "repository")
    return tmp_path


@pytest.mark.parametrize("name", ["data", "results", "data/shards", "data/shards/omniglot", "data/raw/imagenet",
                                  "data/models/omniglot/matching", "data/evaluations/omniglot/fce",
                                  "results/details/omniglot"])
def test_a_link_out_of_the_repository_is_refused_with_what_to_do_instead(repository: Path, name: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).symlink_to(repository / "larger disk")
    with pytest.raises(ValueError) as raised:
        paths.require_no_links_out()
    assert str(raised.value) == (
        f"{name}: a symbolic link to {repository}/larger disk, out of the repository, where DVC takes no outputs; "
        "remove the link, and move the whole repository to that disk, or mount that folder here (mount --bind "
        f"{repository}/larger disk {name})")


def test_links_that_dvc_takes_are_left_alone(repository: Path) -> None:
    Path("elsewhere").mkdir()
    Path("data/models/glyphs").mkdir(parents=True)
    Path("data/shards").symlink_to("../elsewhere")  # inside of the repository
    (repository / "larger disk/cache").write_text("weights")
    Path("data/models/glyphs/model.pt").symlink_to(repository / "larger disk/cache")  # as cache.type symlink has it
    Path("data/runs").symlink_to(repository / "larger disk")  # no stage's output
    paths.require_no_links_out()


def test_stages_say_so_before_any_work(repository: Path) -> None:
    Path("data").symlink_to(repository / "larger disk")
    done = subprocess.run([sys.executable, "-m", "stages.shard", "demo/glyphs"], env={"PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"ValueError: data: a symbolic link to {repository}/larger disk, out of the repos")
