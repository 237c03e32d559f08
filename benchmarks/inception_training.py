"""Training Inception v3: from photographs in shards, against the same step on resident random images.

    python -m benchmarks.inception_training ../shared/mirror/imagenet/full_size [--size 299] [--episodes 16]

The folder holds photographs of real size (JPEG); shards of them are made in a temporary folder, repeated. Every row is
matchnet.training.train as shipped: of matching nets on 5-way 1-shot episodes with 3 queries, FCE on top; of the
classifier on batches of as many images. "Resident" steps have one batch on the device all the while: what remains is
the network; "from shards" decodes in worker processes while the step before computes. A row is printed as soon as it is
known. For a GPU; on a CPU, where all rows are fp32, --size 75 --width 0.25 --episodes 1 tries it.
"""

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Literal

import torch

from benchmarks.allocator import keep_freed_memory
from benchmarks.photographs import read_photographs, write_shards
from benchmarks.resident import ResidentTask
from matchnet.classifier_training import ClassifierData, ClassifierTask, ClassifierTrainingSpec
from matchnet.context import FullContextSpec
from matchnet.encoders.inception import InceptionSpec
from matchnet.episodes import ClassRows, EpisodeSpec
from matchnet.episodic_training import EpisodicData, EpisodicSpec, EpisodicTask
from matchnet.methods import Batch, ClassifierSpec, LabelledBatch, MethodSpec, build_method
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.training import Callbacks, Task, Worker, train
from pipeline.data.load.crop import CropSpec
from pipeline.data.load.from_shards import ShardStore
from pipeline.data.load.stream import ShardStream, StreamSpec
from pipeline.data.shards.folder import ShardFolder
from pipeline.system.machine import cores
from pipeline.training.computing import ready_to_train
from pipeline.training.data import SHARES_AHEAD

NUM_IMAGES, NUM_CLASSES = 1600, 40
EPISODE = EpisodeSpec(5, 1, 3)
LINES = 5  # lines of the log; the first, with all work that is done once, is left out


@dataclass(frozen=True)
class Way:
    """A way to compute a step."""

    name: str
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = True  # an Inception v3's default
    tf32: bool = True  # for convolutions, PyTorch's default
    compiled: bool = False


PLAIN = Way("fp32, NCHW, no TF32", channels_last=False, tf32=False)
FP32 = Way("fp32 (TF32), channels_last")
BF16 = Way("bf16, channels_last", "bf16")


