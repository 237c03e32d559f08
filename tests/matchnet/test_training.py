"""The training loop: it learns, resumes bit for bit, shares episodes among workers, and says what it does."""

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_training import (
    DATA,
    SHAPE,
    SPEC,
    LinearMethod,
    fresh_network,
    leaves,
    load,
    run,
    states_of,
)
from torch import Tensor, nn

from matchnet import episodic_training
from matchnet.augmentation import AffineSpec
from matchnet.chunks import ChunkSpec
from matchnet.episodes import EpisodeSpec, sample_episodes
from matchnet.episodic_training import VALID_SEED_OFFSET, EpisodicTask, make_batches
from matchnet.evaluation import EpisodeStream, evaluate
from matchnet.methods import Batch, MatchingNetwork
from matchnet.statistics import mean_and_interval
from matchnet.store import MemoryStore
from matchnet.training import SEEDS_AT_ONCE, build_optimizer, learning_rate, noise_seeds, seed_noise

# ---- what is made for many steps at once ----

def test_the_noise_of_a_share_depends_on_its_step_and_rank_alone() -> None:
    """Also where a run goes on in the middle of the seeds that are made at once."""
    seeds = list(noise_seeds(7, range(600), range(2), 2))
    assert len(set(seeds)) == 1200
    for step in (0, 1, SEEDS_AT_ONCE - 1, SEEDS_AT_ONCE, SEEDS_AT_ONCE + 1, 599):
        assert list(noise_seeds(7, range(step, 600), range(2), 2)) == seeds[2 * step:]
        assert list(noise_seeds(7, range(step, step + 1), range(1, 2), 2)) == seeds[2 * step + 1:2 * step + 2]


def test_the_noise_is_that_of_torch_manual_seed() -> None:
    seed_noise(2**64 - 3, "cpu")
    found = torch.rand(5)
    torch.manual_seed(2**64 - 3)
    assert torch.equal(found, torch.rand(5))


@pytest.mark.parametrize("rows", [1, 50, 4096])
def test_batches_are_the_same_however_many_are_drawn_at_once(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episodic_training, "ROWS_DRAWN_AT_ONCE", rows)
    numbers_each = [[0, 2], [1], [5, 4, 3], [9]]
    batches = list(make_batches(DATA.store, DATA.classes, SPEC, numbers_each, "cpu"))
    assert [len(batch.class_EN) for batch in batches] == [2, 1, 3, 1]
    for numbers, batch in zip(numbers_each, batches, strict=True):
        for e, number in enumerate(numbers):
            alone = next(make_batches(DATA.store, DATA.classes, SPEC, [[number]], "cpu"))
            for name in ("support_ES", "support_way_ES", "query_EQ", "query_way_EQ", "class_EN"):
                assert torch.equal(getattr(batch, name)[e], getattr(alone, name)[0])


# ---- it learns ----

def test_loss_falls_and_accuracy_rises_on_an_easy_problem() -> None:
    lines: list[dict[str, Any]] = []
    reports: list[dict[str, Any]] = []
    spec = replace(SPEC, steps=60, affine=None, log_every=10, valid_every=60, valid_episodes=50)
    run(fresh_network(), spec, log=lines.append, report=reports.append)
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert lines[-1]["accuracy"] > 0.9
    assert reports[-1]["valid_accuracy"] > 0.7  # classes that it never trained on; chance is 0.33


# ---- it resumes ----

@pytest.mark.parametrize("episodes_per_step", [1, 2])
def test_a_run_resumed_from_any_checkpoint_ends_with_the_same_bits(episodes_per_step: int) -> None:
    spec = replace(SPEC, episodes_per_step=episodes_per_step)
    method = fresh_network()
    files = states_of(method, spec)
    assert list(files) == [4, 8, 12]
    for step in (4, 8):
        again = fresh_network(seed=99)  # other weights, which the state must replace
        torch.rand(step)  # and another place in torch's own stream, which nothing may depend on
        end = leaves(load(states_of(again, spec, state=load(files[step]))[12]))
        expected = leaves(load(files[12]))
        assert end.keys() == expected.keys() and len(end) > 50
        for name, value in expected.items():
            same = torch.equal(value, end[name]) if isinstance(value, Tensor) else value == end[name]
            assert same, f"{name} differs after resuming at step {step}"
        for name, value in method.state_dict().items():
            assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.parametrize(("change", "reason"), [
    ({"optimizer": {}}, r"KeyError: 'param_groups'"),
    ({"optimizer": {"state": {}, "param_groups": []}}, "ValueError: "),
    ({"optimizer": {"state": {}, "param_groups": [7, 8]}}, "TypeError: "),
    ({"optimizer": None}, "AttributeError: "), ({"step": "eight"}, "ValueError: invalid literal")])
