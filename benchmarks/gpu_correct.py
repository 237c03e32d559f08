"""Part 1 of benchmarks/gpu.sh: is what a GPU computes right?

The same ten steps on the CPU and on the device, in fp32 without TF32; bf16 against that; a run that goes on from a
checkpoint, bit for bit, with torch's deterministic algorithms; evaluation on both; asynchronous copies; and
that no step waits for the GPU. With --device cpu, "the device" is torch's own convolutions in place of oneDNN's.

Differences of losses are divided by the first loss, those of weights by how far ten steps moved them.
"""

import argparse
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before cuBLAS starts: deterministic products ask for it

import torch
from torch import Tensor

from benchmarks.gpu_part import Part, conv4_of, easy_images, synchronize
from matchnet.augmentation import AffineSpec
from matchnet.context import FullContextSpec
from matchnet.devices import to_device
from matchnet.encoders.inception import InceptionSpec
from matchnet.episodes import EpisodeSpec
from matchnet.episodic_training import EpisodicData, EpisodicSpec, EpisodicTask
from matchnet.evaluation import EpisodeStream, embed_rows, rows_drawn, run_episodes
from matchnet.methods import (
    Classifier,
    ClassifierSpec,
    FineTuned,
    FineTuningSpec,
    MatchingNetwork,
    Method,
    MethodSpec,
    SiameseSpec,
    build_method,
)
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.training import Callbacks, Precision, Worker, ignore, train
from matchnet.weights import load_tensors, save_tensors

STEPS, HALF = 10, 5
GREY_28 = (1, 28, 28)
EPISODE = EpisodeSpec(5, 1, 5)
SPEC = EpisodicSpec(episode=EPISODE, steps=STEPS, episodes_per_step=2, schedule="constant", log_every=1,
                    checkpoint_every=HALF, valid_episode=EpisodeSpec(5, 1, 2), valid_episodes=4)
SGD = replace(SPEC, optimizer="sgd", learning_rate=0.001)  # at 0.01 rounding grows tenfold a step
ANSWER_LIMIT = 1e-3
BF16_FIRST, BF16_MEAN = 2e-2, 5e-2  # bf16 has 8 bits: 4e-3 a number, more after four blocks


@dataclass(frozen=True)
class Problem:
    """A training of ten steps."""

    name: str
    method: MethodSpec
    shape: tuple[int, int, int] = GREY_28
    spec: EpisodicSpec = SPEC
    limits: tuple[float, float, float] = (1e-5, 1e-2, 2e-2)  # for the first loss, ten losses, the weights

    def task(self, data: EpisodicData, device: torch.device | str, prefetch: int = 0) -> EpisodicTask:
        assert data.store.sample_shape == self.shape
        task = EpisodicTask(replace(data, store=data.store.to(device)), self.spec)  # type: ignore[attr-defined]
        task.prefetch = prefetch
        return task

    def fresh(self, num_classes: int, device: torch.device | str) -> Method:
        torch.manual_seed(0)
        return build_method(self.method, self.shape, num_classes).to(device)




def problems(tiny: bool) -> list[Problem]:
    conv4 = conv4_of(tiny)
    many = replace(SGD, episode=EpisodeSpec(12, 0, 2))
    return [Problem("matching net, AdamW", MatchingNetworkSpec(encoder=conv4)),
            Problem("matching net, SGD", MatchingNetworkSpec(encoder=conv4), spec=SGD),
            Problem("matching net with FCE, SGD",
                    MatchingNetworkSpec(encoder=conv4, embedding_size=32, fce=FullContextSpec(3)),
                    spec=replace(SGD, gradient_clip=1.0)),
            Problem("siamese net, SGD", SiameseSpec(encoder=conv4), spec=SGD),
            Problem("classifier, distorted, SGD", ClassifierSpec(encoder=conv4, label_smoothing=0.1),
                    spec=replace(many, affine=AffineSpec(mirror=True)))]


