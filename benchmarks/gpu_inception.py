"""Part 3 of benchmarks/gpu.sh: Inception v3 at 299 px, against the same step on resident tensors and the chip's peak.

`bare` is forward, backward and update on one batch that is on the device. `resident` is matchnet.training.train on it.
`from host` is the same training on photographs' pixels (random ones, uint8, decoded already) that a thread gathers in
the host's memory and sends: the GPU's speed when decoding is no limit. `of peak` counts the multiplications and
additions of forward and backward, each as one operation, against what the vendor says of dense bf16; `of matmul`
against a bf16 product of two 8192 x 8192 matrices, measured here.
"""

import argparse
from collections.abc import Callable, Generator, Iterable
from typing import Literal

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_part import LINES, Part, calls_per_second, forget_peak, peak_mib, steps_per_second
from benchmarks.resident import ResidentTask
from matchnet.classifier_training import ClassifierData, ClassifierTask, ClassifierTrainingSpec
from matchnet.context import FullContextSpec
from matchnet.encoders.inception import InceptionSpec
from matchnet.episodes import EpisodeSpec
from matchnet.episodic_training import EpisodicSpec
from matchnet.methods import Batch, ClassifierSpec, LabelledBatch, Method, MethodSpec, build_method
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.training import Task, autocast, build_optimizer

PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0}  # dense bf16, data sheets
NUM_CLASSES = 1000
EPISODE = EpisodeSpec(5, 1, 3)
AIM = 0.95  # least speed of `from host`, as a share of `bare`
COMPILE_SECONDS = 45.0
Precision = Literal["fp32", "bf16"]


class Sizes:
    """Sizes of the tiny run and of the real one."""

    def __init__(self, tiny: bool) -> None:
        self.size, self.width = (75, 0.05) if tiny else (299, 1.0)
        self.images, self.episodes, self.steps = (4, 1, 1) if tiny else (256, 16, 8)
        self.stored, self.matmul = (8, 64) if tiny else (1024, 8192)

    @property
    def shape(self) -> tuple[int, int, int]:
        return (3, self.size, self.size)


class HostImages:
    """An ImageStream of random pixels that are decoded already, channels last as a stream's are."""

    def __init__(self, sizes: Sizes) -> None:
        self.pixels_RHWC = torch.randint(256, (sizes.stored, sizes.size, sizes.size, 3), dtype=torch.uint8)
        self.class_R = torch.arange(sizes.stored) % NUM_CLASSES

    def read(self, numbers: range) -> tuple[Tensor, Tensor]:
        rows = torch.arange(numbers.start, numbers.stop) % len(self.class_R)
        return self.pixels_RHWC[rows].permute(0, 3, 1, 2), self.class_R[rows]

    def read_each(self, shares: Iterable[range]) -> Generator[tuple[Tensor, Tensor]]:
        yield from map(self.read, shares)


def training(sizes: Sizes) -> ClassifierTrainingSpec:
    return ClassifierTrainingSpec(batch_size=sizes.images, steps=LINES * sizes.steps, log_every=sizes.steps,
                                  checkpoint_every=LINES * sizes.steps, schedule="constant", optimizer="sgd",
                                  learning_rate=0.01, weight_decay=5e-5)


def random_images(sizes: Sizes, device: torch.device) -> LabelledBatch:
    image_BHWC = torch.rand(sizes.images, sizes.size, sizes.size, 3, device=device)
    return LabelledBatch(image_BHWC.permute(0, 3, 1, 2), torch.arange(sizes.images, device=device) % NUM_CLASSES)


def random_episodes(sizes: Sizes, device: torch.device) -> Batch:
    ways = torch.arange(EPISODE.num_ways, device=device)
    way_Q = ways.repeat_interleave(EPISODE.num_queries)
    support, query = (torch.rand(sizes.episodes, len(way), *sizes.shape, device=device) for way in (ways, way_Q))
    way_ES, way_EQ, class_EN = (way.expand(sizes.episodes, -1) for way in (ways, way_Q, ways))
    return Batch(support, way_ES, query, way_EQ, class_EN)


def build(spec: MethodSpec, sizes: Sizes, device: torch.device) -> Method:
    torch.manual_seed(0)
    return build_method(spec, sizes.shape, NUM_CLASSES).to(device)


def bare_step(method: Method, batch: Batch | LabelledBatch, spec: ClassifierTrainingSpec | EpisodicSpec,
              device: torch.device, precision: Precision) -> Callable[[], None]:
    optimizer = build_optimizer(method, spec, device)
    method.train()

    def step() -> None:
        optimizer.zero_grad()
        with autocast(device, precision):
            loss = method(batch)["loss"]
        loss.backward()
        optimizer.step()

    return step


