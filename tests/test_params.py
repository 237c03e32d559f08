"""params.yaml is refused before any work begins, with field, value, rule and remedy."""

import copy
from pathlib import Path

import pytest

from matchnet.parsing import parse
from pipeline.params import ParamsError, named, read_params
from pipeline.params.reading import read_yaml
from pipeline.params.rules import check_params, run_section
from pipeline.params.sections import Params
from stages import select as select_stage

ROOT = Path(__file__).parent.parent


@pytest.fixture
def values() -> dict:
    return copy.deepcopy(read_yaml(ROOT / "params.yaml"))


def check(values: dict) -> Params:
    params = parse(Params, values, "")
    check_params(params)
    return params


def put(values: dict, path: str, value: object) -> None:
    *sections, name = path.split(".")
    for section in sections:
        values[section] = dict(values[section])  # an anchor may share it with others
        values = values[section]
    values[name] = value


def test_the_file_as_it_is_committed_is_accepted(values):
    params = check(values)
    assert params.models["glyphs"].training.learning_rate > 0
    assert params.columns["20w5s"].num_ways == 20


@pytest.mark.parametrize(("path", "value", "message"), [
    ("models.glyphs.training.stepps", 5,
     "models.glyphs.training.stepps: there is no such parameter; did you mean 'steps'?"),
    ("modles", {}, "modles: there is no such parameter; did you mean 'models'?"),
    ("models.glyphs.training.steps", "many", "models.glyphs.training.steps: found 'many'; it must be a whole number"),
    ("models.glyphs.training.steps", 1.5, "models.glyphs.training.steps: found 1.5; it must be a whole number"),
    ("models.glyphs.training.steps", True, "models.glyphs.training.steps: found True; it must be a whole number"),
    ("models.glyphs.training.steps", 0, "models.glyphs.training: steps is 0; it must be at least 1"),
    ("models.glyphs.rotations", 1, "models.glyphs.rotations: found 1; it must be true or false"),
    ("models.glyphs.method.name", "matchin_network",
     "models.glyphs.method.name: found 'matchin_network'; did you mean 'matching_network'?"),
    ("models.glyphs.method", "pixels", "models.glyphs.method: found 'pixels'; it must be a section"),
    ("models.glyphs.method.attention.kernel", "cos",
     "models.glyphs.method.attention.kernel: found 'cos'; write one of cosine"),
    ("models.glyphs.dataset", "glyps", "models.glyphs.dataset: there is no 'glyps'; did you mean 'glyphs'?"),
    ("models.glyphs.split", "vinyals", "models.glyphs.split: there is no 'vinyals'; known are scripts"),
    ("models.glyphs.train_parts", ["train", "test"], "test classes are for evaluation alone"),
    ("models.glyphs.train_parts", "train", "models.glyphs.train_parts: found 'train'; it must be a list"),
    ("models.glyphs.training.episode.num_shots", 20,
     "models.glyphs.training.episode: 20 shots and 1 queries need 21 samples, and a class has 20; lower one of them"),
    ("models.omniglot.training.episode.num_ways", 5000,
     "num_ways is 5000, and the train and valid part of split vinyals has 4800 classes"),
    ("models.glyphs.training.accumulate", 50,
     "models.glyphs.training: accumulate is 50, and episodes_per_step 1: some parts would have no episode; lower"),
    ("datasets.imagenet.splits.dogs.test", "imagenet_dog.txt",
     "datasets.imagenet.splits.dogs.test: there is no 'imagenet_dog.txt'; did you mean 'imagenet_dogs.txt'?"),
    ("models.glyphs.context", 8, "models.glyphs: image_size is 28 and context is 8; give image_size for images or"),
    ("models.glyphs.image_size", None, "image_size is None and context is None; give image_size for images or context"),
    ("models.glyphs.dataset", "ptb", "models.glyphs.split: there is no 'scripts'; known are words"),
    ("experiments.glyphs.dataset", "ptb", "experiments.glyphs.split: there is no 'scripts'"),
    ("datasets.ptb.splits.words.num_test", 5, "test words are either listed or drawn; give one of the two"),
    ("compute.num_workers", 0, "compute: num_workers is 0; it must be at least 1"),
    ("compute.num_workers", [2, 1], "compute: num_workers is [2, 1]; write the fewest first, then the most"),
    ("compute.compile", "eager", "compute.compile: found 'eager'; it must be true or false"),
    ("columns.5w0s", {"num_ways": 5, "num_shots": 0, "num_queries": 5},
     "columns.5w0s.num_shots: found 0; without support there is nothing to choose from: write at least 1"),
    ("models.glyphs.training.episode.num_shots", 0,
     "models.glyphs.training.episode.num_shots: found 0; without support there is nothing to choose from: write"),
    ("models.glyphs.training.valid_episode.num_shots", 0, "models.glyphs.training: valid_episode.num_shots is 0"),
    ("models.glyphs-pixels.method.attention.scale", "learned", "attention.scale is learned, and no training reaches"),
    ("compute.num_workers", "1-8", "found '1-8'; it must be a whole number or a list, such as [a, b]"),
    ("cluster.storage", "shared", "cluster: storage is 'shared'; it must be an absolute path, the same on every node"),
    ("cluster.cache", {"folder": "cache", "gib": 1}, "cluster.cache: folder is 'cache'; it must be an absolute path"),
    ("compute.device", "tpu", "compute.device: found 'tpu'; write one of auto, cpu, gpu"),
    ("columns.5w1s.num_ways", 6,
     "columns.5w1s: this is a 6-way 1-shot task with 5 queries a way; name it 6w1s or 6w1s5q"),
    ("columns.5w1s.num_ways", 1, "columns.5w1s: num_ways is 1; it must be at least 2"),
    ("experiments.glyphs.model", "glyph", "experiments.glyphs.model: there is no 'glyph'; did you mean 'glyphs'?"),
    ("experiments.glyphs.dataset", "letters", "experiments.glyphs.dataset: there is no 'letters'"),
    ("experiments.glyphs.columns", ["5w2s"], "experiments.glyphs.columns: there is no '5w2s'"),
    ("experiments.glyphs.columns", [], "experiments.glyphs: columns is empty"),
    ("experiments.glyphs.episodes", 1, "experiments.glyphs: episodes is 1; an interval needs at least 2"),
    ("experiments.omniglot.paper", {"9w9s": 3.0}, "experiments.omniglot.paper: there is no '9w9s'"),
    ("suites.glyphs", ["gliphs"], "suites.glyphs: there is no 'gliphs'; did you mean 'glyphs'?"),
    ("run.datasets", ["omniglot"], "run.datasets: found ['omniglot'], and its experiments need ['glyphs']"),
    ("run.experiments.glyphs.model", "glyphs-fce",
     "do not edit run: by hand, `python -m stages.select SUITE` writes it"),
    ("cluster.num_processes", 0, "cluster: num_processes is 0; it must be at least 1, or null for one a core"),
    ("datasets.glyphs.source", "fonts", "datasets.glyphs: source: 'fonts' is not possible"),
])
def test_refused_with_field_value_rule_and_remedy(values, path, value, message):
    put(values, path, value)
    with pytest.raises(ParamsError) as refusal:
        check(values)
    assert message in str(refusal.value)


