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
from matchnet.statistics import mean_and_interval
from matchnet.store import MemoryStore
from pipeline.data.loading import Dataset, load_split
from pipeline.files import atomic_write
from pipeline.params import ExperimentParams
from pipeline.results.episode_grid import EpisodePicture
from pipeline.results.metrics import ColumnResult, DatasetUsed, Metrics, ModelUsed, SecondsSpent, machine_facts
from pipeline.training.model_file import ModelFile

PICTURED = 100  # episodes of the first column that pictures are chosen from


@dataclass(frozen=True)
class Measured:
    """accuracy_E by column: the share of right queries of each episode."""

    accuracies: Mapping[str, np.ndarray]
    pictures: list[EpisodePicture]
    metrics: Metrics


def run_experiment(experiment: ExperimentParams, columns: Mapping[str, EpisodeSpec], model: ModelFile, method: Method,
                   shards: Path) -> Measured:
    """Embed the classes of the part once, then run every column's episodes on the embeddings."""
    started = time.monotonic()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dataset = load_split(shards, experiment.split, model.sample_shape[-1], (experiment.part,))
    store = MemoryStore(dataset.samples_RCHW)
    classes = ClassRows.from_class_ids(dataset.class_id_R, dataset.parts[experiment.part].tolist())
    method = (FineTuned(method, experiment.adaptation) if experiment.adaptation else method).to(device)
    features = embed_all(method, store, classes, device)
    accuracies = {column: episode_accuracies(method, features, classes, columns[column],
                                             experiment.episodes, experiment.seed)
                  for column in experiment.columns}
    pictures = _pictures(method, store, features, classes, columns[experiment.columns[0]], experiment.seed)
    seconds = SecondsSpent(train=model.seconds, evaluate=round(time.monotonic() - started, 1))
    return Measured(accuracies, pictures, _metrics(experiment, columns, accuracies, dataset, model, method, seconds))


def write_accuracies(path: Path, accuracies: Mapping[str, np.ndarray]) -> None:
    """One row an episode, one column a task: for comparing two models episode by episode."""
    with atomic_write(path, "wb") as file:
        pq.write_table(pa.table(dict(accuracies)), file)


def _pictures(method: Method, store: MemoryStore, features: MemoryStore, classes: ClassRows, spec: EpisodeSpec,
              seed: int) -> list[EpisodePicture]:
    pictures = []
    for episodes, log_probs_EQN in run_episodes(method, features, classes, spec, PICTURED, seed):
        pictures += [EpisodePicture(store.gather(episodes.support_ES[e]), episodes.support_way_ES[e],
                                    store.gather(episodes.query_EQ[e]), episodes.query_way_EQ[e],
                                    log_probs_EQN[e].cpu())
                     for e in range(len(episodes))]
    return pictures


def _metrics(experiment: ExperimentParams, columns: Mapping[str, EpisodeSpec], accuracies: Mapping[str, np.ndarray],
             dataset: Dataset, model: ModelFile, method: Method, seconds: SecondsSpent) -> Metrics:
    results = {column: ColumnResult.from_fractions(*mean_and_interval(accuracy_E), len(accuracy_E),
                                                   columns[column].num_queries, experiment.paper.get(column))
               for column, accuracy_E in accuracies.items()}
    trainable = sum(weight.numel() for weight in method.parameters() if weight.requires_grad)
    return Metrics(columns=results, seconds=seconds, machine=machine_facts(),
                   dataset=DatasetUsed(dataset.name, experiment.split, experiment.part, dataset.manifest_sha256),
                   model=ModelUsed(model.model_name, model.step, trainable, model.seed))