def inception_problem(tiny: bool) -> Problem:
    width, pixels = (0.05, 107) if tiny else (0.25, 139)
    return Problem(f"Inception v3 (width {width}, {pixels} px)", ClassifierSpec(encoder=InceptionSpec(width=width)),
                   (3, pixels, pixels), replace(SGD, episode=EpisodeSpec(8, 0, 1), learning_rate=1e-4))


@dataclass(frozen=True)
class Ended:
    losses: list[float]
    weights: dict[str, Tensor]  # on the CPU
    state: dict[str, Any]  # the last state that was saved


def trained(problem: Problem, data: EpisodicData, worker: Worker, prefetch: int = 0,
            state: dict[str, Any] | None = None, save: Callable[[dict[str, Any]], None] = ignore) -> Ended:
    method = problem.fresh(data.classes.num_classes, worker.device)
    losses: list[float] = []
    states: list[dict[str, Any]] = []

    def keep(saved: dict[str, Any]) -> None:
        save(saved)
        states.append(saved)

    train(method, problem.task(data, worker.device, prefetch),
          Callbacks(save=keep, log=lambda line: losses.append(line["loss"])), worker=worker, state=state)
    return Ended(losses, {name: value.detach().cpu() for name, value in method.state_dict().items()}, states[-1])


def data_of(problem: Problem) -> EpisodicData:
    return easy_images(32, 12 if problem.shape == GREY_28 else 6, problem.shape)


@contextmanager
def exact(part: Part) -> Iterator[None]:
    """Use fp32 with all its bits, and with --device cpu other convolutions than the CPU's usual ones."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    with nullcontext() if part.cuda else torch.backends.mkldnn.flags(enabled=False):
        yield


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Norm of the difference of all floating-point weights and statistics together."""
    squares = [(value.double() - other[name].double()).square().sum() for name, value in one.items()
               if value.is_floating_point()]
    return float(torch.stack(squares).sum().sqrt())


def same_steps(part: Part) -> None:
    """Ten steps in fp32, then in bf16."""
    cpu = torch.device("cpu")
    for problem in problems(part.tiny):
        if not part.has(5, problem.name):
            break
        with part.attempt(problem.name):
            data = data_of(problem)
            here = trained(problem, data, Worker(device=cpu))
            with exact(part):
                there = trained(problem, data, Worker(device=part.device))
            first = problem.fresh(data.classes.num_classes, cpu).state_dict()
            losses = [abs(a - b) / here.losses[0] for a, b in zip(here.losses, there.losses, strict=True)]
            part.check(f"{problem.name}: first loss", losses[0], problem.limits[0])
            part.check(f"{problem.name}: ten losses", max(losses), problem.limits[1])
            if problem.spec.optimizer == "sgd":  # AdamW moves a weight without a gradient by the sign of its rounding
                moved = distance(here.weights, there.weights) / distance(here.weights, first)
                part.check(f"{problem.name}: weights, of their way", moved, problem.limits[2])
            half = trained(problem, data, Worker(device=part.device, precision="bf16"))
            part.check(f"{problem.name}: first loss in bf16", abs(half.losses[0] / there.losses[0] - 1), BF16_FIRST)
            mean = abs(sum(half.losses) / sum(there.losses) - 1)
            part.check(f"{problem.name}: mean loss in bf16", mean, BF16_MEAN)


def same_gradient(part: Part) -> None:
    """The first step of Inception v3: its loss in three precisions, and its gradient in fp64 alone.

    An error of 1e-7 in the pixels makes one of 1e-2 in the gradient of 94 untrained layers with the statistics of a
    small batch. So fp32 cannot give the same gradient on two devices.
    """
    problem, cpu = inception_problem(part.tiny), torch.device("cpu")
    with part.attempt(problem.name):
        data = data_of(problem)
        exact_loss, exact_gradient = first_step(problem, data, cpu, torch.float64)
        with exact(part):
            loss, gradient = first_step(problem, data, part.device, torch.float64)
            single, _ = first_step(problem, data, part.device, torch.float32)
        half, _ = first_step(problem, data, part.device, torch.bfloat16)
        part.check(f"{problem.name}: loss in fp64", abs(loss / exact_loss - 1), 1e-10)
        part.check(f"{problem.name}: gradient in fp64", float((gradient - exact_gradient).norm()
                                                              / exact_gradient.norm()), 1e-6)
        part.check(f"{problem.name}: loss in fp32", abs(single / exact_loss - 1), 1e-4)
        part.check(f"{problem.name}: loss in bf16", abs(half / exact_loss - 1), BF16_MEAN)