LANGUAGE_MODEL, STATES, MATCHING = "models.ptb-language-models", "models.ptb-lm-states", "models.ptb-bilstm"
AFFINE = {"max_rotation": 10.0, "max_shear": 0.15, "max_scale": 0.15, "max_translation": 2.0}
IMAGES = {"context": None, "image_size": 28}
INCEPTION = "models.imagenet-inception-rand"
FINE = {"num_ways": 5, "num_shots": 1, "num_queries": 1, "fine_grained": {"share": 0.5, "largest_group": 20}}


@pytest.mark.parametrize(("section", "changes", "message"), [
    (MATCHING, IMAGES, "models.ptb-bilstm.image_size: found 28; the samples of ptb take context instead"),
    ("models.glyphs", {"context": 8, "image_size": None},
     "models.glyphs.context: found 8; the samples of glyphs take image_size instead"),
    (MATCHING, {"method": {"name": "pixels"}, "training": None},
     "models.ptb-bilstm.method.name: found 'pixels', which is for images, and ptb is not of these; use another"),
    (MATCHING, {"method": {"name": "classifier"}}, "method.name: found 'classifier', which is for images, and ptb is"),
    (MATCHING, {"method": {"name": "mann"}}, "method.name: found 'mann', which is for images, and ptb is not"),
    (LANGUAGE_MODEL, {**IMAGES, "dataset": "glyphs", "split": "scripts"},
     "method.name: found 'language_model', which is for sentences, and glyphs is not of these"),
    (f"{MATCHING}.training", {"affine": AFFINE}, "the sentences of ptb cannot be distorted: write null"),
    (LANGUAGE_MODEL, {"train_parts": ["train", "valid"]},
     "models.ptb-language-models.train_parts: found ['train', 'valid']; a language model reads the training file"),
    (STATES, {"init": None}, "models.ptb-lm-states.init: found None; an encoder language_model takes its weights from"),
    (MATCHING, {"init": "ptb-language-models"}, "models.ptb-bilstm.init: found 'ptb-language-models', whose encoder"),
    (STATES, {"init": "ptb-langauge-models"},
     "models.ptb-lm-states.init: there is no 'ptb-langauge-models'; did you mean 'ptb-language-models'?"),
    (STATES, {"init": "ptb-bilstm"}, "models.ptb-lm-states.init: 'ptb-bilstm' is no language model of ptb; name one"),
    (STATES, {"dataset": "ptb_sample"}, "'ptb-language-models' is no language model of ptb_sample; name one"),
    (STATES, {"init": "ptb-oracle"}, "models.ptb-lm-states.init: 'ptb-oracle' learns to predict all words"),
    (MATCHING, {"training": {"steps": 5, "num_streams": 2, "window": 5}},
     "models.ptb-bilstm.training: method matching_network trains on episodes: episode, ...; found"),
    (LANGUAGE_MODEL, {"training": {"steps": 5, "episode": {"num_ways": 5, "num_shots": 1, "num_queries": 1}}},
     "models.ptb-language-models.training: method language_model trains on running text: num_streams, window, ...;"),
    (INCEPTION, {"method": {"name": "pixels"}}, "models.imagenet-inception-rand.training: batch_size, ... train a"),
    (INCEPTION, {"rotations": True}, "found method classifier, image_size 299 and rotations true; give"),
    (INCEPTION, {"published": "inception.pth"},
     "models.imagenet-inception-rand.published: found 'inception.pth'; published weights are those of a classifier"),
    ("models.imagenet-rand", {"init": "mini"}, "found 'mini', whose encoder is conv4, and this model's is"),
    ("models.omniglot.training", {"episode": FINE}, "fine_grained"),
    ("experiments.imagenet-lrand-matching", {"oracle": True},
     "oracle: found true with method matching_network and adaptation null; an oracle is a classifier's softmax"),
    ("experiments.ptb-bilstm", {"model": "glyphs"},
     "experiments.ptb-bilstm.dataset: found 'ptb', and model 'glyphs' learns from glyphs: one is of images, one of"),
    ("experiments.glyphs", {"model": "ptb-bilstm"}, "one is of images, one of sentences; name another dataset or"),
    ("experiments.ptb-bilstm", {"model": "ptb-sample"},
     "experiments.ptb-bilstm.dataset: found 'ptb', and model 'ptb-sample' learns from ptb_sample: tokens are numbers"),
    ("experiments.omniglot", {"oracle": True},
     "experiments.omniglot.oracle: found true with method matching_network and adaptation null; an oracle is a"),
    ("experiments.omniglot-classifier-tuned", {"oracle": True},
     "experiments.omniglot-classifier-tuned.oracle: found true with method classifier and adaptation not null;"),
    ("experiments.omniglot", {"split": "lake"},
     "experiments.omniglot.split: found 'lake', and model 'omniglot' learns from split vinyals of the same dataset"),
])
def test_what_does_not_fit_together_is_refused(values, section, changes, message):
    for name, value in changes.items():
        put(values, f"{section}.{name}", value)
    with pytest.raises(ParamsError) as refusal:
        check(values)
    assert message in str(refusal.value)


