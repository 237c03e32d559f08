"""One row of a table: a model on the test episodes of its columns, with its measurements and some of its episodes."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from matchnet.attention import Attention
from matchnet.episodes import ALL_WAYS, ClassRows, Episodes
from matchnet.evaluation import EpisodeResults, EpisodeStream, embed_rows, episode_results, rows_drawn, run_episodes
from matchnet.files import atomic_write
from matchnet.methods import Classifier, FineTuned, Method, Oracle
from matchnet.model_file import ModelFile
from matchnet.running_text import TextModel
from matchnet.statistics import mean_and_interval
from matchnet.store import MemoryStore
from pipeline.data.formats.images import preparation_of
from pipeline.data.load.samples import Room, Samples, load_samples
from pipeline.data.load.sentences import load_sentences
from pipeline.data.shards.folder import ShardFolder
from pipeline.evaluate.on_workers import RowEpisodes, SampleAddress, Workers, embed_on, episodes_on
from pipeline.evaluate.seen import require_new_classes
from pipeline.params import ComputeParams, RowParams
from pipeline.results.metrics import ColumnResult, DatasetUsed, Details, ModelUsed, SecondsSpent, machine_facts
from pipeline.results.shown_episode import ShownEpisode, thumbnails
from pipeline.system.progress import Progress, say
from pipeline.workers.processes import close_if_possible

SHOWN = 100  # episodes to show are chosen from so many of the first column (without episodes of all classes)
SHOWN_SAMPLES = 50_000  # samples in these episodes; episodes of all classes have many
DECODED_FIRST = 2**30  # bytes of images; if there are more, all cores decode them while they are embedded
FEW = Room(memory_bytes=0, num_processes=1)  # decode only the images that are looked at


@dataclass(frozen=True)
class Measured:
    """The results of each column's episodes, and some episodes to show. vocabulary: that of a model of sentences."""

    episodes: Mapping[str, EpisodeResults]
    shown: list[ShownEpisode]
    vocabulary: list[str] | None
    details: Details


def evaluate_row(row: RowParams, model: ModelFile, method: Method, shards: ShardFolder, device: str = "cpu",
                 workers: Workers | None = None) -> Measured:
    """Embed the samples of all columns' episodes, each sample once, then run the episodes on the embeddings.

    Args:
        device: the device of this process, which does everything without `workers`.
        workers: workers that share the embedding and the episodes.
    Raises:
        ValueError: damaged shards, classes that cannot serve a column, sentences with other tokens than the model's, or
            an oracle of other classes than the part's.
    """
    started = time.monotonic()
    room = Room(memory_bytes=min(Room().memory_bytes, DECODED_FIRST)) if workers is None else FEW
    with loaded_samples(row, model, shards, room) as samples:
        specs = {column: spec.among(samples.num_classes) for column, spec in row.tasks.items()}
        streams = {column: EpisodeStream(samples.classes_for(spec), spec, row.seed) for column, spec in specs.items()}
        row_U = np.unique(np.concatenate([rows_drawn(stream, row.episodes) for stream in streams.values()]))
        wanted = RowEpisodes(streams, row_U, row.episodes)
        most = max((stream.classes for stream in streams.values()),  # has the classes of every column
                   key=lambda classes: classes.num_classes)
        require_new_classes(row, model.model_name, model.method, model.seen_classes,
                            samples.names_of(most, np.arange(most.num_classes)))
        method = method_for(row, model, method, samples, most).to(device)
        with Progress(f"embedding {samples.name} for {model.model_name}", len(row_U), "samples") as progress:
            features = embed_rows(method, samples.store, row_U, device, progress.advance) if workers is None else \
                embed_on(workers, method, _address(row, model, shards, workers), samples.store, row_U, progress.advance)
        with Progress(f"testing {model.model_name}", row.episodes * len(streams), "episodes") as progress:
            episodes = episodes_on(workers, method, features, wanted, progress.advance) if workers is not None else {
                column: episode_results(method, features, stream, range(row.episodes), progress.advance)
                for column, stream in streams.items()}
        first = min(row.columns, key=lambda column: row.tasks[column].num_ways == ALL_WAYS)
        shown = _shown(method, samples, features, wanted, first)
    perplexity = None
    if isinstance(method, TextModel):
        text = load_sentences(shards, row.part).running_text()
        perplexity = round(method.perplexity(text.to(device)), 3)
    seconds = SecondsSpent(train=model.seconds, evaluate=round(time.monotonic() - started, 1))
    columns = {column: ColumnResult.from_fractions(*mean_and_interval(episodes[column].accuracy_E), row.episodes,
                                                   stream.spec.num_queries, stream.classes.num_drawn(stream.spec))
               for column, stream in streams.items()}
    trainable = sum(weight.numel() for weight in method.parameters() if weight.requires_grad)
    details = Details(columns=columns, seconds=seconds, machine=machine_facts(),
                      dataset=DatasetUsed(samples.name, row.split, row.part, samples.manifest_sha256),
                      model=ModelUsed(model.model_name, model.step, trainable, model.seed), perplexity=perplexity)
    return Measured(episodes, shown, samples.vocabulary, details)


