"""Steps in parts, averaged weights, SGD, batches made ahead: each does what it says, and resumes bit for bit."""

import math
import threading
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tiny_training import DATA, NETWORK, SPEC, LinearMethod, fresh_network, leaves, load, run, states_of
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from matchnet.ahead import ahead
from matchnet.averaging import Average
from matchnet.episodes import EpisodeSpec
from matchnet.episodic_training import EpisodicTask
from matchnet.evaluation import EpisodeStream, evaluate
from matchnet.methods import Batch
from matchnet.methods.mann import Mann, MannSpec
from matchnet.store import MemoryStore
from matchnet.text_training import TextSpec
from matchnet.training import build_optimizer, train
from pipeline.data.load.from_shards import ShardStore
from pipeline.data.load.samples import Room
from pipeline.data.shards.folder import ShardFolder
from pipeline.params import ModelParams
from pipeline.training.data import SHARES_AHEAD, load_task, near

# ---- parts of a step ----


@pytest.mark.parametrize("episodes, world_size, accumulate", [(4, 1, 4), (5, 1, 2), (8, 2, 2), (7, 3, 2)])
def test_parts_add_up_to_the_gradient_of_the_whole_step(episodes: int, world_size: int, accumulate: int) -> None:
    """DDP's part is played here by a mean; a part may have an episode more than another."""
    spec = replace(SPEC, steps=1, warmup_steps=0, episodes_per_step=episodes, gradient_clip=None)
    alone = LinearMethod()
    run(alone, spec)
    workers = [LinearMethod() for _ in range(world_size)]
    for rank, method in enumerate(workers):
        run(method, replace(spec, accumulate=accumulate), rank=rank, world_size=world_size)
    mean = torch.stack([torch.stack(method.gradients).sum(0) for method in workers]).mean(0)
    assert all(len(method.gradients) == accumulate for method in workers)
    torch.testing.assert_close(mean, alone.gradients[0])