@pytest.mark.parametrize(("dataset", "stands_in"), [
    ("omniglot", False), ("ptb", False), ("imagenet", False), ("mini_imagenet", False),
    ("glyphs", True), ("ptb_sample", True), ("imagenet_standin", True)])
def test_what_stands_in_for_the_papers_data_says_so(values, dataset, stands_in):
    assert check(values).datasets[dataset].stands_in == stands_in


def test_an_oracle_learns_from_another_split_than_it_is_tested_on(values):
    put(values, "experiments.omniglot-classifier.split", "lake")
    with pytest.raises(ParamsError, match="learns from split vinyals of the same dataset"):
        check(values)
    put(values, "experiments.omniglot-classifier.oracle", True)
    assert check(values).experiments["omniglot-classifier"].oracle


def test_no_more_workers_than_a_step_has_something_for(values):
    def workers(model: str, wanted: object) -> object:
        put(values, "compute.num_workers", list(wanted) if isinstance(wanted, tuple) else wanted)
        return check(values).compute_of(model).num_workers

    given = {1: 1, 4: 4, 8: 4, (2, 3): (2, 3), (2, 8): (2, 4), (5, 8): 4}
    assert {wanted: workers("ptb-sample", wanted) for wanted in given} == given
    assert workers("ptb-bilstm", 8) == workers("ptb-oracle", [1, 8]) == 1, "an episode a step; a state through all"
    put(values, "models.ptb-sample.training.accumulate", 2)
    assert workers("ptb-sample", 8) == 2
    assert workers("glyphs-pixels", 8) == 8, "nothing is trained"


