"""The language task on nltk's free tenth of the Penn Treebank: the table's parameters, fewer steps."""

from dataclasses import replace
from pathlib import Path

import torch
from places import ROOT
from small_omniglot import mirror

from matchnet.methods import build_method
from matchnet.model_file import ModelFile
from matchnet.training import train
from pipeline.data.raw.download import download_dataset
from pipeline.data.shards.folder import ShardFolder
from pipeline.data.shards.make import shard_dataset
from pipeline.evaluate.row import evaluate_row
from pipeline.params import read_params
from pipeline.training.data import load_task, training_classes

CHANCE = 20.0


def test_from_the_archive_to_better_than_chance(tmp_path: Path) -> None:
    """31% with the table's 1,000 steps of 4 episodes; 150 are far from chance."""
    params = read_params("ptb_sample", ROOT)
    row = replace(params.rows["ptb_sample/bag-of-words"], episodes=400)
    model = params.models[row.model]
    assert model.training is not None
    training = replace(model.training, steps=150, log_every=150, checkpoint_every=150, valid_every=150)
    raw, shards = tmp_path / "raw", tmp_path / "shards"
    download_dataset("ptb_sample", params.datasets["ptb_sample"], raw, str(mirror()))
    shard_dataset("ptb_sample", params.datasets["ptb_sample"], raw, shards)

    folder = ShardFolder(shards)
    task, classes = load_task(replace(model, training=training), folder), training_classes(model, folder)
    torch.manual_seed(0)
    method = build_method(model.method, classes.sample_shape, len(classes.names))
    train(method, task)
    trained = ModelFile(model_name=row.model, method=model.method, sample_shape=classes.sample_shape,
                        num_classes=len(classes.names), state_dict=method.state_dict(), step=training.steps, seed=0,
                        dataset_sha256=folder.sha256, split="words", train_classes=classes.names, seconds=0.0)

    columns = evaluate_row(row, trained, method, ShardFolder(shards)).details.columns
    for column in row.columns:
        assert columns[column].accuracy - columns[column].ci95 > CHANCE + 2
