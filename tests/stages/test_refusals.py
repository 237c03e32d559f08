"""The commands of the stages: their help, and what they refuse with file, line and field."""

import shutil
import sys
from pathlib import Path

import pytest
from places import ROOT
from small_folder import small_files, write_folder

from pipeline.data.raw.download import download_dataset
from pipeline.params import ParamsError, read_params, read_table, table_folders
from stages import resolve
from stages.command import EXAMPLES, run_stage
from stages.shard import shard

TABLE = Path("experiments/folder")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository's root with the parameters of the demo and of a folder of pictures, which is not there."""
    for name in (Path("params.yaml"), TABLE / "params.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("what", "section"), [
    ("dataset", "own_datasets"), ("model", "models"), ("row", "rows"), ("comparison", "comparisons")])
def test_the_help_names_one_that_is_committed(monkeypatch, capsys, what, section):
    monkeypatch.setattr(sys, "argv", ["stage", "--help"])
    with pytest.raises(SystemExit):
        run_stage(print, "About.", what)
    example = EXAMPLES[what]
    assert f"such as {example};" in " ".join(capsys.readouterr().out.split())
    table, _, name = example.partition("/")
    assert {name, example} & set(getattr(read_params(table, ROOT), section))


def test_pictures_that_are_not_there_are_refused_by_the_first_stage_alone(root, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["resolve", str(TABLE)])
    with pytest.raises(SystemExit, match=r"^ParamsError: experiments/folder/params\.yaml:\d+: datasets\.pictures\."
                       r"folder\.path: found 'data/pictures', and there is no such file or folder; put your pictures "):
        resolve.main()
    resolve.require_pictures(read_table(Path()))
    monkeypatch.setattr(resolve, "resolved_files", lambda params: {})  # reading the code takes seconds
    monkeypatch.setattr(sys, "argv", ["resolve", "--check"])
    resolve.main()
    assert table_folders() == [Path(), TABLE]
    (root / "data/pictures").mkdir(parents=True)
    resolve.require_pictures(read_table(TABLE))


def test_a_split_that_the_classes_cannot_fill_is_located(root):
    write_folder(root / "data/pictures", small_files(num_classes=8, num_pictures=10))
    params = read_params("folder")
    download_dataset("pictures", params.datasets["pictures"], root / "data/raw/pictures")
    with pytest.raises(ParamsError, match=r"^experiments/folder/params\.yaml:\d+: datasets\.pictures\.splits\.random: "
                       r"num_valid, num_test: 5 \+ 5 are more than the 8 classes; ask for fewer$"):
        shard("folder/pictures", params)