def test_a_missing_parameter_is_named(values):
    model = values["models"]["glyphs"]
    put(values, "models.glyphs", {name: value for name, value in model.items() if name != "split"})
    with pytest.raises(ParamsError, match=r"^models\.glyphs\.split: this parameter is missing; add it"):
        check(values)


def test_whole_numbers_stand_for_numbers(values):
    put(values, "models.glyphs.training.learning_rate", 1)
    assert check(values).models["glyphs"].training.learning_rate == 1.0


def test_what_is_no_yaml_or_not_there_is_named(tmp_path):
    (tmp_path / "params.yaml").write_text("run: [")
    with pytest.raises(ParamsError, match=r"params\.yaml: this is not YAML"):
        read_params(tmp_path / "params.yaml")
    with pytest.raises(ParamsError, match=r"nothing\.yaml: there is no such file; run this from the folder"):
        read_params(tmp_path / "nothing.yaml")


def test_the_environment_goes_before_the_file(monkeypatch):
    monkeypatch.setenv("MATCHNET_MIRROR", "/some/folder")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    cluster = read_params(ROOT / "params.yaml").cluster
    assert (cluster.mirror, cluster.ray_address) == ("/some/folder", "10.0.0.1:6379")


def test_folders_of_licensed_data_are_those_of_the_real_datasets(values):
    values["cluster"]["licensed"] = {"imagenet": "/data/ilsvrc", "treebank3": "/data/ldc"}
    params = check(values)
    folders = {name: params.cluster.licensed.folder_of(dataset) for name, dataset in params.datasets.items()}
    real = dict.fromkeys(("imagenet", "imagenet_unseen", "mini_imagenet", "mini_imagenet_ravi"), "/data/ilsvrc")
    assert {name: folder for name, folder in folders.items() if folder} == {**real, "treebank3": "/data/ldc"}


