"""Rules between the sections of a table: names that must exist, tasks that the classes must be able to serve."""

from collections.abc import Iterable, Mapping

from matchnet.classifier_training import ClassifierTrainingSpec
from matchnet.encoders.conv4 import Conv4Spec
from matchnet.encoders.inception import InceptionSpec
from matchnet.encoders.language_model import LanguageModelStatesSpec
from matchnet.episodes import ALL_WAYS, EpisodeSpec
from matchnet.episodic_training import EpisodicSpec, ValidatedSpec
from matchnet.messages import shown
from matchnet.methods.classifier import ClassifierSpec
from matchnet.methods.language_model import LanguageModelSpec
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.parsing import ParamsError, nearest
from matchnet.text_training import TextSpec
from pipeline.data.spec import TEXT_SOURCES, DatasetParams, Part, RandomSplit, WholeSplit
from pipeline.data.splits import LISTS, list_path
from pipeline.params.method_rules import check_method, check_use
from pipeline.params.sections import ComparisonParams, ModelParams, Params, RowParams
from pipeline.paths import short_name

# Facts of the sources that are known before anything is downloaded; the rest is checked when the data is there.
NUM_CLASSES = {"omniglot": 1623, "mnist": 10}
SAMPLES_PER_CLASS = {"omniglot": 20}

IMAGES_ONLY = ("pixels", "mann", "classifier")  # a classifier needs all its classes; rare words are left out
SYNSET_SOURCES = ("imagenet", "mini_imagenet")  # sources whose classes WordNet groups
IN_CHUNKS = ("matching_network", "siamese")  # methods with the activations that a chunk keeps small
ON_FEATURES = ("matching_network", "siamese")  # methods with weights that follow one encoder
SENTENCES_ONLY = ("language_model",)


def check_params(params: Params) -> None:
    """Raise ParamsError for the first rule that is broken. Errors name the sections as they are in the file."""
    for name, model in params.own_models.items():
        _check_model(model, params, f"models.{short_name(name)}")
    for name, row in params.rows.items():
        _check_row(row, params, f"rows.{short_name(name)}")
    for name, comparison in params.comparisons.items():
        _check_comparison(comparison, params, f"comparisons.{short_name(name)}")
    _check_report(params)
    _check_lists(params)


def _check_lists(params: Params) -> None:
    """Lists of classes that splits name: the shard stage reads them after hours."""
    for name in params.own_datasets:
        dataset = params.datasets[name]
        for split_name, split in dataset.splits.items():
            for part in ("valid", "test"):
                if isinstance(listed := getattr(split, part, None), str):
                    _require_list(listed, f"datasets.{name}.splits.{split_name}.{part}")


def _require_list(name: str, path: str) -> None:
    if "/" not in name:
        _require_known(name, {path.name for path in LISTS.iterdir()}, path)
        return
    try:
        list_path(name)
    except ValueError as error:
        raise ParamsError(f"{path}: {error}") from error
    except OSError as error:  # a name of thousands of letters
        raise ParamsError(f"{path}: found {shown(name)}: {error.strerror}; name a list of classes") from error


def _check_model(model: ModelParams, params: Params, path: str) -> None:
    dataset = _dataset_with_split(model, params, path)
    _check_samples(model, dataset.source in TEXT_SOURCES, path)
    _check_init(model, params, f"{path}.from")
    _check_published(model, f"{path}.published")
    _check_training(model, path)
    if isinstance(model.training, EpisodicSpec):
        _check_chunk(model, params.compute.compile, f"{path}.training.chunk")
        _check_frozen(model, f"{path}.training.frozen")
        if not isinstance(model.method, ClassifierSpec):
            _require_support(model.training.episode, f"{path}.training.episode")
        _check_task(model.training.episode, dataset, model.split, model.train_parts, 4 if model.rotations else 1,
                    f"{path}.training.episode")
    if isinstance(model.training, ValidatedSpec) and "valid" not in model.train_parts \
            and _num_classes(dataset, model.split, "valid") != 0:  # without valid classes nothing is validated
        _check_task(model.training.valid_episode, dataset, model.split, ("valid",), 1, f"{path}.training.valid_episode")
    check_method(model, dataset, path)


def _require_support(task: EpisodeSpec, path: str) -> None:
    if task.num_shots < 1:
        raise ParamsError(f"{path}.num_shots: found 0; without support there is nothing to choose from: write at "
                          "least 1 (0 is for episodes that train a classifier)")


