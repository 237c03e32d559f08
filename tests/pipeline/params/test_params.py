"""A table is refused before any work begins, with file, line, field, value, rule and remedy."""

import copy
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from places import ROOT
from ruamel.yaml import YAML

from pipeline.params import Params, ParamsError, named, read_params, read_table, table_folders
from pipeline.params.tables import FOREACH, merged_values
from pipeline.params.yaml_file import YamlFile

TABLES = list(table_folders(ROOT))
Edit = Callable[..., Params]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the files of parameters alone."""
    for folder in TABLES:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / folder / "params.yaml", tmp_path / folder / "params.yaml")
    return tmp_path


@pytest.fixture
def edited(root: Path) -> Edit:
    """The table with other values at some dotted paths; `None` as a name removes nothing: it writes null."""

    def edit(table: str, changes: dict[str, object], removed: str = "") -> Params:
        folder = Path() if table == "demo" else Path("experiments", table)
        file = root / folder / "params.yaml"
        values = copy.deepcopy(YamlFile.read(file).values)
        for path, value in changes.items():
            put(values, path, value)
        if removed:
            *sections, name = removed.split(".")
            section = values
            for key in sections:
                section = section[key]
            del section[name]
        text = io.StringIO()
        YAML().dump(values, text)
        file.write_text(text.getvalue(), encoding="utf-8")
        return read_table(folder, root)

    return edit


def put(values: dict, path: str, value: object) -> None:
    *sections, name = path.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values[name] = value


@pytest.mark.parametrize("folder", TABLES, ids=str)
def test_every_table_is_accepted_as_it_is_committed(folder):
    params = read_table(folder, ROOT)
    assert params.own_models and params.rows
    assert all(name.startswith(f"{params.table}/") for name in (*params.own_models, *params.rows))


@pytest.mark.parametrize(("folder", "most"), [(folder, 350 if folder == Path() else 205) for folder in TABLES])
def test_a_table_is_a_page_or_two(folder, most):
    assert len((ROOT / folder / "params.yaml").read_text(encoding="utf-8").splitlines()) <= most


@pytest.mark.parametrize(("table", "path", "value", "message"), [
    ("demo", "recipes.conv4.training.stepps", 5,
     "params.yaml:LINE: recipes.conv4.training.stepps: there is no such parameter; did you mean 'steps'?"),
    ("demo", "modles", {}, "modles: there is no such parameter; did you mean 'models'?"),
    ("demo", "recipes.conv4.training.steps", "many", "recipes.conv4.training.steps: found 'many'; it must be a whole"),
    ("demo", "recipes.conv4.training.steps", 1.5, "training.steps: found 1.5; it must be a whole number"),
    ("demo", "recipes.conv4.training.steps", True, "training.steps: found True; it must be a whole number"),
    ("demo", "recipes.conv4.training.steps", 0, "recipes.conv4.training: steps is 0; it must be at least 1"),
    ("demo", "models.fce.training", {"steps": 0}, "models.fce.training: steps is 0; it must be at least 1"),
    ("demo", "models.matching.rotations", 1, "models.matching.rotations: found 1; it must be true or false"),
    ("demo", "recipes.conv4.method.name", "matchin_network",
     "recipes.conv4.method.name: found 'matchin_network'; did you mean 'matching_network'?"),
    ("demo", "recipes.conv4.method", "pixels", "method: found 'pixels'; it must be a section"),
    ("demo", "recipes.conv4.method.attention", {"kernel": "cos"},
     "recipes.conv4.method.attention.kernel: found 'cos'; write one of cosine"),
    ("demo", "models.matching.from", "shards/glyps",
     "models.matching.from: there is no dataset 'glyps'; did you mean 'glyphs'?"),
    ("demo", "models.matching.from", "glyphs", "models.matching.from: found 'glyphs'; write shards/DATASET, or"),
    ("demo", "models.matching.from", "models/demo/fcee",
     "models.matching.from: there is no model 'demo/fcee'; did you mean 'demo/fce'?"),
    ("demo", "models.matching.from", "models/demmo/fce", "models.matching.from: there is no table 'demmo'; did you"),
    ("demo", "models.matching.from", "models/demo/matching",
     "which begins with this model: demo/matching from demo/matching; let one of them begin with shards/DATASET"),
    ("demo", "models.matching.recipe", "conv5", "models.matching.recipe: there is no 'conv5'; did you mean 'conv4'?"),
    ("demo", "models.matching.dataset", "glyphs", "models.matching.dataset: there is no such parameter; write `from:"),
    ("demo", "recipes.conv4.from", "shards/glyphs", "recipes.conv4.from: a recipe has no such parameter; a model says"),
    ("demo", "recipes.conv4.split", "vinyals", "split: there is no 'vinyals'; known are scripts"),
    ("demo", "recipes.conv4.train_parts", ["train", "test"], "test classes are for evaluation alone"),
    ("demo", "recipes.conv4.train_parts", "train", "recipes.conv4.train_parts: found 'train'; it must be a list"),
    ("demo", "recipes.conv4.training.episode.num_shots", 20,
     "training.episode: 20 shots and 1 queries need 21 samples, and a class has 20; lower one of them"),
    ("omniglot", "recipes.conv4.training.episode.num_ways", 5000,
     "num_ways is 5000, and the train and valid part of split vinyals has 4800 classes"),
    ("omniglot", "recipes.conv4.training.episode.num_ways", 0,
     "episode.num_ways is 0, which stands for all classes of a test; write how many classes an episode of the"),
    ("omniglot", "recipes.short.training.valid_episode.num_ways", 101,
     "training.valid_episode: num_ways is 101, and the valid part of split vinyals has 100 classes"),
    ("demo", "recipes.conv4.training.accumulate", 50,
     "training: accumulate is 50, and episodes_per_step 1: some parts would have no episode; lower"),
    ("imagenet", "datasets.imagenet.splits.dogs.test", "imagenet_dog.txt",
     "datasets.imagenet.splits.dogs.test: there is no 'imagenet_dog.txt'; did you mean 'imagenet_dogs.txt'?"),
    ("imagenet", "datasets.imagenet.splits.dogs.test", "/" + "x" * 5000,
     "params.yaml:LINE: datasets.imagenet.splits.dogs.test: found '/xxx"),
    ("demo", "recipes.conv4.context", 8, "image_size is 28 and context is 8; give image_size for images or"),
    ("demo", "recipes.conv4.image_size", None, "image_size is None and context is None; give image_size for images or"),
    ("demo", "models.matching.from", "shards/ptb", "split: there is no 'scripts'; known are words"),
    ("ptb", "datasets.ptb.splits.words.num_test", 5, "test words are either listed or drawn; give one of the two"),
    ("demo", "compute.num_workers", 0, "compute: num_workers is 0; it must be at least 1"),
    ("demo", "compute.num_workers", [2, 1], "compute: num_workers is [2, 1]; write the fewest first, then the most"),
    ("demo", "compute.compile", "eager", "compute.compile: found 'eager'; it must be true or false"),
    ("demo", "compute.num_workers", "1-8", "found '1-8'; it must be a whole number or a list, such as [a, b]"),
    ("demo", "compute.device", "tpu", "compute.device: found 'tpu'; write one of auto, cpu, gpu"),
    ("demo", "cluster.storage", "shared", "cluster: storage is 'shared'; it must be an absolute path, the same"),
    ("demo", "cluster.cache", {"folder": "cache", "gib": 1}, "cluster.cache: folder is 'cache'; it must be"),
    ("demo", "cluster.num_processes", 0, "cluster: num_processes is 0; it must be at least 1, or null for one a core"),
    ("demo", "recipes.conv4.training.episode.num_shots", 0,
     "training.episode.num_shots: found 0; without support there is nothing to choose from: write"),
    ("demo", "recipes.conv4.training.valid_episode.num_shots", 0, "training: valid_episode.num_shots is 0"),
    ("demo", "models.pixels.method.attention", {"scale": "learned"},
     "attention.scale is learned, and no training reaches"),
    ("demo", "evaluation.columns", ["5w0s"], "columns: '5w0s' says no task; write WAYSwSHOTSs, such as 5w1s"),
    ("demo", "evaluation.columns", ["1w1s"], "num_ways is 1; it must be at least 2"),
    ("ptb", "evaluation.columns", ["all-1s"], "columns: found 'all-1s'; the words of ptb share sentences"),
    ("demo", "recipes.conv4.training.chunk", {"size": 1}, "size is 1; a chunk has at least 2 samples"),
    ("omniglot", "models.mann.training.chunk", {"size": 64},
     "models.mann.training.chunk: found ChunkSpec(size=64, statistics='set') with method mann and compute.compile "
     "false; matching_network and siamese train in chunks"),
    ("omniglot", "models.short-no-affine.training.frozen", True,
     "training.frozen: found true with method matching_network and from: shards/omniglot; it is for matching_network "
     "and siamese that begin with a trained model: write from"),
    ("mini", "models.matching.method", {"embedding_size": None, "attention": {"scale": "none"}},
     "training.frozen: found true, and nothing that follows the encoder would learn; write method.embedding_size"),
    ("mini", "models.end-to-end.method", {"encoder": {"last_relu": True}},
     "models.end-to-end.from: found 'mini/classifier', whose encoder has last_relu: false; write the same in"),
    ("demo", "evaluation.columns", [], "columns is empty; name at least one task, such as 5w1s"),
    ("demo", "rows.fce.columns", ["5w20s"], "rows.fce.columns: 5w20s: 20 shots and 5 queries need 25 samples"),
    ("demo", "rows.fce.model", "fec", "rows.fce.model: there is no 'fec' among the models of this table; did you mean"),
    ("demo", "rows.fce.dataset", "letters", "rows.fce.dataset: there is no dataset 'letters'"),
    ("demo", "evaluation.episodes", 1, "episodes is 1; an interval needs at least 2"),
    ("demo", "rows.fce.queries", 0, "queries is 0; a way needs at least 1"),
    ("demo", "comparisons.fce.row", "fec", "comparisons.fce.row: there is no 'fec'; did you mean 'fce'?"),
    ("demo", "comparisons.fce.baseline", "fce", "comparisons.fce.baseline: found 'fce', the row itself; name another"),
    ("demo", "rows.matching.episodes", 3, "comparisons.fce.baseline: 'matching' has episodes 3, and 'fce' has 2000;"),
    ("demo", "datasets.glyphs.source", "fonts", "datasets.glyphs: source: 'fonts' is not possible"),
    ("omniglot", "report.paper.matching", "98.1 / 98.9",
     "report.paper.matching: found 2 figures, and the row has 4 columns (5w1s, 5w5s, 20w1s, 20w5s); write one"),
    ("omniglot", "report.paper.matching", "98.1 / x / – / 1", "report.paper.matching: found 'x' for 5w5s; it is in"),
    ("omniglot", "report.notes.matchng", "n", "report.notes: there is no 'matchng'; did you mean 'matching'?"),
    ("omniglot", "table", "omni", "table: found 'omni', and the folder is omniglot; write table: omniglot"),
    ("omniglot", "recipes.conv4.training.episode.fine_grained", {"share": 0.5}, "fine_grained"),
])
def test_refused_with_field_value_rule_and_remedy(edited, table, path, value, message):
    with pytest.raises(ParamsError) as refusal:
        edited(table, {path: value})
    said = str(refusal.value)
    assert message.replace("params.yaml:LINE: ", "") in said
    assert "params.yaml:" in said.partition(" ")[0], "file and line come first"
    assert "\n" not in said


IMAGES = {"context": None, "image_size": 28}


@pytest.mark.parametrize(("table", "section", "changes", "message"), [
    ("ptb", "models.bilstm", IMAGES, "image_size: found 28; the samples of ptb take context instead"),
    ("demo", "recipes.conv4", {"context": 8, "image_size": None},
     "context: found 8; the samples of glyphs take image_size instead"),
    ("ptb", "models.bilstm", {"method": {"name": "pixels"}, "training": None},
     "method.name: found 'pixels', which is for images, and ptb is not of these; use another"),
    ("ptb", "models.bilstm", {"method": {"name": "mann"}}, "method.name: found 'mann', which is for images,"),
    ("ptb", "models.oracle", {**IMAGES, "from": "shards/glyphs", "split": "scripts"},
     "method.name: found 'language_model', which is for sentences, and glyphs is not of these"),
    ("ptb", "models.bilstm", {"training": {"affine": {"max_rotation": 1.0}}}, "the sentences of ptb cannot"),
    ("ptb", "models.oracle", {"train_parts": ["train", "valid"]},
     "train_parts: found ['train', 'valid']; a language model reads the training file"),
    ("ptb", "models.lm-states", {"from": "shards/ptb"},
     "models.lm-states.from: found shards/ptb; an encoder language_model takes its weights from a language model"),
    ("ptb", "models.bilstm", {"from": "models/ptb/language-models"},
     "models.bilstm.from: found 'ptb/language-models', whose encoder"),
    ("ptb", "models.lm-states", {"from": "models/ptb/bilstm"}, "from: 'ptb/bilstm' is no language model of ptb; name"),
    ("ptb", "models.lm-states", {"from": "models/ptb/oracle"}, "from: 'ptb/oracle' learns to predict all words"),
    ("ptb", "models.bilstm", {"training": {"episode": None}}, "training.episode"),
    ("imagenet", "models.inception-rand", {"rotations": True},
     "found method classifier, image_size 299 and rotations true; give"),
    ("imagenet", "models.inception-rand", {"published": "inception.pth"},
     "published: found 'inception.pth'; published weights are those of a classifier"),
    ("imagenet", "rows.lrand-matching", {"oracle": True},
     "oracle: found true with method matching_network and adaptation null; an oracle is a classifier's softmax"),
    ("omniglot", "rows.classifier-tuned", {"oracle": True},
     "rows.classifier-tuned.oracle: found true with method classifier and adaptation not null;"),
    ("ptb", "rows.bilstm", {"dataset": "glyphs"}, "one is of images, one of sentences; name another dataset or model"),
    ("ptb", "rows.bilstm", {"dataset": "ptb_sample"}, "tokens are numbers in the vocabulary of one dataset"),
    ("demo", "recipes.conv4", {"image_size": 8},
     "recipes.conv4.method.encoder: found conv4 with image_size 8 and channels 1: images of 8 x 8 with 4 blocks that "
     "halve them: nothing is left; images of at least 16 x 16"),
    ("imagenet", "models.inception-rand", {"image_size": 74},
     "method.encoder: found inception_v3 with image_size 74 and channels 3: images of 74 x 74; inception_v3 takes 75"),
    ("imagenet", "models.inception-rand", {"channels": 1},
     "method.encoder: found inception_v3 with image_size 299 and channels 1: images of 1 channel; inception_v3 takes"),
    ("demo", "models.matching", {"method": {"encoder": {"name": "window", "num_words": 9}}},
     "method.encoder: found window with image_size 28 and channels 1: samples of shape (1, 28, 28); an encoder of"),
    ("ptb", "models.bilstm", {"method": {"encoder": {"name": "conv4"}}},
     "method.encoder: found conv4 with context 8: samples of shape (17,); conv4 takes images"),
    ("demo", "", {"datasets.glyphs.margin": 0.1, "recipes.conv4.channels": 3},
     "found 3 channels of the model, and dataset glyphs: margin is 0.1 with 3 channels; a margin is for drawings, of"),
    ("omniglot", "recipes.conv4", {"channels": 3},
     "rows.mnist-classifier.dataset: found 3 channels of the model, and dataset mnist: margin is 0.18 with 3 channels"),
    ("imagenet", "", {"datasets.imagenet.margin": 0.1, "models.pixels.channels": 1},
     "training: found random crops of single images (batch_size, ...), which are for photographs, and dataset imagenet "
     "has margin 0.1, which is for drawings"),
    ("imagenet", "rows.lrand-matching", {"dataset": "omniglot", "split": "vinyals"},
     "rows.lrand-matching.dataset: found 'omniglot', which holds drawings, and model 'rand' is trained on photographs "
     "(imagenet), on another ground; name a dataset of photographs"),
    ("omniglot", "models.mann", {"training.episode.num_ways": 6},
     "models.mann.training.episode.num_ways: found 6, and method.num_ways is 5: a MANN's labels are one-hot; write 5"),
    ("omniglot", "models.mann", {"training.valid_episode.num_ways": 4, "train_parts": ["train"]},
     "models.mann.training.valid_episode.num_ways: found 4, and method.num_ways is 5: a MANN serves one number of"),
    ("omniglot", "rows.mann", {"columns": ["5w1s", "20w1s"]},
     "rows.mann.columns: found '20w1s', of 20 ways, and model 'mann' is a MANN of 5 (method.num_ways), whose labels"),
    ("omniglot", "rows.mann", {"nearest": 3}, "rows.mann.nearest: found 3, and model 'mann' of method mann has no att"),
    ("omniglot", "rows.mann", {"adaptation": {}},
     "rows.mann.adaptation: found not null, and the model's method is mann; a classifier, a siamese net or a match"),
    ("omniglot", "rows.classifier-tuned", {"adaptation.frozen_blocks": 4},
     "adaptation.frozen_blocks: found 4, and the model's encoder has 4 blocks; leave at least one to tune: write at"),
    ("demo", "cluster", {"storage": "s3://key:secret@bucket/matchnet"},
     "cluster: storage is 's3://bucket/matchnet', and cache is null; shards at an address are read through copies"),
    ("omniglot", "rows.matching", {"split": "lake"},
     "rows.matching.split: found 'lake', and model 'matching' learns from split vinyals of the same dataset"),
])
def test_what_does_not_fit_together_is_refused(edited, table, section, changes, message):
    with pytest.raises(ParamsError) as refusal:
        edited(table, {f"{section}.{name}".strip("."): value for name, value in changes.items()})
    assert message in str(refusal.value)


@pytest.mark.parametrize("name", ["lr0.01", "v2.1", "2.5", "a_b-c", "X"])
def test_names_that_a_person_would_write_are_accepted(edited, name):
    params = edited("demo", {})
    file = params.folder
    assert file == Path()
    with_row = edited("demo", {"rows": {name: {"model": "fce", "dataset": "glyphs"}}, "comparisons": {}, "report": {
        "title": "t"}})
    assert list(with_row.rows) == [f"demo/{name}"]


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a@b", "my exp", "x #y", "a;touch X", "$(x)", "a/b", "-x", "é",
                                  "x" * 101])
@pytest.mark.parametrize("section", ["rows", "models", "recipes", "datasets"])
def test_other_names_are_refused_with_the_rule(edited, section, name):
    contents = {"rows": {"model": "fce", "dataset": "glyphs"}, "models": {"recipe": "conv4", "from": "shards/glyphs"},
                "recipes": {}, "datasets": {"source": "mnist", "splits": {"all": {"kind": "whole"}}}}
    values = YamlFile.read(ROOT / "params.yaml").values[section]
    with pytest.raises(ParamsError) as refusal:
        edited("demo", {section: {**values, name: contents[section]}})
    assert f"the name {name[:100]!r} cannot be used; a name begins with a letter or a digit" in str(refusal.value)


def test_a_name_that_is_a_number_is_said_to_need_quotes(root):
    file = root / "params.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("rows:\n", "rows:\n  2024: {model: fce, dataset: glyphs}\n"), encoding="utf-8")
    with pytest.raises(ParamsError, match=r"params\.yaml:\d+: rows: the name 2024 must be a text; put it in quotes"):
        read_table(Path(), root)


def test_a_base_value_reaches_every_row_and_a_departure_one(edited):
    params = edited("omniglot", {"recipes.conv4.training.steps": 9000})
    steps = {name: model.training.steps for name, model in params.own_models.items() if model.training}
    assert steps["omniglot/matching"] == steps["omniglot/matching-seed2"] == 9000
    assert steps["omniglot/siamese"] == 2000, "it departs"
    params = edited("omniglot", {"models.short.training": {"steps": 777}})
    assert params.models["omniglot/short"].training.steps == 777
    assert params.models["omniglot/short-fce"].training.steps == 2000


def test_departures():
    base = {"method": {"name": "conv", "fce": {"k": 5}, "a": 1}, "list": [1], "n": None}
    assert merged_values(base, {"method": {"fce": {"k": 3}}})["method"] == {"name": "conv", "fce": {"k": 3}, "a": 1}
    assert merged_values(base, {"method": {"name": "other"}})["method"] == {"name": "other"}, "another kind replaces"
    assert merged_values(base, {"method": None, "list": [2], "n": {"x": 1}}) == {"method": None, "list": [2],
                                                                                "n": {"x": 1}}
    assert base["method"]["a"] == 1


def test_the_same_row_in_two_tables_is_two_rows_and_the_same_dataset_is_refused(root):
    rows = {name for folder in TABLES for name in read_table(folder, root).rows}
    assert {"omniglot/pixels", "imagenet/lrand-pixels", "demo/pixels"} <= rows
    file = root / "experiments/ptb/params.yaml"
    more = "datasets:\n  mnist: {source: mnist, splits: {all: {kind: whole}}}\n"
    file.write_text(file.read_text(encoding="utf-8").replace("datasets:\n", more), encoding="utf-8")
    with pytest.raises(ParamsError, match=r"datasets\.mnist: .*ptb/params\.yaml and .*omniglot/params\.yaml both"):
        read_table(Path("experiments/ptb"), root)


def test_a_table_uses_a_dataset_and_begins_with_a_model_of_another(edited):
    params = read_table(Path("experiments/imagenet_published"), ROOT)
    assert params.own_datasets == () and "imagenet_unseen" in params.datasets
    params = edited("imagenet", {"models.rand.from": "models/imagenet/inception-all", "recipes.matching.split": "rand"})
    assert params.models["imagenet/rand"].init == "imagenet/inception-all"


def test_no_more_workers_than_a_step_has_something_for(edited):
    def workers(wanted: object) -> object:
        edited("demo", {"compute.num_workers": list(wanted) if isinstance(wanted, tuple) else wanted})
        params = edited("ptb_sample", {})
        return params.compute_of("ptb_sample/bag-of-words").num_workers

    given = {1: 1, 4: 4, 8: 4, (2, 3): (2, 3), (2, 8): (2, 4), (5, 8): 4}
    assert {wanted: workers(wanted) for wanted in given} == given
    params = edited("ptb", {})
    assert params.compute_of("ptb/bilstm").num_workers == params.compute_of("ptb/oracle").num_workers == 1
    assert params.compute_of("demo/pixels" if "demo/pixels" in params.models else "ptb/oracle").num_workers == 1
    halved = edited("ptb_sample", {"models.bag-of-words.training.accumulate": 2})
    assert halved.compute_of("ptb_sample/bag-of-words").num_workers == 2


@pytest.mark.parametrize("missing", ["recipes.conv4.split", "recipes.conv4.training.steps", "rows.fce.dataset"])
def test_a_missing_parameter_is_named(edited, missing):
    with pytest.raises(ParamsError, match=rf"{missing.rpartition('.')[2]}: this parameter is missing"):
        edited("demo", {}, removed=missing)


@pytest.mark.parametrize("section", FOREACH)
def test_a_section_that_dvc_iterates_over_is_written_even_if_it_is_empty(edited, section):
    with pytest.raises(ParamsError, match=rf"^.*experiments/omniglot/params\.yaml: {section}: this section is missing, "
                       rf"and dvc\.yaml has a stage for each of its entries; write `{section}: {{}}` if there are "
                       "none$"):
        edited("omniglot", {}, removed=section)


def test_the_sections_that_dvc_iterates_over_are_those():
    stages = YamlFile.read(ROOT / "dvc.yaml").values["stages"].values()
    assert {f"${{{section}}}" for section in FOREACH} == {stage["foreach"] for stage in stages if "foreach" in stage}


def test_whole_numbers_stand_for_numbers(edited):
    assert edited("demo", {"recipes.conv4.training.learning_rate": 1}).models["demo/fce"].training.learning_rate == 1.0


def test_what_is_no_yaml_or_not_there_is_named(root):
    (root / "experiments/ptb/params.yaml").write_text("rows: [")
    with pytest.raises(ParamsError, match=r"ptb/params\.yaml:\d+: this is not YAML"):
        read_table(Path("experiments/ptb"), root)
    (root / "experiments/ptb/params.yaml").write_bytes(b"table: \xff")
    with pytest.raises(ParamsError, match=r"ptb/params\.yaml: byte 7 is not UTF-8; save the file as UTF-8"):
        read_table(Path("experiments/ptb"), root)
    with pytest.raises(ParamsError, match=r"params\.yaml: there is no such file; run this from the folder"):
        read_table(Path("experiments/nothing"), root)
    with pytest.raises(ParamsError, match=r"there is no table 'omniglt'; did you mean 'omniglot'\?"):
        read_params("omniglt", ROOT)


@pytest.mark.parametrize("datasets", ["5", "[a]", "text"])
def test_a_mistake_in_another_table_stops_that_one_alone(root, datasets):
    (root / "experiments/ptb/params.yaml").write_text(f"table: ptb\nreport: {{title: t}}\ndatasets: {datasets}\n")
    assert read_table(Path(), root).table == "demo"
    with pytest.raises(ParamsError, match=r"ptb/params\.yaml:3: datasets: found .*; it must be a section"):
        read_table(Path("experiments/ptb"), root)


def test_windows_line_ends_are_read(root):
    file = root / "experiments/omniglot/params.yaml"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert read_table(Path("experiments/omniglot"), root) == read_table(Path("experiments/omniglot"), ROOT)


def test_the_environment_goes_before_the_file(monkeypatch):
    monkeypatch.setenv("MATCHNET_MIRROR", "/some:/folder")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    cluster = read_params("demo", ROOT).cluster
    assert (cluster.mirror, cluster.ray_address) == ("/some:/folder", "10.0.0.1:6379")


@pytest.mark.parametrize("address", ["s3://key:secret@bucket/m", "HTTP://ann:secret@host/", "s3:/key:secret@bucket"])
@pytest.mark.parametrize("name", ["mirror", "licensed.imagenet"])
def test_an_address_where_none_can_be_read_is_refused_and_not_shown(edited, monkeypatch, name, address):
    with pytest.raises(ParamsError) as refusal:
        edited("demo", {f"cluster.{name}": address})
    scheme = address.partition(":")[0]
    assert f"{name.rpartition('.')[2]} begins with '{scheme}://'; it must be a folder, or an" in str(refusal.value)
    assert "secret" not in str(refusal.value) and "params.yaml:" in str(refusal.value)
    monkeypatch.setenv("MATCHNET_MIRROR", address)
    with pytest.raises(ParamsError, match=f"^MATCHNET_MIRROR, .*: mirror begins with '{scheme}://'") as refusal:
        read_params("demo", ROOT)
    assert "secret" not in str(refusal.value)


def test_an_unknown_name_on_the_command_line_is_answered():
    with pytest.raises(ParamsError, match=r"models: there is no 'demo/fec'; did you mean 'demo/fce'\?"):
        named(read_table(Path(), ROOT).models, "models", "demo/fec")


@pytest.mark.parametrize("folder", TABLES, ids=str)
def test_dvc_writes_each_file_as_it_is(folder, root):
    """So that `dvc exp run -S` changes the lines of what it sets, and no others."""
    hydra = pytest.importorskip("dvc.utils.hydra")
    file = root / folder / "params.yaml"
    before = file.read_text(encoding="utf-8")
    hydra.apply_overrides(file, [f"table={YamlFile.read(file).values['table']}"])
    assert file.read_text(encoding="utf-8") == before


@pytest.mark.parametrize(("table", "path"), [
    (".", "recipes.conv4.training.steps"), ("experiments/omniglot", "recipes.conv4.training.steps"),
    ("experiments/omniglot", "models.mann.training.episodes_per_step"), ("experiments/ptb", "evaluation.queries"),
    ("experiments/imagenet", "recipes.inception.training.batch_size")])
def test_dvc_exp_run_changes_one_line(table, path, root):
    hydra = pytest.importorskip("dvc.utils.hydra")
    file = root / table / "params.yaml"
    before = file.read_text(encoding="utf-8").splitlines()
    hydra.apply_overrides(file, [f"{path}=77"])
    after = file.read_text(encoding="utf-8").splitlines()
    assert len(before) == len(after)
    changed = [line for old, line in zip(before, after, strict=True) if old != line]
    assert len(changed) == 1 and "77" in changed[0]


@pytest.mark.parametrize("folder", TABLES, ids=str)
def test_no_file_has_an_anchor(folder):
    """DVC writes through an anchor to all that share it."""
    text = (ROOT / folder / "params.yaml").read_text(encoding="utf-8")
    assert not [line for line in text.splitlines() if "<<:" in line or ": &" in line or ": *" in line]
