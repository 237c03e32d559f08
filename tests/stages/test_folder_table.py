"""`experiments/folder` from a folder of pictures to its report and its model, by the one command that it names."""

import json
import sys

from repository_copy import ROOT, Copy
from small_folder import drawn, encoded, small_files, write_folder

from matchnet import OneShotClassifier

TABLE = "experiments/folder"
NUM_CLASSES, NUM_PICTURES = 16, 20
SMALLER = {  # all else is as a user finds it
    "recipes.conv4.image_size": 24,
    "recipes.conv4.method": {"name": "matching_network", "encoder": {"name": "conv4", "num_blocks": 2}},
    "recipes.conv4.training.steps": 60,
    "recipes.conv4.training.warmup_steps": 5,
    "recipes.conv4.training.valid_every": 30,
    "recipes.conv4.training.valid_episodes": 20,
    "recipes.conv4.training.checkpoint_every": 30,
    "evaluation.episodes": 200,
}


def test_a_folder_of_pictures_becomes_a_table_and_a_model(tmp_path):
    copy = Copy(tmp_path / "clone")
    copy.run("git", "init", "-q")
    copy.write((ROOT / "params.yaml").read_text(encoding="utf-8"))
    copy.write((ROOT / TABLE / "params.yaml").read_text(encoding="utf-8"), TABLE)
    pictures = write_folder(tmp_path / "my pictures", small_files(NUM_CLASSES, NUM_PICTURES))
    write_folder(pictures, {"too few/1.png": encoded(drawn(99, 0)), "class 0/notes.txt": b"no picture"})
    copy.set("datasets.pictures.folder.path", str(pictures), TABLE)
    for name, value in SMALLER.items():
        copy.set(name, value, TABLE)

    output = copy.run("dvc", "repro", f"{TABLE}/dvc.yaml")

    assert set(copy.ran(output)) == {f"{TABLE}/dvc.yaml:{stage}" for stage in (
        "resolve", "download@pictures", "shard@pictures", "train@pixels", "train@matching", "evaluate@pixels",
        "evaluate@matching", "compare@pixels", "report")}
    manifest = json.loads((copy.folder / "data/shards/pictures/dataset.json").read_text(encoding="utf-8"))
    assert (manifest["num_samples"], manifest["left_out"]) == (NUM_CLASSES * NUM_PICTURES, {"too few": 1})
    found = json.loads((copy.folder / "results/metrics/folder/matching.json").read_text(encoding="utf-8"))
    assert set(found) == {"5w1s", "5w5s"} and found["5w1s"] > 50, "chance is 20"
    shown = copy.run(sys.executable, "-m", "stages.report", "--table", "folder")
    assert "matching" in shown and "pixels" in shown
    assert (copy.folder / "results/folder.html").is_file() and (copy.folder / "results/folder.md").is_file()

    classifier = OneShotClassifier(copy.folder / "data/models/folder/matching/model.pt")
    support = [pictures / f"class {number}" for number in range(5)]
    classifier.fit([sorted(folder.iterdir())[0] for folder in support], [folder.name for folder in support])
    queries = [(path, folder.name) for folder in support for path in sorted(folder.iterdir())[1:NUM_PICTURES]]
    assert classifier.score([path for path, _ in queries], [name for _, name in queries]) > 0.5