def _check_samples(model: ModelParams, are_sentences: bool, path: str) -> None:
    """Sentences have a context, images a size; a parameter made for one of them is refused for the other."""
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
            raise ParamsError(f"{path}: found shards/{model.dataset}; an encoder language_model takes its weights from "
                              "a language model: write models/TABLE/MODEL")
        return
    source = params.models[model.init]
    if not reads_states:
        name, other = (getattr(getattr(holder.method, "encoder", None), "name", None) for holder in (model, source))
        if name is None or name != other:
            raise ParamsError(f"{path}: found {model.init!r}, whose encoder is {other}, and this model's is {name}; "
                              "name a model with the same encoder, or write shards/DATASET")
        theirs = getattr(source.method, "encoder", None)
        if isinstance(encoder, Conv4Spec) and isinstance(theirs, Conv4Spec) and encoder.last_relu != theirs.last_relu:
            raise ParamsError(f"{path}: found {model.init!r}, whose encoder has last_relu: "
                              f"{str(theirs.last_relu).lower()}; write the same in method.encoder of this model")
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
    is_linear = isinstance(model.method, ClassifierSpec) and model.method.head == "linear"
    if not (is_inception and is_linear) or model.training is not None or model.init is not None:
        raise ParamsError(f"{path}: found {model.published!r}; published weights are those of a classifier with "
                          "encoder inception_v3 and head linear, with training: null and from: shards/DATASET; write "
                          "so, or leave published out")


def _check_stream(model: ModelParams, path: str) -> None:
    """Single images, streamed from their shards, are what a classifier learns from, and nothing else."""
    if not isinstance(model.training, ClassifierTrainingSpec):
        return
    if not isinstance(model.method, ClassifierSpec) or model.image_size is None or model.rotations:
        raise ParamsError(f"{path}: batch_size, ... train a classifier of images, without rotations, from a stream; "
                          f"found method {model.method.name}, image_size {model.image_size} and rotations "
                          f"{str(model.rotations).lower()}; give another training, or change these")


def _check_chunk(model: ModelParams, compiled: bool, path: str) -> None:
    """Chunks are for methods whose memory they keep small, and torch.compile cannot see through them."""
    assert isinstance(model.training, EpisodicSpec)
    if model.training.chunk is not None and (compiled or model.method.name not in IN_CHUNKS):
        raise ParamsError(f"{path}: found {model.training.chunk} with method {model.method.name} and compute.compile "
                          f"{str(compiled).lower()}; {' and '.join(IN_CHUNKS)} train in chunks, and not compiled: "
                          "write null, or change these")


def _check_frozen(model: ModelParams, path: str) -> None:
    """The encoder must have been trained, and something that follows it must learn."""
    assert isinstance(model.training, EpisodicSpec)
    if model.training.frozen and (model.method.name not in ON_FEATURES or model.init is None):
        raise ParamsError(f"{path}: found true with method {model.method.name} and from: "
                          f"{model.init or 'shards/' + model.dataset}; it is for {' and '.join(ON_FEATURES)} that "
                          "begin with a trained model: write from: models/TABLE/MODEL, or frozen: false")
    method = model.method
    if model.training.frozen and isinstance(method, MatchingNetworkSpec) \
            and method.embedding_size is None and method.fce is None and method.attention.scale != "learned":
        raise ParamsError(f"{path}: found true, and nothing that follows the encoder would learn; write "
                          "method.embedding_size, method.fce, or method.attention.scale: learned")


def _check_training(model: ModelParams, path: str) -> None:
    """Running text is what language models train on, and nothing else does."""
    _check_stream(model, f"{path}.training")
    reads_text = isinstance(model.method, LanguageModelSpec)
    if model.training is not None and reads_text != isinstance(model.training, TextSpec):
        raise ParamsError(f"{path}.training: method {model.method.name} trains on "
                          f"{'running text: num_streams, window' if reads_text else 'episodes: episode'}, ...; found "
                          "the parameters of the other kind: write those of its own kind, or another method")
    if reads_text and model.train_parts != ("train",):
        raise ParamsError(f"{path}.train_parts: found {list(model.train_parts)}; a language model reads the training "
                          "file and validates on that of valid: write [train]")


