"""What the benchmark of Ray's and DVC's cost makes of its measurements; it is run by hand."""

import os
from pathlib import Path

import torch

from benchmarks.overhead import Cost, Tree, command_cost, import_cost, middle, phases, rows_of, tiny_problem
from matchnet.methods import build_method
from matchnet.training import Callbacks, train
from pipeline.data.shards.folder import ShardFolder
from pipeline.training.data import load_task, training_classes


def test_phases_are_what_lies_between_the_moments() -> None:
    moments = [("", 100.0, 1.0, 1), ("imports", 103.0, 3.5, 1), ("", 104.0, 4.0, 1), ("ray.init", 110.0, 6.0, 5),
               ("fit", 130.0, 26.0, 12)]
    found = phases(moments, began=118.0, step_seconds=[2.0, 2.5, 7.0])
    assert found == {"imports": Cost(3.0, 2.5, 0), "ray.init": Cost(6.0, 2.0, 4), "fit": Cost(20.0, 20.0, 7),
                     "fit: to the worker's first line": Cost(8.0, 0.0), "fit: its data and model, first step":
                     Cost(2.0, 0.0), "fit: the other steps": Cost(5.0, 0.0), "fit: last step to end": Cost(5.0, 0.0)}
    parts = sum(cost.seconds for name, cost in found.items() if name.startswith("fit: "))
    assert parts == found["fit"].seconds


def test_each_figure_is_a_median_of_its_own() -> None:
    rounds = [Cost(1.0, 9.0, 2), Cost(2.0, 8.0, 2), Cost(9.0, 1.0, 3)]
    assert middle(rounds) == Cost(2.0, 8.0, 2)
    assert rows_of([{"a": cost} for cost in rounds]) == [["a", 2.0, 8.0, 2]]
    assert rows_of([{"a": Cost(1.0, 0.0)}]) == [["a", 1.0, "–", "–"]]


def test_cpu_seconds_are_those_of_processes_that_have_ended_too() -> None:
    """Half a second of work in a child; what was known of it stays."""
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    assert 0.4 < command_cost(["python", "-c", burn]).cpu_seconds < 5
    tree = Tree()
    cpu, processes = tree.look()
    assert processes >= 1 and cpu > sum(os.times()[:2]) - 0.5  # more, where other tests have left a Ray running
    tree.seen[-1, 0.0] = 1000.0
    assert tree.look()[0] > 1000.0


def test_an_import_is_measured_without_what_comes_before_it() -> None:
    spent = import_cost("import time\ntime.sleep(0.3)\n---\ntime.sleep(0.01)")
    assert 0.01 <= spent.seconds and spent.cpu_seconds < 0.2


def test_the_tiny_problem_can_be_trained(tmp_path: Path) -> None:
    model = tiny_problem(tmp_path / "shards", steps=2)
    assert model.training is not None
    classes = training_classes(model, ShardFolder(tmp_path / "shards"))
    torch.manual_seed(0)
    method = build_method(model.method, classes.sample_shape, len(classes.names))
    lines: list[dict] = []
    task = load_task(model, ShardFolder(tmp_path / "shards"))
    train(method, task, Callbacks(report=lines.append, log=lines.append))
    assert [line["step"] for line in lines] == [1, 2]