def operations(method: Method, batch: Batch | LabelledBatch, device: torch.device) -> float:
    """Number of operations of forward and backward, in convolutions and matrix products."""
    method.train()
    with FlopCounterMode(display=False) as counter, autocast(device, "bf16"):
        loss = method(batch)["loss"]
        loss.backward()
    method.zero_grad()
    return float(counter.get_total_flops())


def matmul_tflops(part: Part, size: int) -> float:
    one, other = (torch.randn(size, size, device=part.device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 * calls_per_second(lambda: one @ other, 1 if part.tiny else 20, part.device) / 1e12


def peak_tflops(device: torch.device) -> float:
    name = torch.cuda.get_device_name() if device.type == "cuda" else ""
    return next((peak for chip, peak in PEAK_TFLOPS.items() if chip in name), float("nan"))


def classifier(part: Part, sizes: Sizes, peak: float, matmul: float) -> None:
    spec, method = training(sizes), ClassifierSpec(encoder=InceptionSpec(width=sizes.width))
    batch, shares = random_images(sizes, part.device), {}
    done = operations(build(method, sizes, part.device), batch, part.device)
    stream = ClassifierTask(ClassifierData(HostImages(sizes)), spec)
    resident = ResidentTask(batch, spec, sizes.images)

    def row(what: str, steps: float) -> None:
        tflops = done * steps / 1e12
        part.row(what, steps * sizes.images, tflops, tflops / peak, tflops / matmul, peak_mib(part.device))
        shares[what] = steps

    with part.attempt("classifier, bare"):
        forget_peak(part.device)
        step = bare_step(build(method, sizes, part.device), batch, spec, part.device, "bf16")
        row("classifier, bf16, bare", calls_per_second(step, sizes.steps, part.device))
    for name, task in (("resident", resident), ("from host", stream)):
        with part.attempt(f"classifier, {name}"):
            forget_peak(part.device)
            row(f"classifier, bf16, {name}", steps_per_second(build(method, sizes, part.device), task, part.device))
    if len(shares) == 3:
        bare, _, host = shares.values()
        share = host / bare
        holds = "not judged at these sizes" if part.tiny else "yes" if share >= AIM else "NO"
        part.say(f"from host, of bare: {share:.3f}; at least {AIM}: {holds}")
        part.failed += not part.tiny and share < AIM
    if part.cuda and part.has(COMPILE_SECONDS, "classifier, bf16, compiled"):
        with part.attempt("classifier, bf16, compiled"):
            compiled = build(method, sizes, part.device)
            compiled.compile()
            row("classifier, bf16, compiled, resident", steps_per_second(compiled, resident, part.device))


def matching_nets(part: Part, sizes: Sizes) -> None:
    """Measure matching nets as experiments/imagenet trains them: with running statistics and FCE."""
    method = MatchingNetworkSpec(encoder=InceptionSpec(width=sizes.width, batch_statistics=False),
                                 embedding_size=512, fce=FullContextSpec())
    spec = EpisodicSpec(episode=EPISODE, episodes_per_step=sizes.episodes, schedule="constant", learning_rate=1e-4,
                        steps=LINES * sizes.steps, log_every=sizes.steps, checkpoint_every=LINES * sizes.steps)
    images = sizes.episodes * EPISODE.num_ways * EPISODE.samples_per_way
    batch = random_episodes(sizes, part.device)
    task: Task = ResidentTask(batch, spec, images)
    precisions: tuple[Precision, ...] = ("bf16", "fp32")
    for precision in precisions:
        name = f"matching nets, {precision}" + " (TF32)" * (precision == "fp32")
        with part.attempt(name):
            forget_peak(part.device)
            step = bare_step(build(method, sizes, part.device), batch, spec, part.device, precision)
            bare = calls_per_second(step, sizes.steps, part.device)
            shipped = steps_per_second(build(method, sizes, part.device), task, part.device, precision)
            part.row(name, shipped * images, bare * images, shipped / bare, peak_mib(part.device))


def main() -> None:
    part = Part("inception", argparse.ArgumentParser(description=__doc__,
                                                     formatter_class=argparse.RawDescriptionHelpFormatter))
    torch.backends.cudnn.benchmark = part.cuda
    sizes = Sizes(part.tiny)
    matmul, peak = matmul_tflops(part, sizes.matmul), peak_tflops(part.device)
    part.say(f"bf16 product of {sizes.matmul} x {sizes.matmul}: {matmul:.3g} TFLOP/s; the vendor's peak: {peak:.0f}")
    part.begin(f"Inception v3, {sizes.size} px, width {sizes.width:g}, {sizes.images} images a step", "images/s",
               "TFLOP/s", "of peak", "of matmul", "MiB")
    with part.attempt("classifier"):
        classifier(part, sizes, peak, matmul)
    part.begin(f"matching nets with FCE, {sizes.episodes} episodes of 20 images a step", "images/s", "bare", "of bare",
               "MiB")
    matching_nets(part, sizes)
    part.end()


if __name__ == "__main__":
    main()
