"""The parameters of a table as frozen dataclasses.

Specs stand next to the code that they rule (`EpisodeSpec`, `MatchingNetworkSpec`, `DatasetParams`, ...) and check their
own values. The rules between sections are in rules.py. How the files become these dataclasses is in tables.py.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from matchnet.classifier_training import ClassifierTrainingSpec
from matchnet.episodes import ALL_WAYS, EpisodeSpec, FineGrainedSpec
from matchnet.episodic_training import EpisodicSpec
from matchnet.messages import shown, without_credentials
from matchnet.methods import FineTuningSpec, MethodSpec
from matchnet.methods.language_model import LanguageModelSpec
from matchnet.text_training import TextSpec
from pipeline.data.nodes.cache import CacheParams
from pipeline.data.spec import DatasetParams, Part

_ADDRESS = re.compile(r"\s*(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):/{1,2}")  # a folder may have `:/` further on


@dataclass(frozen=True, kw_only=True)
class LicensedParams:
    """Folders of data that have no public address.

    Args:
        imagenet: folder or http(s) address of ILSVRC2012's archives. Null asks the mirror. Datasets with
            `sample: true` always ask the mirror.
        mini_imagenet: tar, zip or folder of miniImageNet's prepared photographs. Null asks the mirror.
        treebank3: folder of the corpus LDC99T42.
    """

    imagenet: str | None = None
    mini_imagenet: str | None = None
    treebank3: str | None = None

    def __post_init__(self) -> None:
        for name in ("imagenet", "mini_imagenet", "treebank3"):
            _require_folder_or_http(name, getattr(self, name))

    def folder_of(self, dataset: DatasetParams) -> str | None:
        if dataset.source == "treebank3":
            return self.treebank3
        if dataset.is_prepared:
            return self.mini_imagenet
        return self.imagenet if dataset.source in ("imagenet", "mini_imagenet") and not dataset.sample else None


def _require_folder_or_http(name: str, value: str | None) -> None:
    """Refuse other addresses. They may hold secrets, so the message shows the scheme alone."""
    found = _ADDRESS.match(value or "")
    if found and found[0] not in ("http://", "https://"):
        raise ValueError(f"{name} begins with {shown(found['scheme'] + '://')}; it must be a folder, or an "
                         "address that begins with http:// or https://: name one of these")


@dataclass(frozen=True, kw_only=True)
class ClusterParams:
    """Where stages run, and where data come from. No result depends on it, so a change makes no stage stale.

    Args:
        mirror: folder or address that is asked for downloads before the public ones. The environment's MATCHNET_MIRROR
            goes before this field.
        licensed: where data lie that have no public address.
        ray_address: address of a running Ray cluster, which then runs the stages shard, train and evaluate. Null runs
            them on this machine. The environment's RAY_ADDRESS goes before this field.
        storage: a path or an address, such as `s3://bucket/matchnet`, that all nodes see. Shards are made on this
            machine and published there; unfinished runs keep their state there. Null leaves both in this folder, which
            all nodes must then see under the same path.
        cache: copies of shards on each node's own disk. Null reads shards where they are. Needed if `storage` is an
            address.
        num_processes: how many processes make shards. Null is one a core.
        max_failures: how often a training run is started again after it lost a worker. A new checkpoint sets the count
            back to zero.
        memory_gib: datasets that take more memory when decoded stay in their shards, and each image is decoded when an
            episode asks for it. Null is a quarter of the free memory.
        num_loaders: how many processes of each worker decode such images. Null shares the cores among the workers.
    """

    mirror: str | None = None
    licensed: LicensedParams = field(default_factory=LicensedParams)
    ray_address: str | None = None
    storage: str | None = None
    cache: CacheParams | None = None
    num_processes: int | None = None
    max_failures: int = 3
    memory_gib: float | None = None
    num_loaders: int | None = None

    def __post_init__(self) -> None:
        _require_folder_or_http("mirror", self.mirror)
        for name in ("num_processes", "num_loaders"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1, or null for one a core")
        if self.memory_gib is not None and self.memory_gib < 0:
            raise ValueError(f"memory_gib is {self.memory_gib}; it must be at least 0, or null")
        if self.max_failures < 0:
            raise ValueError(f"max_failures is {self.max_failures}; it must be at least 0")
        if self.storage is not None and "://" not in self.storage and not Path(self.storage).is_absolute():
            raise ValueError(f"storage is {self.storage!r}; it must be an absolute path, the same on every node, or an "
                             "address such as s3://bucket/matchnet")
        if self.storage is not None and "://" in self.storage and not self.storage.startswith("file://") \
                and self.cache is None:
            raise ValueError(f"storage is {shown(without_credentials(self.storage))}, and cache is null; shards at an "
                             "address are read through copies on each node's disk: write cache: {folder: "
                             "/local/disk/matchnet, gib: 100}, or a path that all nodes see as storage")


@dataclass(frozen=True, kw_only=True)
class ComputeParams:
    """How training is spread out. It decides the order of sums, and so the last bits of the weights.

    Args:
        num_workers: how many processes train together, one a device. A model whose step has fewer episodes or images
            takes fewer workers, and a language model takes one. `[1, 8]` gives the fewest and the most: training then
            takes as many workers as the cluster has room for, and changes when nodes come or go. A step has the same
            episodes for any number of workers. The weights differ, because batch normalisation takes its statistics in
            each worker.
        threads_per_worker: threads of one worker. Null shares the cores of a node among its workers, or among its GPUs.
            Write a number if nodes differ, or if several experiments share a cluster.
        device: `auto` is one GPU a worker if there are enough GPUs, else the CPU.
        precision: `auto` is bf16 if the device has instructions for it, else fp32.
        compile: true runs each step through torch.compile. This takes minutes at the start, and needs a C++ compiler,
            and triton on a GPU.
    """

    num_workers: int | tuple[int, int] = 1
    threads_per_worker: int | None = None
    device: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        for name, value in (("num_workers", self.fewest_workers), ("threads_per_worker", self.threads_per_worker)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if self.fewest_workers > self.most_workers:
            raise ValueError(f"num_workers is [{self.fewest_workers}, {self.most_workers}]; write the fewest first, "
                             "then the most")

    @property
    def fewest_workers(self) -> int:
        """Without so many, training waits."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[0]

    @property
    def most_workers(self) -> int:
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[1]


