"""torch.compile in training: what it translates, and that nothing else changes.

Its graphs are run as they are here: the code that its own backend makes of them takes minutes, and is torch's business.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.distributed as dist
from test_classifier_training import copied, fresh_classifier, task_of
from tiny_training import DATA, SHAPE, SPEC, fresh_network, leaves
from torch import Tensor
from torch.fx import GraphModule

from matchnet.encoders.conv4 import Conv4Spec
from matchnet.encoders.inception import InceptionSpec
from matchnet.episodic_training import EpisodicTask
from matchnet.methods import ClassifierSpec, LabelledBatch, Method, build_method
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.training import Callbacks, Task, train
from pipeline.training.computing import compiler_named, ready_to_train

CPU = torch.device("cpu")
AVERAGED = replace(SPEC, ema_decay=0.9)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[GraphModule]]:
    """What is compiled."""
    made: list[GraphModule] = []

    def as_it_is(graph: GraphModule, _: list[Tensor]) -> Callable[..., Any]:
        made.append(graph)
        return graph.forward

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=as_it_is))
    yield made
    torch.compiler.reset()


def small_network() -> Method:
    torch.manual_seed(0)
    return build_method(MatchingNetworkSpec(encoder=Conv4Spec(num_filters=4, num_blocks=2)), SHAPE, num_classes=5)


def result_of(method: Method, task: Task, compiled: bool, world_size: int = 1) -> dict[str, Any]:
    """All that a run validates and saves, by name."""
    reports: list[dict[str, Any]] = []
    states: list[dict[str, Any]] = []
    train(ready_to_train(method, compiled, CPU, world_size), task,
          Callbacks(report=reports.append, save=lambda state: states.append(copied(state))))
    return leaves({"reports": reports, "states": states})


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) if isinstance(value, Tensor) else value == other[name]
        for name, value in one.items())


@pytest.mark.parametrize("make", [small_network, fresh_network])
def test_a_compiled_run_validates_averages_and_saves_as_any(make: Callable[[], Method],
                                                            graphs: list[GraphModule]) -> None:
    """And what is saved goes on uncompiled, since its names are the same."""
    plain = result_of(make(), EpisodicTask(DATA, AVERAGED), compiled=False)
    assert graphs == []
    assert same(result_of(make(), EpisodicTask(DATA, AVERAGED), compiled=True), plain) and graphs


def test_a_classifier_on_a_stream_is_compiled(graphs: list[GraphModule]) -> None:
    plain, compiled = (result_of(fresh_classifier(), task_of(), compiled) for compiled in (False, True))
    assert same(plain, compiled) and len(graphs) == 1


def test_the_auxiliary_head_is_compiled_with_the_classifier(graphs: list[GraphModule]) -> None:
    method = build_method(ClassifierSpec(encoder=InceptionSpec(width=0.05)), (3, 75, 75), 5)
    result = ready_to_train(method, True, CPU, 1).train()(LabelledBatch(torch.rand(2, 3, 75, 75), torch.arange(2)))
    result["loss"].backward()
    assert len(graphs) == 1  # nothing is left between the parts of it
    inputs = [node.name for node in graphs[0].graph.nodes if node.op == "placeholder"]
    assert any("auxiliary" in name for name in inputs) and any("softmax" in name for name in inputs)


def test_workers_train_what_is_compiled(graphs: list[GraphModule]) -> None:
    """DDP itself, of one worker."""
    plain = result_of(small_network(), EpisodicTask(DATA, SPEC), compiled=False)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        method = ready_to_train(small_network(), True, CPU, world_size=2)
        states: list[dict[str, Any]] = []
        train(method, EpisodicTask(DATA, SPEC), Callbacks(save=states.append))
    finally:
        dist.destroy_process_group()
    assert graphs
    end = leaves(states[-1]["model"])
    assert all(torch.equal(value, plain[f"/states/2/model{name}"]) for name, value in end.items())


def test_what_cannot_be_compiled_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: GraphModule, _: list[Tensor]) -> Callable[..., Any]:
        raise RuntimeError("no working C++ compiler")

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=broken))
    with pytest.raises(ValueError, match=r"^compute.compile is true, and torch.compile fails here: .*RuntimeError: no "
                       r"working C\+\+ compiler; install what is missing, or write false$"), compiler_named():
        result_of(small_network(), EpisodicTask(DATA, SPEC), compiled=True)


def test_a_gpu_tries_its_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    ready_to_train(small_network(), False, CPU, 1)
    assert not torch.backends.cudnn.benchmark
    ready_to_train(small_network(), False, torch.device("cuda"), 1)
    assert torch.backends.cudnn.benchmark