def test_parts_are_the_shares_of_as_many_workers() -> None:
    spec = replace(SPEC, steps=4, episodes_per_step=6)
    workers, parts = [LinearMethod() for _ in range(4)], [LinearMethod() for _ in range(2)]
    for rank, method in enumerate(workers):
        run(method, spec, rank=rank, world_size=4)
    for rank, method in enumerate(parts):
        run(method, replace(spec, accumulate=2), rank=rank, world_size=2)
    for step in range(2):
        for share in range(4):
            part = parts[share // 2].batches[2 * step + share % 2]
            assert torch.equal(part.query_EQ, workers[share].batches[step].query_EQ)


def test_the_log_of_a_run_in_parts_has_its_means_and_speeds() -> None:
    whole: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    spec = replace(SPEC, steps=3, warmup_steps=0, episodes_per_step=4, learning_rate=1e-9)
    run(LinearMethod(), spec, log=whole.append)
    run(LinearMethod(), replace(spec, accumulate=2), log=parts.append)
    assert parts[0]["loss"] == pytest.approx(whole[0]["loss"], rel=1e-4)
    assert parts[0]["accuracy"] == pytest.approx(whole[0]["accuracy"])
    assert parts[0]["episodes_per_second"] == pytest.approx(4 * parts[0]["steps_per_second"])


def test_a_step_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(ValueError, match=r"6 parts \(workers times accumulate\) share episodes_per_step = 5: some"):
        run(LinearMethod(), replace(SPEC, episodes_per_step=5, accumulate=3), world_size=2)
    with pytest.raises(ValueError, match="accumulate is 2; the parts of a text follow one another: write 1"):
        TextSpec(steps=5, accumulate=2)


def test_workers_exchange_their_gradients_once_a_step() -> None:
    """DDP itself, of one worker; a hook sees what would go to the others: the sum over the parts."""
    method = LinearMethod()
    sent: list[Tensor] = []

    def exchange(state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        sent.append(bucket.buffer().clone())
        future: torch.futures.Future[Tensor] = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model = DistributedDataParallel(method)
        model.register_comm_hook(None, exchange)
        spec = replace(SPEC, steps=4, episodes_per_step=6, accumulate=3, gradient_clip=None)
        train(model, EpisodicTask(DATA, spec))
    finally:
        dist.destroy_process_group()
    assert len(sent) == 4 and len(method.gradients) == 12
    for step, buffer in enumerate(sent):
        expected = torch.stack(method.gradients[3 * step:3 * step + 3]).sum(0)
        torch.testing.assert_close(buffer, expected.flatten())


# ---- averaged weights ----


def test_the_average_is_what_its_formula_says() -> None:
    """Against the sum over all steps written out; the decay is held back in the first of them."""
    torch.manual_seed(0)
    method = LinearMethod()
    weight_t = [method.linear.weight.detach().clone(), *torch.randn(40, 6, 64)]
    average = Average(method, decay=0.7)
    decay_t = [min(0.7, (1 + step) / (10 + step)) for step in range(40)]
    for step in range(40):
        with torch.no_grad():
            method.linear.weight.copy_(weight_t[step + 1])
        average.update(method, step)
    share_t = [math.prod(decay_t), *((1 - decay_t[t]) * math.prod(decay_t[t + 1:]) for t in range(40))]
    assert sum(share_t) == pytest.approx(1)
    expected = sum(share * weight for share, weight in zip(share_t, weight_t, strict=True))
    torch.testing.assert_close(average.method.state_dict()["linear.weight"], expected)


def test_statistics_are_averaged_and_counts_copied() -> None:
    method = fresh_network()
    average = Average(method, decay=0.0)
    run(method, SPEC)
    average.update(method, 0)
    means = average.method.state_dict()
    counts = [name for name in means if name.endswith("num_batches_tracked")]
    assert counts and all(torch.equal(means[name], method.state_dict()[name]) for name in means)


def test_an_average_validates_is_kept_and_leaves_training_as_it_was() -> None:
    plain, averaged = fresh_network(), fresh_network()
    states: list[dict[str, Any]] = []
    reports: list[dict[str, Any]] = []
    run(plain, SPEC)
    run(averaged, replace(SPEC, ema_decay=0.9), save=states.append, report=reports.append)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, averaged.state_dict()[name]) and torch.equal(value, states[-1]["trained"][name])
    kept = fresh_network(1)
    kept.load_state_dict(states[-1]["model"])
    assert any(not torch.equal(value, plain.state_dict()[name]) for name, value in kept.state_dict().items())
    assert DATA.valid_classes is not None
    stream = EpisodeStream(DATA.valid_classes, SPEC.valid_episode, seed=SPEC.seed + 1_000_003)
    accuracy_E = evaluate(kept, DATA.store, stream, 4)
    assert reports[-1]["valid_accuracy"] == pytest.approx(accuracy_E.mean())


@pytest.mark.parametrize("change", [{"ema_decay": 0.9}, {"optimizer": "sgd"}, {"accumulate": 2},
                                    {"ema_decay": 0.5, "optimizer": "sgd", "accumulate": 2}])
def test_such_a_run_resumes_with_the_same_bits(change: dict[str, Any]) -> None:
    spec = replace(SPEC, **change)
    files = states_of(fresh_network(), spec)
    for step in (4, 8):
        end = leaves(load(states_of(fresh_network(99), spec, state=load(files[step]))[12]))
        expected = leaves(load(files[12]))
        assert end.keys() == expected.keys() and any("trained" in name for name in end) == ("ema_decay" in change)
        for name, value in expected.items():
            assert torch.equal(value, end[name]) if isinstance(value, Tensor) else value == end[name], name


# ---- SGD ----


def test_sgd_moves_by_nesterovs_momentum() -> None:
    """v <- 0.9 v + g, w <- w - rate (g + 0.9 v), with g the gradient and the decay in it."""
    spec = replace(SPEC, steps=3, optimizer="sgd", schedule="constant", warmup_steps=0, learning_rate=0.1,
                   weight_decay=0.2, gradient_clip=None)
    method = LinearMethod()
    weight, velocity = method.linear.weight.detach().clone(), torch.zeros(6, 64)
    run(method, spec)
    for gradient in method.gradients:
        decayed = gradient + 0.2 * weight
        velocity = 0.9 * velocity + decayed
        weight = weight - 0.1 * (decayed + 0.9 * velocity)
    torch.testing.assert_close(method.linear.weight.detach(), weight)


def test_vectors_are_not_decayed() -> None:
    method = Mann(MannSpec(num_ways=2, num_slots=4, num_heads=2), (1, 28, 28))
    decayed, kept = build_optimizer(method, replace(SPEC, weight_decay=0.1), "cpu").param_groups
    names = {id(weight): name for name, weight in method.named_parameters()}
    assert decayed["weight_decay"] == 0.1 and kept["weight_decay"] == 0.0
    assert {names[id(weight)] for weight in kept["params"]} == {
        "memory.log_strength_H1", *(name for name, weight in method.named_parameters() if weight.ndim == 1)}


@pytest.mark.parametrize("change, message", [
    ({"accumulate": 0}, "accumulate is 0; it must be at least 1"),
    ({"ema_decay": 1.0}, "ema_decay is 1.0; it must be at least 0 and below 1, or null"),
    ({"ema_decay": math.nan}, "ema_decay is nan; it must be at least 0"),
])
def test_spec_is_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SPEC, **change)