@dataclass(frozen=True, kw_only=True)
class ModelParams:
    """What the stage `train` makes: a method, and what it learns from. A method without weights has `training: null`.

    Args:
        dataset: the dataset whose shards it is trained on. In the file it is the `shards/DATASET` of `from:`.
        split: the split of that dataset which decides the training classes.
        train_parts: the parts of the split that it is trained on: `[train]`, or `[train, valid]` for a final model.
        image_size: pixels of a side, for a dataset of images.
        channels: 3 for colours, 1 for grey.
        context: words on each side of the blank, for a dataset of sentences.
        rotations: true makes images turned by 90, 180 and 270 degrees classes of their own.
        init: the model whose weights the encoders begin with: a language model, or a model with the same encoder. In
            the file it is the `models/TABLE/MODEL` of `from:`, and the dataset is that model's.
        published: a file with the weights of a published Inception v3, for the classifier of all 1,000 classes.
        method: which method it is, and with which encoder and attention.
        training: how it is trained. Null for a method without weights.
    """

    dataset: str
    split: str
    train_parts: tuple[Part, ...] = ("train",)
    image_size: int | None = None
    channels: Literal[1, 3] = 1
    context: int | None = None
    rotations: bool = False
    init: str | None = None
    published: str | None = None
    method: MethodSpec
    training: EpisodicSpec | TextSpec | ClassifierTrainingSpec | None = None

    def __post_init__(self) -> None:
        for name, unit in (("image_size", "pixel"), ("context", "word on each side of the blank")):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1 {unit}")
        if (self.image_size is None) == (self.context is None):
            raise ValueError(f"image_size is {self.image_size} and context is {self.context}; give image_size for "
                             "images or context for sentences, and null for the other")
        if self.rotations and self.image_size is None:
            raise ValueError("rotations is true, and sentences cannot be turned; write false")
        if "test" in self.train_parts:
            raise ValueError(f"train_parts is {list(self.train_parts)}; test classes are for evaluation alone: "
                             "use train, and valid")

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample as the method takes it, (C, H, W) or (L,); see pipeline.data.load.samples."""
        if self.image_size is not None:
            return (self.channels, self.image_size, self.image_size)
        assert self.context is not None
        shows_word = isinstance(self.method, LanguageModelSpec)  # an oracle's samples have the word itself at the end
        return (2 * self.context + 1 + shows_word,)


COLUMN = re.compile(r"(?:all-|(fine-)?([1-9]\d*)w)([1-9]\d*)s(?:([1-9]\d*)q)?")
LARGEST_TEST_GROUP = 10  # classes of WordNet's groups that a fine-grained column draws from


def task_of(column: str, queries: int) -> EpisodeSpec:
    """The task that a column's name says: `20w5s` is 20-way 5-shot with `queries` queries a way, `5w1s4q` has 4.

    `all-5s` has every class there is as a way. `fine-5w1s` draws all classes of an episode from one group of WordNet
    (ten dogs, insects, ...).

    Raises:
        ValueError: the name says no task.
    """
    found = COLUMN.fullmatch(column)
    if found is None:
        raise ValueError(f"columns: {column!r} says no task; write WAYSwSHOTSs, such as 5w1s, 20w5s, fine-5w1s, "
                         "all-5s or, with the queries of a way, 5w1s15q")
    fine, ways, shots, own_queries = found.groups()
    return EpisodeSpec(int(ways or ALL_WAYS), int(shots), int(own_queries or queries),
                       FineGrainedSpec(share=1.0, largest_group=LARGEST_TEST_GROUP) if fine else None)


@dataclass(frozen=True, kw_only=True)
class RowParams:
    """What the stage `evaluate` measures: one row of a table.

    Args:
        model: the model that is tested, one of this table.
        dataset: the dataset whose classes it is tested on.
        split: the split of that dataset. If the file leaves it out, it is the model's own split, or the only one.
        part: the part of the split whose classes it is tested on.
        columns: the tasks by name. `20w5s` is 20-way 5-shot, `5w1s4q` has 4 queries a way, `all-1s` has every class as
            a way, and `fine-5w1s` draws all classes of an episode from one group of WordNet.
        queries: queries a way, for columns whose name does not say it.
        episodes: test episodes of each column.
        seed: decides which test episodes are drawn.
        adaptation: how the model is fine-tuned on each support set before it classifies. Null does not tune it.
        nearest: how many support items a query attends to, those with the highest scores. Null is all.
        oracle: true if the model is a classifier that has seen the test classes. It then answers by its softmax over
            all classes.
    """

    model: str
    dataset: str
    split: str
    part: Part = "test"
    columns: tuple[str, ...]
    queries: int = 5
    episodes: int = 10_000
    seed: int = 0
    adaptation: FineTuningSpec | None = None
    nearest: int | None = None
    oracle: bool = False

    def __post_init__(self) -> None:
        if self.episodes < 2:
            raise ValueError(f"episodes is {self.episodes}; an interval needs at least 2: write 2 or more")
        if self.queries < 1:
            raise ValueError(f"queries is {self.queries}; a way needs at least 1: write 1 or more")
        if self.nearest is not None and (self.nearest < 1 or self.adaptation is not None or self.oracle):
            raise ValueError(f"nearest is {self.nearest}; it must be at least 1, with adaptation: null and oracle: "
                             "false, or null")
        if not self.columns:
            raise ValueError("columns is empty; name at least one task, such as 5w1s")
        self.tasks  # noqa: B018  # raises for a name that says no task

    @property
    def tasks(self) -> dict[str, EpisodeSpec]:
        """The task of each column; see EpisodeSpec.among for those of all classes."""
        return {column: task_of(column, self.queries) for column in self.columns}


@dataclass(frozen=True, kw_only=True)
class ComparisonParams:
    """What the stage `compare` makes: two rows side by side on the same episodes of one column, as in Figure 2.

    Args:
        row: the row that is looked at.
        baseline: the row that it is compared with. Both are tested on the same episodes.
        column: the task, one of both rows' columns.
    """

    row: str
    baseline: str
    column: str


@dataclass(frozen=True, kw_only=True)
class ReportParams:
    """What only the report depends on.

    Args:
        title: the heading of the table.
        about: one or two sentences above the table.
        titles: the title of each row. A row without one is shown by its name.
        paper: the paper's figures of each row in percent, in the order of the row's columns: `98.1 / 98.9 / – / 98.5`.
            A dash stands where the paper has none.
        notes: remarks on a row: why it is off, or what is special about it.
    """

    title: str
    about: str = ""
    titles: Mapping[str, str] = field(default_factory=dict)
    paper: Mapping[str, float | str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def paper_of(self, row: str, columns: Sequence[str]) -> dict[str, float]:
        """The paper's figures of a row by column.

        Raises:
            ValueError: not as many figures as columns, or one that is no percentage.
        """
        given = str(self.paper.get(row, "")).split("/") if row in self.paper else []
        if given and len(given) != len(columns):
            raise ValueError(f"paper.{row}: found {len(given)} figures, and the row has {len(columns)} columns "
                             f"({', '.join(columns)}); write one for each, or – where the paper has none")
        texts = [text.strip() for text in given]
        figures = {column: text for column, text in zip(columns, texts, strict=False) if text not in ("", "–", "-")}
        for column, text in figures.items():
            if not re.fullmatch(r"\d+(\.\d+)?", text) or float(text) > 100:
                raise ValueError(f"paper.{row}: found {text!r} for {column}; it is in percent, 0 to 100")
        return {column: float(text) for column, text in figures.items()}


@dataclass(frozen=True, kw_only=True)
class Params:
    """One table: everything that its stages need to know.

    Models, rows and comparisons are keyed by their full names, such as `omniglot/short-fce`. The models include those
    of other tables that this table's models begin with, and the datasets those of other tables that it uses.

    Args:
        table: its name, which is that of its folder in experiments/; the root's table is the demo.
        folder: where its params.yaml lies, relative to the root.
        own_datasets: the datasets that this table's own file declares.
    """

    table: str
    folder: Path
    cluster: ClusterParams = field(default_factory=ClusterParams)
    compute: ComputeParams = field(default_factory=ComputeParams)
    own_datasets: tuple[str, ...] = ()
    datasets: Mapping[str, DatasetParams]
    models: Mapping[str, ModelParams]
    rows: Mapping[str, RowParams]
    comparisons: Mapping[str, ComparisonParams]
    report: ReportParams

    @property
    def own_models(self) -> dict[str, ModelParams]:
        """The models of this table alone."""
        return {name: model for name, model in self.models.items() if name.startswith(f"{self.table}/")}

    def compute_of(self, model: str) -> ComputeParams:
        """Without the workers for whom a step of this model has nothing."""
        training, compute = self.models[model].training, self.compute
        if training is None or compute.most_workers <= (most := training.most_shares // training.accumulate):
            return compute
        fewest = min(compute.fewest_workers, most)
        return replace(compute, num_workers=most if fewest == most else (fewest, most))
