"""One experiment: a model on the test episodes of its columns; what was measured, and what some episodes look like."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from matchnet.episodes import ClassRows, EpisodeSpec
from matchnet.evaluation import embed_all, episode_accuracies, run_episodes
from matchnet.methods import FineTuned, Method
from matchnet.running_text import TextModel
from matchnet.statistics import mean_and_interval
from matchnet.store import MemoryStore
from pipeline.data.samples import Samples, load_samples
from pipeline.data.sentences import load_sentences
from pipeline.data.spec import Part
from pipeline.files import atomic_write
from pipeline.params import ExperimentParams
from pipeline.results.metrics import ColumnResult, DatasetUsed, Metrics, ModelUsed, SecondsSpent, machine_facts
from pipeline.results.shown_episode import ShownEpisode
from pipeline.training.model_file import ModelFile

SHOWN = 100  # episodes of the first column that those to show are chosen from


@dataclass(frozen=True)
class Measured:
    """accuracy_E by column: the share of right queries of each episode. vocabulary: of a model of sentences."""

    accuracies: Mapping[str, np.ndarray]
    shown: list[ShownEpisode]
    vocabulary: list[str] | None
    metrics: Metrics


def run_experiment(experiment: ExperimentParams, columns: Mapping[str, EpisodeSpec], model: ModelFile, method: Method,
                   shards: Path) -> Measured:
    """Embed the classes of the part once, then run every column's episodes on the embeddings.

    Raises:
        ValueError: damaged shards, classes that cannot serve a column, or sentences with other tokens than the model's.
    """
    started = time.monotonic()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    samples = load_samples(shards, experiment.split, (experiment.part,), model.sample_shape)
    _require_same_tokens(model, samples)
    specs = {column: columns[column] for column in experiment.columns}
    classes = {column: samples.classes_for(spec) for column, spec in specs.items()}
    method = (FineTuned(method, experiment.adaptation) if experiment.adaptation else method).to(device)
    most = max(classes.values(), key=lambda of_column: of_column.num_classes)  # has those of every column
    features = embed_all(method, samples.store, most, device)
    accuracies = {column: episode_accuracies(method, features, classes[column], spec, experiment.episodes,
                                             experiment.seed)
                  for column, spec in specs.items()}
    first = experiment.columns[0]
    shown = _shown(method, samples, features, classes[first], specs[first], experiment.seed)
    perplexity = _perplexity(method, shards, experiment.part, device)
    seconds = SecondsSpent(train=model.seconds, evaluate=round(time.monotonic() - started, 1))
    results = {column: ColumnResult.from_fractions(*mean_and_interval(accuracy_E), len(accuracy_E),
                                                   specs[column].num_queries, experiment.paper.get(column),
                                                   classes[column].num_classes)
               for column, accuracy_E in accuracies.items()}
    metrics = _metrics(experiment, results, samples, model, method, seconds, perplexity)
    return Measured(accuracies, shown, samples.vocabulary, metrics)


def _require_same_tokens(model: ModelFile, samples: Samples) -> None:
    if samples.vocabulary is not None and model.dataset_sha256 != samples.manifest_sha256:
        raise ValueError(f"model {model.model_name}: was trained on data of SHA-256 {model.dataset_sha256}, and "
                         f"{samples.name} is now of {samples.manifest_sha256}: a token may be another word; train the "
                         "model again")


def _perplexity(method: Method, shards: Path, part: Part, device: str) -> float | None:
    """Of a language model on the file of the part; None for any other method."""
    if not isinstance(method, TextModel):
        return None
    return round(method.perplexity(load_sentences(shards, part).running_text().to(device)), 3)


def write_accuracies(path: Path, accuracies: Mapping[str, np.ndarray]) -> None:
    """One row an episode, one column a task: for comparing two models episode by episode."""
    with atomic_write(path, "wb") as file:
        pq.write_table(pa.table(dict(accuracies)), file)


def _shown(method: Method, samples: Samples, features: MemoryStore, classes: ClassRows, spec: EpisodeSpec,
           seed: int) -> list[ShownEpisode]:
    shown = []
    for episodes, log_probs_EQN in run_episodes(method, features, classes, spec, SHOWN, seed):
        shown += [ShownEpisode(samples.store.gather(episodes.support_ES[e]), episodes.support_way_ES[e],
                               samples.store.gather(episodes.query_EQ[e]), episodes.query_way_EQ[e],
                               log_probs_EQN[e].cpu(), samples.names_of(classes, episodes.class_EN[e].numpy()))
                  for e in range(len(episodes))]
    return shown


def _metrics(experiment: ExperimentParams, results: dict[str, ColumnResult], samples: Samples, model: ModelFile,
             method: Method, seconds: SecondsSpent, perplexity: float | None) -> Metrics:
    trainable = sum(weight.numel() for weight in method.parameters() if weight.requires_grad)
    return Metrics(columns=results, seconds=seconds, machine=machine_facts(),
                   dataset=DatasetUsed(samples.name, experiment.split, experiment.part, samples.manifest_sha256),
                   model=ModelUsed(model.model_name, model.step, trainable, model.seed), perplexity=perplexity)
