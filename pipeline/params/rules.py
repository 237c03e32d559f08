"""Rules between the sections of params.yaml: names that must exist, tasks that the classes must be able to serve."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict

from matchnet.classifier_training import ClassifierTrainingSpec
from matchnet.encoders.inception import InceptionSpec
from matchnet.encoders.language_model import LanguageModelStatesSpec
from matchnet.episodes import EpisodeSpec
from matchnet.episodic_training import EpisodicSpec
from matchnet.methods.classifier import ClassifierSpec
from matchnet.methods.language_model import LanguageModelSpec
from matchnet.parsing import ParamsError, nearest
from matchnet.text_training import TextSpec
from pipeline.data.spec import TEXT_SOURCES, DatasetParams, Part, RandomSplit, WholeSplit
from pipeline.data.splits import LISTS
from pipeline.params.sections import ComparisonParams, ExperimentParams, ModelParams, Params

# Facts of the sources that are known before anything is downloaded; the rest is checked when the data is there.
NUM_CLASSES = {"omniglot": 1623, "mnist": 10}
SAMPLES_PER_CLASS = {"omniglot": 20}

IMAGES_ONLY = ("pixels", "mann", "classifier")  # a classifier needs all its classes; rare words are left out
SYNSET_SOURCES = ("imagenet", "mini_imagenet")  # whose classes WordNet makes groups of
SENTENCES_ONLY = ("language_model",)


def check_params(params: Params) -> None:
    """Raise ParamsError for the first rule that is broken."""
    for name, column in params.columns.items():
        names = [column.column, f"{column.column}{column.num_queries}q"]
        if name not in names:
            raise ParamsError(f"columns.{name}: this is a {column.num_ways}-way {column.num_shots}-shot task with "
                              f"{column.num_queries} queries a way; name it {' or '.join(names)}")
        _require_support(column, f"columns.{name}")
    for name, model in params.models.items():
        _check_model(model, params, f"models.{name}")
    for name, experiment in params.experiments.items():
        _check_experiment(experiment, params, f"experiments.{name}")
    for suite, experiments in params.suites.items():
        for experiment_name in experiments:
            _require_known(experiment_name, params.experiments, f"suites.{suite}")
    for name, comparison in params.comparisons.items():
        _check_comparison(comparison, params, f"comparisons.{name}")
    _check_run(params)
    _check_lists(params)


def _check_lists(params: Params) -> None:
    """Lists of classes that splits name: the shard stage reads them after hours."""
    known = {path.name: path for path in LISTS.iterdir()}
    for name, dataset in params.datasets.items():
        for split_name, split in dataset.splits.items():
            for part in ("valid", "test"):
                if isinstance(listed := getattr(split, part, None), str):
                    _require_known(listed, known, f"datasets.{name}.splits.{split_name}.{part}")


def _check_model(model: ModelParams, params: Params, path: str) -> None:
    dataset = _dataset_with_split(model, params, path)
    _check_samples(model, dataset.source in TEXT_SOURCES, path)
    _check_init(model, params, f"{path}.init")
    _check_published(model, f"{path}.published")
    _check_training(model, path)
    if isinstance(model.training, EpisodicSpec):
        if not isinstance(model.method, ClassifierSpec):
            _require_support(model.training.episode, f"{path}.training.episode")
        _check_task(model.training.episode, dataset, model.split, model.train_parts, 4 if model.rotations else 1,
                    f"{path}.training.episode")


def _require_support(task: EpisodeSpec, path: str) -> None:
    if task.num_shots < 1:
        raise ParamsError(f"{path}.num_shots: found 0; without support there is nothing to choose from: write at "
                          "least 1 (0 is for episodes that train a classifier)")


def _check_samples(model: ModelParams, are_sentences: bool, path: str) -> None:
    """Sentences have a context, images a size; neither takes what is made for the other."""
    wanted, other = ("context", "image_size") if are_sentences else ("image_size", "context")
    if getattr(model, wanted) is None:
        raise ParamsError(f"{path}.{other}: found {getattr(model, other)}; the samples of {model.dataset} take "
                          f"{wanted} instead")
    if model.method.name in (IMAGES_ONLY if are_sentences else SENTENCES_ONLY):
        raise ParamsError(f"{path}.method.name: found {model.method.name!r}, which is for "
                          f"{'images' if are_sentences else 'sentences'}, and {model.dataset} is not of these; use "
                          "another method or dataset")
    if are_sentences and isinstance(model.training, EpisodicSpec) and model.training.affine is not None:
        raise ParamsError(f"{path}.training.affine: found {model.training.affine}; the sentences of {model.dataset} "
                          "cannot be distorted: write null")


def _check_init(model: ModelParams, params: Params, path: str) -> None:
    """Encoders begin with a model of their own kind; one of language model states has to, with one of the same data."""
    encoder = getattr(model.method, "encoder", None)
    reads_states = isinstance(encoder, LanguageModelStatesSpec)
    if model.init is None:
        if reads_states:
            raise ParamsError(f"{path}: found None; an encoder language_model takes its weights from the language "
                              "model that init names")
        return
    _require_known(model.init, params.models, path)
    source = params.models[model.init]
    if not reads_states:
        name, other = (getattr(getattr(holder.method, "encoder", None), "name", None) for holder in (model, source))
        if name is None or name != other:
            raise ParamsError(f"{path}: found {model.init!r}, whose encoder is {other}, and this model's is {name}; "
                              "name a model with the same encoder, or write null")
        return
    if not isinstance(source.method, LanguageModelSpec) or source.dataset != model.dataset:
        raise ParamsError(f"{path}: {model.init!r} is no language model of {model.dataset}; name one")
    if isinstance(source.training, TextSpec) and source.training.targets == "all":
        raise ParamsError(f"{path}: {model.init!r} learns to predict all words (training.targets), those of the test "
                          "too: nothing would be one-shot; name one with targets: train")


def _check_published(model: ModelParams, path: str) -> None:
    """Published weights are those of a whole classifier; nothing is learnt on top of them."""
    if model.published is None:
        return
    is_inception = isinstance(model.method, ClassifierSpec) and isinstance(model.method.encoder, InceptionSpec)
    if not is_inception or model.training is not None or model.init is not None:
        raise ParamsError(f"{path}: found {model.published!r}; published weights are those of a classifier with "
                          "encoder inception_v3, with training: null and init: null; write so, or leave published out")


def _check_stream(model: ModelParams, path: str) -> None:
    """Single images, streamed from their shards, are what a classifier learns from, and nothing else."""
    if not isinstance(model.training, ClassifierTrainingSpec):
        return
    if not isinstance(model.method, ClassifierSpec) or model.image_size is None or model.rotations:
        raise ParamsError(f"{path}: batch_size, ... train a classifier of images, without rotations, from a stream; "
                          f"found method {model.method.name}, image_size {model.image_size} and rotations "
                          f"{str(model.rotations).lower()}; give another training, or change these")


def _check_training(model: ModelParams, path: str) -> None:
    """Running text is what language models train on, and nothing else does."""
    _check_stream(model, f"{path}.training")
    reads_text = isinstance(model.method, LanguageModelSpec)
    if model.training is not None and reads_text != isinstance(model.training, TextSpec):
        raise ParamsError(f"{path}.training: method {model.method.name} trains on "
                          f"{'running text: num_streams, window' if reads_text else 'episodes: episode'}, ...; found "
                          "the parameters of the other kind")
    if reads_text and model.train_parts != ("train",):
        raise ParamsError(f"{path}.train_parts: found {list(model.train_parts)}; a language model reads the training "
                          "file and validates on that of valid: write [train]")


def _check_experiment(experiment: ExperimentParams, params: Params, path: str) -> None:
    _require_known(experiment.model, params.models, f"{path}.model")
    dataset = _dataset_with_split(experiment, params, path)
    model = params.models[experiment.model]
    if (dataset.source in TEXT_SOURCES) != (model.context is not None):
        raise ParamsError(f"{path}.dataset: found {experiment.dataset!r}, and model {experiment.model!r} learns from "
                          f"{model.dataset}: one is of images, one of sentences; name another dataset or model")
    if dataset.source in TEXT_SOURCES and experiment.dataset != model.dataset:
        raise ParamsError(f"{path}.dataset: found {experiment.dataset!r}, and model {experiment.model!r} learns from "
                          f"{model.dataset}: tokens are numbers in the vocabulary of one dataset; test on "
                          f"{model.dataset}")
    _check_oracle(experiment, model, path)
    if experiment.dataset == model.dataset and experiment.split != model.split and not experiment.oracle:
        raise ParamsError(f"{path}.split: found {experiment.split!r}, and model {experiment.model!r} learns from split "
                          f"{model.split} of the same dataset: test classes could be training classes; write "
                          f"{model.split}")
    for column in experiment.columns:
        _require_known(column, params.columns, f"{path}.columns")
        _check_task(params.columns[column], dataset, experiment.split, (experiment.part,), 1,
                    f"{path}.columns: {column}")
    for column in experiment.paper:
        _require_known(column, experiment.columns, f"{path}.paper")


def _check_oracle(experiment: ExperimentParams, model: ModelParams, path: str) -> None:
    """An oracle is a classifier as it is; that it was trained on the test classes is known from its file alone."""
    if experiment.oracle and (not isinstance(model.method, ClassifierSpec) or experiment.adaptation is not None):
        raise ParamsError(f"{path}.oracle: found true with method {model.method.name} and adaptation "
                          f"{'null' if experiment.adaptation is None else 'not null'}; an oracle is a classifier's "
                          "softmax as it is: name a model of method classifier and write adaptation: null, or oracle: "
                          "false")


def _dataset_with_split(holder: ModelParams | ExperimentParams, params: Params, path: str) -> DatasetParams:
    _require_known(holder.dataset, params.datasets, f"{path}.dataset")
    dataset = params.datasets[holder.dataset]
    _require_known(holder.split, dataset.splits, f"{path}.split")
    return dataset


def _check_task(task: EpisodeSpec, dataset: DatasetParams, split: str, parts: tuple[Part, ...], rotations: int,
                path: str) -> None:
    sizes = [_num_classes(dataset, split, part) for part in parts]
    num_classes = None if None in sizes else sum(size for size in sizes if size is not None)
    if num_classes is not None and task.num_ways > num_classes * rotations:
        raise ParamsError(f"{path}: num_ways is {task.num_ways}, and the {' and '.join(parts)} part of split {split} "
                          f"has {num_classes * rotations} classes; lower num_ways or change the split")
    if task.fine_grained is not None and (dataset.source not in SYNSET_SOURCES or rotations > 1):
        raise ParamsError(f"{path}.fine_grained: found {task.fine_grained}; groups of classes are known of ImageNet's "
                          "synsets alone, and not of turned ones: write null")
    samples = dataset.glyphs.num_hands if dataset.source == "glyphs" else SAMPLES_PER_CLASS.get(dataset.source)
    if samples is not None and task.samples_per_way > samples:
        raise ParamsError(f"{path}: {task.num_shots} shots and {task.num_queries} queries need "
                          f"{task.samples_per_way} samples, and a class has {samples}; lower one of them")


def _num_classes(dataset: DatasetParams, split_name: str, part: Part) -> int | None:
    """How many classes a part has, where that is known before the data is there."""
    split, total = dataset.splits[split_name], NUM_CLASSES.get(dataset.source)
    if isinstance(split, WholeSplit):
        return total if split.part == part else 0
    if isinstance(split, RandomSplit):
        train = None if total is None else total - split.num_valid - split.num_test
        return {"train": train, "valid": split.num_valid, "test": split.num_test}[part]
    return None


def _check_run(params: Params) -> None:
    """The run section repeats facts of the others, for dvc.yaml to read; it must agree with them."""
    for name in params.run.experiments:
        _require_known(name, params.experiments, "run.experiments")
    found, expected = asdict(params.run), run_section(params.run.experiments, params)
    found["datasets"] = sorted(found["datasets"])
    for part, wanted in expected.items():
        if found[part] != wanted:
            raise ParamsError(f"run.{part}: found {found[part]}, and its experiments need {wanted}; "
                              "do not edit run: by hand, `python -m stages.select SUITE` writes it")


def run_section(names: Iterable[str], params: Params) -> dict:
    """What the run section must say to run these experiments: they, their models and what these begin with."""
    experiments = {name: params.experiments[name] for name in names}
    models = {row.model: params.models[row.model] for row in experiments.values()}
    while missing := {model.init for model in models.values() if model.init} - models.keys():
        models |= {name: params.models[name] for name in sorted(missing)}
    methods = {name: model.method.name for name, model in models.items()}
    datasets = {row.dataset for row in experiments.values()} | {model.dataset for model in models.values()}
    return {
        "datasets": sorted(datasets),
        "models": {name: {"dataset": model.dataset, "method": methods[name]} for name, model in models.items()
                   if not model.init},
        "initialised": {name: {"dataset": model.dataset, "method": methods[name], "init": model.init}
                        for name, model in models.items() if model.init},
        "experiments": {name: {"model": row.model, "method": methods[row.model], "dataset": row.dataset,
                               "shown": _shown_file(params.datasets[row.dataset])}
                        for name, row in experiments.items()},
        "comparisons": {name: _run_comparison(comparison, params) for name, comparison in params.comparisons.items()
                        if {comparison.experiment, comparison.baseline} <= set(experiments)},
    }


def _shown_file(dataset: DatasetParams) -> str:
    return "episodes.html" if dataset.source in TEXT_SOURCES else "episodes.png"


def _require_known(name: str, known: Mapping | Iterable[str], path: str) -> None:
    if name not in known:
        raise ParamsError(f"{path}: there is no {name!r}; {nearest(name, known)}")


SAME_EPISODES = ("dataset", "split", "part", "seed", "episodes")  # what decides which episodes an experiment has


def _check_comparison(comparison: ComparisonParams, params: Params, path: str) -> None:
    for role in ("experiment", "baseline"):
        name = getattr(comparison, role)
        _require_known(name, params.experiments, f"{path}.{role}")
        _require_known(comparison.column, params.experiments[name].columns, f"{path}.column: of experiment {name}")
    ours, baseline = params.experiments[comparison.experiment], params.experiments[comparison.baseline]
    for field in SAME_EPISODES:
        if getattr(ours, field) != getattr(baseline, field):
            raise ParamsError(f"{path}.baseline: {comparison.baseline!r} has {field} {getattr(baseline, field)}, and "
                              f"{comparison.experiment!r} has {getattr(ours, field)}; two models are compared on the "
                              f"same episodes: name experiments that agree in {', '.join(SAME_EPISODES)}")
    if comparison.experiment == comparison.baseline:
        raise ParamsError(f"{path}.baseline: found {comparison.baseline!r}, the experiment itself; name another")
    if params.datasets[ours.dataset].source in TEXT_SOURCES:
        raise ParamsError(f"{path}.experiment: {comparison.experiment!r} is of sentences, and the figure is of images; "
                          "name experiments on images")


def _run_comparison(comparison: ComparisonParams, params: Params) -> dict[str, str]:
    ours, baseline = params.experiments[comparison.experiment], params.experiments[comparison.baseline]
    return {"experiment": comparison.experiment, "baseline": comparison.baseline, "model": ours.model,
            "baseline_model": baseline.model, "method": params.models[ours.model].method.name,
            "baseline_method": params.models[baseline.model].method.name, "dataset": ours.dataset}