def first_step(problem: Problem, data: EpisodicData, device: torch.device, dtype: torch.dtype) -> tuple[float, Tensor]:
    """Loss, and gradient of all weights in one vector. bf16 is autocast's, as in training."""
    bf16 = dtype == torch.bfloat16
    method = problem.fresh(data.classes.num_classes, device).to(torch.float32 if bf16 else dtype).train()
    batch, _ = problem.task(data, device).batch(0, 0, 1, device)
    if not bf16:
        batch = replace(batch, support_ES=batch.support_ES.to(dtype), query_EQ=batch.query_EQ.to(dtype))
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        loss = method(batch)["loss"]
    loss.backward()
    gradients = [weight.grad.flatten().double().cpu() for weight in method.parameters() if weight.grad is not None]
    return loss.item(), torch.cat(gradients)


def same_answers(part: Part) -> None:
    """Log-probabilities of test episodes by the same weights, evaluated on the CPU and on the device."""
    data = easy_images(32, 12, GREY_28)
    cpu, count = torch.device("cpu"), 20
    assert data.valid_classes is not None
    stream = EpisodeStream(data.valid_classes, EPISODE, seed=1)
    rows = rows_drawn(stream, count)

    def answers(method: Method, device: torch.device) -> Tensor:
        features = embed_rows(method.to(device), data.store, rows, device)
        answered = run_episodes(method, features, stream, range(count))
        return torch.cat([log_probs.cpu() for _, log_probs in answered])

    tuning, conv4 = FineTuningSpec(steps=2, num_copies=1), part.conv4
    fce = MatchingNetworkSpec(encoder=conv4, embedding_size=32, fce=FullContextSpec(3))
    for name, spec, adapt in (("matching net", MatchingNetworkSpec(encoder=conv4), None),
                              ("matching net with FCE", fce, None),
                              ("matching net, fine-tuned", MatchingNetworkSpec(encoder=conv4), tuning),
                              ("classifier, softmax, fine-tuned", ClassifierSpec(encoder=conv4),
                               replace(tuning, loss="softmax"))):
        with part.attempt(name):
            torch.manual_seed(0)
            method: Method = build_method(spec, GREY_28, data.classes.num_classes)
            if adapt is not None:
                assert isinstance(method, MatchingNetwork | Classifier)
                method = FineTuned(method, adapt)
            here = answers(method, cpu)
            with exact(part):
                there = answers(method, part.device)
            part.check(f"{name}: log-probabilities", float((here - there).abs().max()), ANSWER_LIMIT)