# ---- batches made ahead ----


class Ahead(EpisodicTask):
    prefetch = 3


def threads() -> set[int | None]:
    return {thread.ident for thread in threading.enumerate()}


def test_batches_made_ahead_train_to_the_same_bits_and_the_thread_ends() -> None:
    before = threads()
    plain, fast = fresh_network(), fresh_network()
    run(plain, SPEC)
    train(fast, Ahead(DATA, SPEC))
    for name, value in plain.state_dict().items():
        assert torch.equal(value, fast.state_dict()[name]), name
    assert threads() <= before


def test_episodes_on_shards_are_made_ahead_and_train_to_the_same_bits(small_shards: Path) -> None:
    training = replace(SPEC, steps=8, valid_episode=EpisodeSpec(2, 1, 2))
    model = ModelParams(dataset="small", split="random", image_size=8, method=NETWORK, training=training)
    methods = [fresh_network(), fresh_network()]
    for method, memory_bytes, prefetch in zip(methods, (2**30, 0), (0, SHARES_AHEAD), strict=True):
        task = load_task(model, ShardFolder(small_shards), Room(memory_bytes, num_processes=1))
        assert isinstance(task, EpisodicTask) and task.prefetch == prefetch
        train(method, task)
        for store in (task.data.store, task.data.valid_store):
            if isinstance(store, ShardStore):
                store.close()
    for name, value in methods[0].state_dict().items():
        assert torch.equal(value, methods[1].state_dict()[name]), name


@pytest.mark.parametrize(("device", "prefetch"), [("cpu", 0), ("cuda", SHARES_AHEAD)])
def test_episodes_in_memory_are_made_ahead_for_a_gpu(device: str, prefetch: int, small_shards: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 10**9))  # so the images stay where they are
    training = replace(SPEC, valid_episode=EpisodeSpec(2, 1, 2))
    model = ModelParams(dataset="small", split="random", image_size=8, method=NETWORK, training=training)
    assert load_task(model, ShardFolder(small_shards), Room(2**30), torch.device(device)).prefetch == prefetch


def test_an_error_in_a_batch_comes_at_its_step() -> None:
    class Breaking(Ahead):
        def batches(self, steps: range, *place: Any) -> Generator[tuple[Batch, float]]:
            for step, batch in zip(steps, super().batches(steps, *place), strict=True):
                if step == 5:
                    raise ValueError("sample 17 is damaged")
                yield batch

    before = threads()
    method = LinearMethod()
    with pytest.raises(ValueError, match="sample 17 is damaged"):
        train(method, Breaking(DATA, SPEC))
    assert len(method.batches) == 5 and threads() <= before


def test_images_in_memory_are_near_the_gpu_if_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    store, gpu, moved = MemoryStore(torch.zeros(10, 1, 10, 10, dtype=torch.uint8)), torch.device("cuda", 1), []
    monkeypatch.setattr(MemoryStore, "to", lambda store, device: moved.append(device) or store)
    for free, expected in ((3999, []), (4000, [gpu])):  # the store has 1000 bytes
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10**9))
        assert near(store, gpu) is store and moved == expected


def counting(made: list[int], last: int = 100) -> Generator[int]:
    for number in range(last):
        made.append(number)
        yield number


@pytest.mark.parametrize("count", [0, 1, 3])
def test_ahead_gives_all_in_order_and_ends(count: int) -> None:
    assert list(ahead(counting([]), count)) == list(range(100))


def test_ahead_makes_so_many_and_no_more() -> None:
    made: list[int] = []
    items = ahead(counting(made), 3)
    for taken in range(5):
        assert next(items) == taken
        end = time.monotonic() + 5
        while len(made) < taken + 4 and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(0.01)
        assert len(made) == taken + 4  # this one, and three for later
    items.close()
    assert len(made) <= 9