class Bench:
    """The rows of one size, width and device."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.size, self.width, self.loaders = arguments.size, arguments.width, arguments.loaders
        self.episodes = arguments.episodes
        self.num_images = arguments.episodes * EPISODE.num_ways * EPISODE.samples_per_way
        self.lengths = {"steps": LINES * arguments.steps, "log_every": arguments.steps}
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.best = BF16 if self.device == "cuda" else FP32
        self.compiled = replace(self.best, name=f"{self.best.name}, compiled", compiled=True)

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        return (3, self.size, self.size)

    def matching_nets(self, shards: Path, compiled: bool) -> None:
        method = MatchingNetworkSpec(encoder=InceptionSpec(width=self.width, batch_statistics=False),
                                     embedding_size=512, fce=FullContextSpec())
        spec = EpisodicSpec(episode=EPISODE, episodes_per_step=self.episodes, schedule="constant", learning_rate=1e-4,
                            **self.lengths)
        resident = ResidentTask(self.random_episodes(), spec, self.num_images)
        ways = [PLAIN, FP32, self.best, *([self.compiled] if compiled else [])]
        speeds = {way: self.row("matching nets, resident", method, resident, way) for way in dict.fromkeys(ways)}
        with ShardStore(ShardFolder(shards), "all", self.sample_shape, ("train",), self.loaders) as store:
            task = EpisodicTask(EpisodicData(store, ClassRows.from_class_ids(store.class_id_R)), spec)
            task.prefetch = SHARES_AHEAD
            for way in (self.best, self.compiled):
                if speeds.get(way):
                    self.row("matching nets, from shards", method, task, way, speeds[way])

    def classifier(self, shards: Path) -> None:
        method = ClassifierSpec(encoder=InceptionSpec(width=self.width))
        spec = ClassifierTrainingSpec(batch_size=self.num_images, schedule="constant", learning_rate=1e-4,
                                      **self.lengths)
        resident = ResidentTask(self.random_images(), spec, self.num_images)
        speed = self.row("classifier, resident", method, resident, self.best)
        wanted = StreamSpec("all", ("train",), self.sample_shape, [f"photo{c}" for c in range(NUM_CLASSES)],
                            CropSpec(), spec.seed)
        stream = ShardStream(ShardFolder(shards), wanted, self.loaders)
        self.row("classifier, from shards", method, ClassifierTask(ClassifierData(stream), spec), self.best, speed)

    def row(self, name: str, method: MethodSpec, task: Task, way: Way, resident: float | None = None) -> float | None:
        """Print images per second and their share of the resident step's; None for what cannot be compiled."""
        try:
            speed = self.images_per_second(method, task, way)
        except Exception as error:
            if not way.compiled:
                raise
            print(f"{name}, {way.name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)
            return None
        share = "" if resident is None else f"{speed / resident:7.0%}"
        print(f"{f'{name}, {way.name}':<66}{speed:>10,.1f}  {share}".rstrip(), flush=True)
        return speed

    def images_per_second(self, method: MethodSpec, task: Task, way: Way) -> float:
        """The median of the lines of the log."""
        torch.manual_seed(0)
        torch.backends.cudnn.allow_tf32 = way.tf32
        model = build_method(method, self.sample_shape, NUM_CLASSES).to(self.device)
        if not way.channels_last:
            model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        lines: list[float] = []
        train(ready_to_train(model, way.compiled, torch.device(self.device), world_size=1), task,
              Callbacks(log=lambda values: lines.append(values["images_per_second"])),
              worker=Worker(device=self.device, precision=way.precision))
        return median(lines[1:])

    def random_episodes(self) -> Batch:
        ways = torch.arange(EPISODE.num_ways)
        way_Q = ways.repeat_interleave(EPISODE.num_queries)
        support, query = (torch.rand(self.episodes, len(way), *self.sample_shape).to(self.device)
                          for way in (ways, way_Q))
        way_ES, way_EQ, class_EN = (way.expand(self.episodes, -1).to(self.device) for way in (ways, way_Q, ways))
        return Batch(support, way_ES, query, way_EQ, class_EN)

    def random_images(self) -> LabelledBatch:
        """Channels last in memory, as the stream's are."""
        image_BHWC = torch.rand(self.num_images, self.size, self.size, 3)
        class_B = torch.arange(self.num_images) % NUM_CLASSES
        return LabelledBatch(image_BHWC.permute(0, 3, 1, 2).to(self.device), class_B.to(self.device))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="a folder of JPEGs")
    parser.add_argument("--size", type=int, default=299)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--episodes", type=int, default=16, help="a step")
    parser.add_argument("--steps", type=int, default=10, help="between two lines of the log, of which there are 5")
    parser.add_argument("--loaders", type=int, default=cores())
    parser.add_argument("--compiled", action=argparse.BooleanOptionalAction, default=torch.cuda.is_available(),
                        help="rows with torch.compile; as a rule on a GPU alone, a CPU compiles for many minutes")
    arguments = parser.parse_args()
    keep_freed_memory()
    bench = Bench(arguments)
    on = torch.cuda.get_device_name() if bench.device == "cuda" else f"a CPU, {torch.get_num_threads()} threads"
    print(f"Inception v3, {bench.size} px, width {bench.width}, {bench.num_images} images a step, "
          f"{bench.loaders} loaders, on {on}\n{'':<66}{'images/s':>10}  of resident", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder), read_photographs(arguments.photographs), NUM_IMAGES, NUM_CLASSES)
        bench.matching_nets(Path(folder), arguments.compiled)
        bench.classifier(Path(folder))


if __name__ == "__main__":
    main()