def same_resumed(part: Part) -> None:
    """Compare a run without a thread with one resumed from a file halfway with a thread; and two equal runs."""
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    torch.use_deterministic_algorithms(True, warn_only=True)
    spec = replace(SPEC, affine=AffineSpec(), ema_decay=0.9, accumulate=2, gradient_clip=1.0)
    conv4 = part.conv4
    fce = MatchingNetworkSpec(encoder=conv4, embedding_size=32, fce=FullContextSpec(3))
    for name, method in (("matching net with FCE", fce),
                         ("classifier, dropout", ClassifierSpec(encoder=conv4, dropout=0.5))):
        problem = Problem(name, method, spec=spec if name.startswith("matching") else
                          replace(spec, episode=EpisodeSpec(12, 0, 2)))
        for precision in get_args(Precision):
            worker = Worker(device=part.device, precision=precision)
            with part.attempt(f"{name}, {precision}"), warnings.catch_warnings(record=True) as caught, \
                    tempfile.TemporaryDirectory() as folder:
                warnings.simplefilter("always")
                data = data_of(problem)

                def to_file(state: dict[str, Any], folder: str = folder) -> None:
                    save_tensors(Path(folder, f"{state['step']}.pt"), state)

                straight = trained(problem, data, worker, save=to_file)
                again = trained(problem, data, worker)
                state = load_tensors(Path(folder, f"{HALF}.pt"))
                resumed = trained(problem, data, worker, 2, state)
                part.check(f"{name}, {precision}: run twice, weights that differ", differing(straight, again), 0)
                part.check(f"{name}, {precision}: resumed, weights that differ", differing(straight, resumed), 0)
                for text in sorted({str(warning.message).partition(" does not")[0] for warning in caught
                                    if "deterministic" in str(warning.message)}):
                    part.say(f"  torch has no deterministic {text[:90]}")
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False


def differing(one: Ended, other: Ended) -> int:
    """Tensors of the weights and of the last state that are not the same bit for bit."""
    pairs = [(one.weights, other.weights), *((one.state[key], other.state[key]) for key in ("model", "trained"))]
    return sum(not torch.equal(value, theirs[name]) for mine, theirs in pairs for name, value in mine.items())


def copies(part: Part) -> None:
    """Check that copies queued behind the device's work arrive whole, although their sources were overwritten."""
    size = 64 if part.tiny else 4096
    product = torch.randn(size, size, device=part.device)
    sent, arrived = [], []
    for number in range(50):
        product = product @ product / size
        values = torch.randint(256, (3, size, 5), dtype=torch.uint8).expand(3, size, 5)
        values[0, 0, 0] = number
        sent.append(values.clone())
        arrived.append(to_device(values, part.device))
        values.zero_() if part.cuda else None
    synchronize(part.device)
    wrong = sum(not torch.equal(mine, theirs.cpu()) for mine, theirs in zip(sent, arrived, strict=True))
    part.check("copies of 50 that did not arrive whole", wrong, 0)


def waits(part: Part) -> None:
    """Count how often ten steps of training wait for the GPU; the log's line, at the end, is not among them."""
    for problem in (*problems(part.tiny), inception_problem(part.tiny)):
        if not part.has(5, problem.name):
            break
        with part.attempt(problem.name):
            spec = replace(problem.spec, steps=20, log_every=20, checkpoint_every=20)
            problem, data, done = replace(problem, spec=spec), data_of(problem), 0

            def watch() -> None:
                nonlocal done
                done += 1
                if done in (5, 15):
                    torch.cuda.set_sync_debug_mode("warn" if done == 5 else "default")

            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                train(problem.fresh(data.classes.num_classes, part.device), problem.task(data, part.device, 2),
                      Callbacks(step_done=watch), worker=Worker(device=part.device, precision="bf16"))
            count = sum("synchronizing CUDA operation" in str(warning.message) for warning in caught)
            # known for the siamese net: two masks a step, for the means of its loss over same and over different pairs
            part.check(f"{problem.name}: waits in 10 steps", count, 40 if "siamese" in problem.name else 0)


def main() -> None:
    part = Part("correct", argparse.ArgumentParser(description=__doc__,
                                                   formatter_class=argparse.RawDescriptionHelpFormatter))
    part.begin("ten steps on the CPU and on the device", "difference", "limit", "holds")
    same_steps(part)
    same_gradient(part)
    part.begin("evaluation on the CPU and on the device", "difference", "limit", "holds")
    same_answers(part)
    part.begin("checkpoints and copies on the device", "count", "limit", "holds")
    same_resumed(part)
    with part.attempt("copies"):
        copies(part)
    if part.cuda:
        part.begin("waiting for the GPU", "count", "limit", "holds")
        waits(part)
    part.end()


if __name__ == "__main__":
    main()