def device_of(compute: ComputeParams) -> str:
    """Device of this process when it evaluates by itself; ValueError if a GPU is required and there is none."""
    if compute.device == "gpu" and not torch.cuda.is_available():
        raise ValueError("compute.device is gpu, and this machine has none that PyTorch can use; write auto or cpu")
    return "cuda" if compute.device != "cpu" and torch.cuda.is_available() else "cpu"


def _address(row: RowParams, model: ModelFile, shards: ShardFolder, workers: Workers) -> SampleAddress:
    groups = shards.groups_of(row.split, (row.part,))
    return SampleAddress(workers.shards, workers.cache, tuple(sorted(groups)), row.split, row.part,
                         model.sample_shape)


@contextmanager
def loaded_samples(row: RowParams, model: ModelFile, shards: ShardFolder,
                   room: Room | None = None) -> Iterator[Samples]:
    """The samples of the row's part as its model takes them; after the block, a store on shards ends its processes.

    Images are prepared as their dataset says; size, channels and polarity are always the model's own. If the model's
    training data were prepared otherwise, this is said.

    Raises:
        ValueError: drawings for a model of photographs, or the reverse; sentences with other tokens than the model's.
    """
    if model.preparation is not None:
        found = preparation_of(shards.manifest.parameters, model.sample_shape)
        kinds = model.preparation.kind, found.kind
        if None not in kinds and len(set(kinds)) > 1:
            raise ValueError(f"model {model.model_name}: was trained on {kinds[0]}, and dataset {row.dataset} holds "
                             f"{kinds[1]}, another ground; name a dataset of {kinds[0]}, or a model of {kinds[1]}")
        if differences := model.preparation.differences(found):
            say(f"model {model.model_name} and dataset {row.dataset} differ in {'; '.join(differences)}: the "
                "pictures are prepared as the dataset says")
    samples = load_samples(shards, row.split, (row.part,), model.sample_shape, room)
    try:
        if samples.vocabulary is not None and model.dataset_sha256 != samples.manifest_sha256:
            raise ValueError(f"model {model.model_name}: was trained on data of SHA-256 {model.dataset_sha256}, and "
                             f"{samples.name} is now of {samples.manifest_sha256}: a token may be another word; train "
                             "the model again")
        yield samples
    finally:
        close_if_possible(samples.store)  # a store in memory has nothing to close


def method_for(row: RowParams, model: ModelFile, method: Method, samples: Samples,
               classes: ClassRows) -> Method:
    """The model's method as the row uses it: as it is, with `nearest` items, tuned to each support set, or an oracle.

    Raises:
        ValueError: `nearest` with a method that has no attention.
    """
    if row.nearest is not None:
        attention = getattr(method, "attention", None)
        if not isinstance(attention, Attention):
            raise ValueError(f"nearest is {row.nearest}, and a {type(method).__name__} as model {model.model_name} has "
                             "it knows no attention; write null")
        attention.nearest = row.nearest
    if row.oracle:
        return _oracle(model, method, samples.names_of(classes, np.arange(classes.num_classes)))
    return FineTuned(method, row.adaptation) if row.adaptation else method


def _oracle(model: ModelFile, method: Method, class_names: list[str]) -> Oracle:
    """An oracle of the part's classes; ValueError for a class that the classifier was not trained on."""
    if not isinstance(method, Classifier):
        raise ValueError(f"model {model.model_name}: a {type(method).__name__} has no softmax over classes; oracle: "
                         "true is for a classifier")
    outputs = {name: output for output, name in enumerate(model.train_classes)}
    unseen = [name for name in class_names if name not in outputs]
    if unseen:
        raise ValueError(f"model {model.model_name}: class {unseen[0]!r} is none of the {len(outputs)} that it was "
                         f"trained on, nor are {len(unseen) - 1} others of the {len(class_names)} of the part; an "
                         "oracle has seen all: name a classifier of all classes")
    return Oracle(method, torch.tensor([outputs[name] for name in class_names]))


def write_columns(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write one row an episode and one column a task, for comparing two models episode by episode."""
    with atomic_write(path, "wb") as file:
        pq.write_table(pa.table(dict(columns)), file, write_page_checksum=True)


def _shown(method: Method, samples: Samples, features: MemoryStore, wanted: RowEpisodes,
           column: str) -> list[ShownEpisode]:
    """The first test episodes of a column. Only episodes that were run can be shown: other rows have no features."""
    shown: list[ShownEpisode] = []
    stream = wanted.streams[column]
    most = max(2, SHOWN_SAMPLES // (stream.spec.num_ways * stream.spec.samples_per_way))
    numbers = range(min(SHOWN, wanted.count, most))
    for episodes, log_probs_EQN in run_episodes(method, features, stream, numbers):
        shown += [shown_episode(samples, stream.classes, episodes, log_probs_EQN, e) for e in range(len(episodes))]
    return shown


def shown_episode(samples: Samples, classes: ClassRows, episodes: Episodes, log_probs_EQN: Tensor,
                  e: int) -> ShownEpisode:
    """Episode e of a batch, with its samples as they are shown."""
    support_S, query_Q = (thumbnails(samples.store.gather(row_ET[e]))
                          for row_ET in (episodes.support_ES, episodes.query_EQ))
    return ShownEpisode(support_S, episodes.support_way_ES[e], query_Q, episodes.query_way_EQ[e],
                        log_probs_EQN[e].cpu(), samples.names_of(classes, episodes.class_EN[e].numpy()))