def test_an_unknown_name_on_the_command_line_is_answered(values):
    with pytest.raises(ParamsError, match=r"models: there is no 'glyph' in params\.yaml; did you mean 'glyphs'\?"):
        named(check(values).models, "models", "glyph")


@pytest.fixture
def copied(tmp_path, monkeypatch) -> Path:
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_selecting_a_suite_and_the_old_one_again_leaves_params_as_they_were(copied):
    select_stage.select(["glyphs"])
    before = (copied / "params.yaml").read_text(encoding="utf-8")
    experiments = select_stage.select(["omniglot"])
    params = read_params(copied / "params.yaml")
    assert experiments == list(params.run.experiments) and params.run.datasets == ("omniglot",)
    assert {f"results/{name}/metrics.json" for name in experiments} <= set(read_yaml(copied / "dvc.yaml")["metrics"])
    select_stage.select(["glyphs"])
    assert (copied / "params.yaml").read_text(encoding="utf-8") == before


def test_several_suites_run_together(copied):
    both = select_stage.select(["glyphs", "omniglot"])
    assert len(both) == len(set(both)) and read_params(copied / "params.yaml").run.datasets == ("glyphs", "omniglot")


def test_an_unknown_suite_changes_nothing(copied):
    before = (copied / "params.yaml").read_text(encoding="utf-8")
    with pytest.raises(ParamsError, match=r"there is no 'omniglt' in params\.yaml; did you mean 'omniglot'\?"):
        select_stage.select(["omniglt"])
    assert (copied / "params.yaml").read_text(encoding="utf-8") == before


@pytest.mark.parametrize(("old", "new", "message"), [
    ("init: ptb-language-models", "init: ptb-langage-models",
     r"models\.ptb-lm-states\.init: there is no 'ptb-langage-models'; did you mean 'ptb-language-models'\?"),
    ("model: ptb-bilstm-fce\n    dataset", "model: ptb-bilstm-fec\n    dataset",
     r"experiments\.ptb-bilstm-fce\.model: there is no 'ptb-bilstm-fec'; did you mean 'ptb-bilstm-fce'\?"),
])
def test_selecting_with_a_misspelt_model_is_answered(copied, old, new, message):
    text = (copied / "params.yaml").read_text(encoding="utf-8")
    assert old in text
    (copied / "params.yaml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ParamsError, match=message):
        select_stage.select(["ptb"])


def leaves(section: dict, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], object]:
    """Every plain value of nested maps, by its path."""
    found: dict[tuple[str, ...], object] = {}
    for name, value in section.items():
        found |= leaves(value, (*path, name)) if isinstance(value, dict) else {(*path, name): value}
    return found


@pytest.mark.parametrize("path", ["models.glyphs.training.steps", "models.glyphs-fce.training.steps",
                                  "models.omniglot-short.training.learning_rate",
                                  "models.glyphs.method.encoder.num_filters", "experiments.mnist.episodes"])
def test_dvc_exp_run_sets_this_value_and_no_other(path, tmp_path):
    """DVC writes through YAML's anchors to all that share them: there must be none."""
    hydra = pytest.importorskip("dvc.utils.hydra")
    copied = tmp_path / "params.yaml"
    copied.write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    before = leaves(read_yaml(copied))
    hydra.apply_overrides(copied, [f"{path}=77"])
    after = leaves(read_yaml(copied))
    assert {".".join(key) for key in before if before[key] != after[key]} == {path}
    assert after[tuple(path.split("."))] == 77


def test_params_yaml_has_no_anchor():
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert not [line for line in text.splitlines() if "<<:" in line or ": &" in line or ": *" in line]


def test_the_run_section_has_every_part_that_dvc_yaml_reads(values):
    """A part that is missing has a default here, and none there."""
    assert set(values["run"]) == set(run_section([], parse(Params, values, "")))