def _check_row(row: RowParams, params: Params, path: str) -> None:
    dataset = _dataset_with_split(row, params, path)
    model, name = params.models[row.model], short_name(row.model)
    if (dataset.source in TEXT_SOURCES) != (model.context is not None):
        raise ParamsError(f"{path}.dataset: found {row.dataset!r}, and model {name!r} learns from {model.dataset}: one "
                          "is of images, one of sentences; name another dataset or model")
    if dataset.source in TEXT_SOURCES and row.dataset != model.dataset:
        raise ParamsError(f"{path}.dataset: found {row.dataset!r}, and model {name!r} learns from {model.dataset}: "
                          f"tokens are numbers in the vocabulary of one dataset; test on {model.dataset}")
    _check_oracle(row, model, path)
    if row.dataset == model.dataset and row.split != model.split and not row.oracle:
        raise ParamsError(f"{path}.split: found {row.split!r}, and model {name!r} learns from split {model.split} of "
                          f"the same dataset: test classes could be training classes; write {model.split}")
    for column, task in row.tasks.items():
        if task.num_ways == ALL_WAYS and dataset.source in TEXT_SOURCES:
            raise ParamsError(f"{path}.columns: found {column!r}; the words of {row.dataset} share sentences, so no "
                              "episode has all of them: write a number of ways")
        _check_task(task, dataset, row.split, (row.part,), 1, f"{path}.columns: {column}")
    check_use(row, model, dataset, params.datasets[model.dataset], _num_classes(dataset, row.split, row.part), path)


def _check_oracle(row: RowParams, model: ModelParams, path: str) -> None:
    """An oracle is a classifier as it is; that it was trained on the test classes is known from its file alone."""
    if row.oracle and (not isinstance(model.method, ClassifierSpec) or row.adaptation is not None):
        raise ParamsError(f"{path}.oracle: found true with method {model.method.name} and adaptation "
                          f"{'null' if row.adaptation is None else 'not null'}; an oracle is a classifier's "
                          "softmax as it is: name a model of method classifier and write adaptation: null, or oracle: "
                          "false")


def _dataset_with_split(holder: ModelParams | RowParams, params: Params, path: str) -> DatasetParams:
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
    """Number of classes of a part; None if it is not known before the data is there."""
    split, total = dataset.splits[split_name], NUM_CLASSES.get(dataset.source)
    if isinstance(split, WholeSplit):
        return total if split.part == part else 0
    if isinstance(split, RandomSplit):
        train = None if total is None else total - split.num_valid - split.num_test
        return {"train": train, "valid": split.num_valid, "test": split.num_test}[part]
    return None


def _require_known(name: str, known: Mapping | Iterable[str], path: str) -> None:
    if name not in known:
        raise ParamsError(f"{path}: there is no {name!r}; {nearest(name, known)}")


SAME_EPISODES = ("dataset", "split", "part", "seed", "episodes", "queries")  # fields that decide a row's episodes


def other_episodes(row: RowParams, other: RowParams) -> str | None:
    """The first field by which two rows are tested on different episodes; None if their episodes are the same."""
    return next((field for field in SAME_EPISODES if getattr(row, field) != getattr(other, field)), None)


def _check_comparison(comparison: ComparisonParams, params: Params, path: str) -> None:
    rows = {short_name(name): row for name, row in params.rows.items()}
    names = {role: short_name(getattr(comparison, role)) for role in ("row", "baseline")}
    for role, name in names.items():
        _require_known(name, rows, f"{path}.{role}")
        _require_known(comparison.column, rows[name].columns, f"{path}.column: of row {name}")
    ours, baseline = rows[names["row"]], rows[names["baseline"]]
    if field := other_episodes(ours, baseline):
        raise ParamsError(f"{path}.baseline: {names['baseline']!r} has {field} {getattr(baseline, field)}, and "
                          f"{names['row']!r} has {getattr(ours, field)}; two rows are compared on the same "
                          f"episodes: name rows that agree in {', '.join(SAME_EPISODES)}")
    if names["row"] == names["baseline"]:
        raise ParamsError(f"{path}.baseline: found {names['baseline']!r}, the row itself; name another")
    if params.datasets[ours.dataset].source in TEXT_SOURCES:
        raise ParamsError(f"{path}.row: {names['row']!r} is of sentences, and the figure is of images; name rows on "
                          "images")


def _check_report(params: Params) -> None:
    rows = {short_name(name): row for name, row in params.rows.items()}
    for section in ("titles", "paper", "notes"):
        for name in getattr(params.report, section):
            _require_known(name, rows, f"report.{section}")
    for name, row in rows.items():
        try:
            params.report.paper_of(name, row.columns)
        except ValueError as error:
            raise ParamsError(f"report.{error}") from error