def test_a_state_that_is_none_of_this_training_is_refused(change: dict[str, Any], reason: str) -> None:
    state = load(states_of(fresh_network(), SPEC)[8]) | change
    message = rf"^the checkpoint of step (8|'eight') is no state of this training \({reason}.*\); delete it and run the"
    with pytest.raises(ValueError, match=message):
        run(fresh_network(), SPEC, state=state)


def test_a_run_resumed_at_its_end_does_nothing() -> None:
    file = states_of(fresh_network(), SPEC)[12]
    calls: list[dict[str, Any]] = []
    run(fresh_network(1), SPEC, state=load(file), report=calls.append, save=calls.append, log=calls.append)
    assert calls == []


def test_validating_saving_and_logging_leave_no_trace_in_the_weights() -> None:
    busy, quiet = fresh_network(), fresh_network()
    run(busy, replace(SPEC, valid_every=1, checkpoint_every=1, log_every=1))
    run(quiet, replace(SPEC, checkpoint_every=100, log_every=100), replace(DATA, valid_classes=None))
    for name, value in quiet.state_dict().items():
        assert torch.equal(value, busy.state_dict()[name]), name


# ---- workers ----

@pytest.mark.parametrize("episodes_per_step, world_size", [(2, 2), (3, 2), (5, 3)])
def test_workers_share_the_steps_episodes_and_average_to_one_workers_gradient(
        episodes_per_step: int, world_size: int) -> None:
    """DDP's part is played here by a mean; a share may have an episode more than another."""
    spec = replace(SPEC, steps=1, warmup_steps=0, episodes_per_step=episodes_per_step, gradient_clip=None)
    alone = LinearMethod()
    run(alone, spec)
    workers = [LinearMethod() for _ in range(world_size)]
    for rank, method in enumerate(workers):
        run(method, spec, rank=rank, world_size=world_size)
    mean = torch.stack([method.gradients[0] for method in workers]).mean(0)
    torch.testing.assert_close(mean, alone.gradients[0])
    shares = [method.batches[0].query_EQ for method in workers]
    dealt = torch.stack([shares[e % world_size][e // world_size] for e in range(episodes_per_step)])
    assert torch.equal(dealt, alone.batches[0].query_EQ)


def test_steps_train_on_consecutive_episodes() -> None:
    method = LinearMethod()
    run(method, replace(SPEC, affine=None))
    expected = sample_episodes(SPEC.seed, range(24), SPEC.episode, DATA.classes)
    assert torch.equal(torch.cat([b.support_ES for b in method.batches]) * 255,
                       DATA.store.gather(expected.support_ES).float())
    assert torch.equal(torch.cat([b.query_EQ for b in method.batches]) * 255,
                       DATA.store.gather(expected.query_EQ).float())
    assert torch.equal(torch.cat([b.support_way_ES for b in method.batches]), expected.support_way_ES)
    assert torch.equal(torch.cat([b.query_way_EQ for b in method.batches]), expected.query_way_EQ)
    assert torch.equal(torch.cat([b.class_EN for b in method.batches]), expected.class_EN)


def test_batches_are_distorted_by_episode_number() -> None:
    together = next(make_batches(DATA.store, DATA.classes, SPEC, [[4, 5]], "cpu"))
    alone = next(make_batches(DATA.store, DATA.classes, SPEC, [[5]], "cpu"))
    plain = next(make_batches(DATA.store, DATA.classes, replace(SPEC, affine=None), [[5]], "cpu"))
    assert torch.equal(together.query_EQ[1:], alone.query_EQ)
    assert torch.equal(together.support_ES[1:], alone.support_ES)
    assert not torch.allclose(plain.query_EQ, alone.query_EQ, atol=0.05)


def test_a_worker_without_an_episode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"3 workers share episodes_per_step = 2: .* nothing to do"):
        run(LinearMethod(), SPEC, world_size=3)


# ---- what it says, and when ----

def test_each_update_is_told() -> None:
    method = LinearMethod()
    seen: list[int] = []
    run(method, SPEC, step_done=lambda: seen.append(len(method.batches)))
    assert seen == list(range(1, 13))


def test_callbacks_come_at_their_steps_and_at_the_end() -> None:
    calls: list[tuple[str, int]] = []
    run(LinearMethod(), replace(SPEC, steps=11),
        report=lambda values: calls.append(("report", values["step"])),
        save=lambda values: calls.append(("save", values["step"])),
        log=lambda values: calls.append(("log", values["step"])))
    assert calls == [("log", 3), ("save", 4), ("report", 5), ("log", 6), ("save", 8), ("log", 9),
                     ("report", 10), ("log", 11), ("report", 11), ("save", 11)]


def test_every_rank_reports_saves_and_logs() -> None:
    calls: list[str] = []
    run(LinearMethod(), SPEC, rank=1, world_size=2, report=lambda _: calls.append("report"),
        save=lambda _: calls.append("save"), log=lambda _: calls.append("log"))
    assert calls.count("report") == calls.count("save") == 3 and calls.count("log") == 4


def test_without_validation_classes_nothing_is_reported() -> None:
    reports: list[dict[str, Any]] = []
    run(LinearMethod(), SPEC, replace(DATA, valid_classes=None), report=reports.append)
    assert reports == []


class LossOfStep(LinearMethod):
    """Its loss at the n-th step is n: so a mean tells which steps are in it."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        result = super().forward(batch)
        n = float(len(self.batches))
        return {"loss": result["loss"] - result["loss"].detach() + n, "accuracy": torch.tensor(n / 100)}


def test_log_holds_the_means_of_all_steps_since_the_last_line_and_the_rate() -> None:
    lines: list[dict[str, Any]] = []
    run(LossOfStep(), replace(SPEC, steps=10), log=lines.append)  # validates at 5, saves at 4 and 8
    assert [line["loss"] for line in lines] == pytest.approx([2, 5, 8, 10])
    assert [line["accuracy"] for line in lines] == pytest.approx([0.02, 0.05, 0.08, 0.10])
    assert [line["learning_rate"] for line in lines] == [
        learning_rate(replace(SPEC, steps=10), line["step"] - 1) for line in lines]
    for line in lines:
        assert line["episodes_per_second"] == pytest.approx(2 * line["steps_per_second"])
        assert line["images_per_second"] == pytest.approx(9 * line["episodes_per_second"])
        assert 0 < line["data_wait_share"] < 1


@pytest.mark.parametrize("accumulate", [1, 2])
def test_speeds_count_the_episodes_of_all_workers_once_and_those_of_each(accumulate: int) -> None:
    """Five episodes a step: three of rank 0, two of rank 1."""
    spec = replace(SPEC, episodes_per_step=5, accumulate=accumulate)
    for rank, own in enumerate((3, 2)):
        lines: list[dict[str, Any]] = []
        run(LinearMethod(), spec, rank=rank, world_size=2, log=lines.append)
        for line in lines:
            assert line["episodes_per_second"] == pytest.approx(5 * line["steps_per_second"])
            assert line["images_per_second"] == pytest.approx(5 * 9 * line["steps_per_second"])
            assert line["worker_episodes_per_second"] == pytest.approx(own * line["steps_per_second"])
            assert line["worker_images_per_second"] == pytest.approx(9 * line["worker_episodes_per_second"])


def test_sentences_are_not_called_images() -> None:
    store = MemoryStore(torch.arange(48 * 7).reshape(48, 7))
    task = EpisodicTask(replace(DATA, store=store), SPEC)
    assert task.units == {"episodes": 2, "sentences": 18}


def test_time_of_validation_saving_and_profiling_is_not_the_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that a callback moves on by an hour, the speeds are as if it had not."""
    clock = [0.0]

    def tick() -> float:
        clock[0] += 1.0
        return clock[0]

    def take_an_hour(_: dict[str, Any] | None = None) -> None:
        clock[0] += 3600

    monkeypatch.setattr("matchnet.training.time.perf_counter", tick)
    lines: list[dict[str, Any]] = []
    run(LinearMethod(), SPEC, report=take_an_hour, save=take_an_hour, step_done=take_an_hour, log=lines.append)
    assert min(line["steps_per_second"] for line in lines) > 0.1


def test_validation_is_an_evaluation_on_episodes_apart_from_trainings() -> None:
    reports: list[dict[str, Any]] = []
    method = fresh_network()
    run(method, SPEC, report=reports.append)
    assert DATA.valid_classes is not None
    stream = EpisodeStream(DATA.valid_classes, SPEC.valid_episode, seed=VALID_SEED_OFFSET)
    accuracy_E = evaluate(method, DATA.store, stream, 4)
    mean, ci95 = mean_and_interval(accuracy_E)
    assert reports[-1] == {"step": 12, "valid_accuracy": mean, "valid_ci95": ci95, "valid_episodes": 4}
    assert VALID_SEED_OFFSET > 0


def test_validation_may_have_a_store_of_its_own() -> None:
    """Rotated classes train, upright ones validate: here the latter's images are alike, so chance is best."""
    black = MemoryStore(torch.zeros(len(DATA.store), *SHAPE, dtype=torch.uint8))
    reports: list[dict[str, Any]] = []
    run(fresh_network(), SPEC, replace(DATA, valid_store=black), report=reports.append)
    assert [r["valid_accuracy"] for r in reports] == pytest.approx([1 / 3] * 3)


# ---- what goes wrong ----

@pytest.mark.parametrize("call, noticed", [(1, 3), (3, 3), (7, 8), (12, 12)])
def test_a_loss_that_is_no_number_stops_the_run_and_is_never_saved(call: int, noticed: int) -> None:
    """Logs at 3, 6, 9 and 12, saves at 4, 8 and 12, whichever comes first."""
    saved: list[int] = []
    method = LinearMethod(break_at_call=call)
    with pytest.raises(FloatingPointError, match=f"the loss is nan at or shortly before step {noticed}; "):
        run(method, SPEC, save=lambda state: saved.append(state["step"]))
    assert len(method.batches) == noticed
    assert all(step < call for step in saved)


def test_every_rank_notices_a_loss_of_its_own() -> None:
    method = LinearMethod(break_at_call=2)
    with pytest.raises(FloatingPointError, match="before step 3"):
        run(method, SPEC, rank=1, world_size=2)


def test_classes_that_cannot_serve_the_episode_are_refused() -> None:
    with pytest.raises(ValueError, match="6 ways of 5 classes"):
        run(LinearMethod(), replace(SPEC, episode=EpisodeSpec(6, 1, 1)))


@pytest.mark.parametrize("change, message", [
    ({"steps": 0}, "steps is 0; it must be at least 1"),
    ({"episodes_per_step": 0}, "episodes_per_step is 0; it must be at least 1"),
    ({"valid_every": 0}, "valid_every is 0; it must be at least 1"),
    ({"checkpoint_every": -5}, "checkpoint_every is -5; it must be at least 1"),
    ({"log_every": 0}, "log_every is 0; it must be at least 1"),
    ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be above 0"),
    ({"learning_rate": math.nan}, "learning_rate is nan; it must be above 0"),
    ({"warmup_steps": 12}, r"warmup_steps is 12; it must be at least 0 and below steps \(12\)"),
    ({"valid_episodes": 1}, "valid_episodes is 1; an interval takes at least 2"),
])
def test_spec_is_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SPEC, **change)


# ---- the update ----

@pytest.mark.parametrize("clip", [0.01, 100.0])
def test_gradient_is_no_longer_than_its_clip(clip: float) -> None:
    method = LinearMethod()
    run(method, replace(SPEC, steps=1, warmup_steps=0, gradient_clip=clip))
    assert method.linear.weight.grad is not None
    expected = min(clip, method.gradients[0].norm().item())
    assert method.linear.weight.grad.norm().item() == pytest.approx(expected, rel=1e-3)



def test_learning_rate_rises_linearly_then_falls_as_a_cosine() -> None:
    spec = replace(SPEC, steps=14, warmup_steps=4, learning_rate=2.0)
    rates = [learning_rate(spec, step) for step in range(14)]
    assert rates[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    assert rates[9] == pytest.approx(1.0)  # half way through the fall
    assert rates[4:] == pytest.approx([1 + math.cos(math.pi * i / 10) for i in range(10)])
    assert 0 < rates[-1] < 0.1


def test_constant_schedule_keeps_the_rate_after_the_warm_up() -> None:
    spec = replace(SPEC, schedule="constant", learning_rate=0.3, warmup_steps=2)
    assert [learning_rate(spec, step) for step in range(4)] == pytest.approx([0.15, 0.3, 0.3, 0.3])


def test_the_optimizer_is_given_the_steps_rate() -> None:
    """Adam's first update is the rate itself; decoupled decay takes rate * decay of the weight before it."""
    spec = replace(SPEC, steps=4, warmup_steps=2, learning_rate=0.5, weight_decay=0.4, gradient_clip=None)
    states: list[dict[str, Any]] = []
    method = LinearMethod()
    before = method.linear.weight.detach().clone()
    run(method, replace(spec, checkpoint_every=1),
        save=lambda s: states.append({"weight": s["model"]["linear.weight"].clone(),
                                      "rate": s["optimizer"]["param_groups"][0]["lr"]}))
    step_size = (states[0]["weight"] - before * (1 - 0.25 * 0.4)).abs()
    torch.testing.assert_close(step_size, torch.full_like(step_size, 0.25), rtol=1e-3, atol=0)
    assert [state["rate"] for state in states] == [learning_rate(spec, step) for step in range(4)]


FROZEN = replace(SPEC, frozen=True, affine=None)


def test_a_frozen_encoder_stays_and_the_rest_learns_from_its_features() -> None:
    """As if each step embedded its images anew, with the running statistics."""
    method, by_hand = fresh_network(), fresh_network()
    assert isinstance(method, MatchingNetwork) and isinstance(by_hand, MatchingNetwork)
    before = {name: weight.clone() for name, weight in method.state_dict().items()}
    run(method, FROZEN)
    for name, weight in method.state_dict().items():
        assert torch.equal(weight, before[name]) == name.startswith("encoder_f."), name
    by_hand.encoder_f.requires_grad_(False)
    optimizer = build_optimizer(by_hand, FROZEN, "cpu")
    for step in range(FROZEN.steps):
        batch = next(make_batches(DATA.store, DATA.classes, replace(FROZEN, frozen=False), [[2 * step, 2 * step + 1]],
                                  "cpu"))
        by_hand.eval()
        with torch.no_grad():
            support_ES, query_EQ = by_hand.embed_batch(batch)
        loss = by_hand(replace(batch, support_ES=support_ES, query_EQ=query_EQ, is_embedded=True))["loss"]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(FROZEN, step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(by_hand.parameters(), FROZEN.gradient_clip)
        optimizer.step()
    for (name, weight), expected in zip(method.state_dict().items(), by_hand.state_dict().values(), strict=True):
        torch.testing.assert_close(weight, expected, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_frozen_training_resumes_bit_for_bit_and_validates_as_others_do(precision: str,
                                                                          ema_decay: float | None) -> None:
    states: list[dict[str, Any]] = []
    figures: list[dict[str, Any]] = []
    spec = replace(FROZEN, ema_decay=ema_decay)
    whole, resumed = fresh_network(), fresh_network(1)
    run(whole, spec, precision=precision, save=lambda state: states.append(copy.deepcopy(state)),
        report=figures.append)
    run(resumed, spec, precision=precision, state=states[0])
    assert all(torch.equal(*both) for both in zip(whole.state_dict().values(), resumed.state_dict().values(),
                                                  strict=True))
    assert DATA.valid_classes is not None
    whole.load_state_dict(states[-1]["model"])  # the average, if there is one
    stream = EpisodeStream(DATA.valid_classes, FROZEN.valid_episode, seed=FROZEN.seed + VALID_SEED_OFFSET)
    accuracy_E = evaluate(whole, DATA.store, stream, FROZEN.valid_episodes)
    assert figures[-1]["valid_accuracy"] == mean_and_interval(accuracy_E)[0]


@pytest.mark.parametrize(("change", "message"), [
    ({"affine": AffineSpec()}, "frozen is true: each sample is embedded once, .* write affine: null and chunk: null"),
    ({"chunk": ChunkSpec(4)}, "frozen is true: each sample is embedded once"),
    ({"accumulate": 2}, "accumulate is 2, and frozen true: .* write accumulate: 1"),
])
def test_frozen_goes_without_what_changes_the_images(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(FROZEN, **change)
    with pytest.raises(ValueError, match="2 workers share a training with frozen: true, which one worker does"):
        EpisodicTask(DATA, FROZEN).check(2)
