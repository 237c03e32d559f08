"""Training matching nets on Inception v3: from photographs in shards, against the same step on resident random images.

    python -m benchmarks.inception_training ../shared/mirror/imagenet/full_size [--size 299] [--episodes 16]

The folder holds photographs of real size (JPEG); shards of them are made in a temporary folder, repeated. Every row is
matchnet.training.train as shipped, 5-way 1-shot episodes with 3 queries, FCE on top, channels_last. "Resident" steps
have one batch on the device all the while: what remains is the network; "from shards" decodes each episode in worker
processes while the step before it computes. For a GPU; on a CPU, --size 75 --width 0.25 --episodes 1 tries it.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.allocator import keep_freed_memory
from benchmarks.photographs import read_photographs, write_shards
from benchmarks.table import print_table
from matchnet.context import FullContextSpec
from matchnet.encoders.inception import InceptionSpec
from matchnet.episodes import ClassRows, EpisodeSpec
from matchnet.episodic_training import EpisodicData, EpisodicSpec, EpisodicTask
from matchnet.methods import Batch, MatchingNetwork, Method
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.training import Task, TrainingSpec, Values, train
from pipeline.data.shard_store import ShardStore
from pipeline.machine import cores
from pipeline.training.tasks import SHARES_AHEAD

NUM_IMAGES, NUM_CLASSES = 1600, 40
EPISODE = EpisodeSpec(5, 1, 3)
LINES = 5  # of the log; the first, with all that is done once, is left out


class ResidentTask(Task):
    """One batch of random images, made once."""

    def __init__(self, batch: Batch, spec: EpisodicSpec) -> None:
        self.resident = batch
        self.spec: TrainingSpec = spec
        self.units = {"images": spec.episodes_per_step * EPISODE.num_ways * EPISODE.samples_per_way}

    def check(self, world_size: int) -> None:
        return

    def batch(self, step: int, rank: int, world_size: int, device: torch.device | str) -> tuple[Batch, float]:
        return self.resident, 1.0

    def validate(self, method: Method, device: torch.device | str) -> Values | None:
        return None


def speed(task: Task, size: int, width: float, device: str, precision: Any, compiled: bool = False) -> float:
    """Images per second of training, the median of the lines of the log."""
    torch.manual_seed(0)
    encoder = InceptionSpec(width=width, batch_statistics=False)
    model = MatchingNetwork(MatchingNetworkSpec(encoder=encoder, fce=FullContextSpec(size=512)), (3, size, size))
    model.to(device)
    if compiled:
        model.encoder_f.compile()
    lines: list[float] = []

    def ignore(values: Values) -> None:
        return

    train(model, task, device=device, precision=precision, report=ignore, save=ignore,
          log=lambda values: lines.append(values["images_per_second"]))
    return median(lines[1:])


def resident_batch(num_episodes: int, size: int, device: str) -> Batch:
    ways, way_Q = torch.arange(EPISODE.num_ways), torch.arange(EPISODE.num_ways).repeat_interleave(EPISODE.num_queries)
    support, query = (torch.rand(num_episodes, len(way), 3, size, size).to(device) for way in (ways, way_Q))
    way_ES, way_EQ, class_EN = (way.expand(num_episodes, -1).to(device) for way in (ways, way_Q, ways))
    return Batch(support, way_ES, query, way_EQ, class_EN)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="a folder of JPEGs")
    parser.add_argument("--size", type=int, default=299)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--episodes", type=int, default=16, help="a step")
    parser.add_argument("--steps", type=int, default=10, help="between two lines of the log, of which there are 5")
    parser.add_argument("--loaders", type=int, default=cores())
    arguments = parser.parse_args()
    keep_freed_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    spec = EpisodicSpec(episode=EPISODE, episodes_per_step=arguments.episodes, steps=LINES * arguments.steps,
                        log_every=arguments.steps, schedule="constant", learning_rate=1e-4)
    network = (arguments.size, arguments.width, device)
    resident = ResidentTask(resident_batch(arguments.episodes, arguments.size, device), spec)
    rows = [["resident, fp32", speed(resident, *network, "fp32")]]
    best = "bf16" if device == "cuda" else "fp32"
    if best == "bf16":
        rows.append(["resident, bf16", speed(resident, *network, "bf16")])
        rows.append(["resident, bf16, compiled", speed(resident, *network, "bf16", compiled=True)])
    limit = rows[1][1] if best == "bf16" else rows[0][1]
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder), read_photographs(arguments.photographs), NUM_IMAGES, NUM_CLASSES)
        with ShardStore(Path(folder), "all", (3, arguments.size, arguments.size), ("train",),
                        arguments.loaders) as store:
            data = EpisodicData(store, ClassRows.from_class_ids(store.class_id_R))
            task = EpisodicTask(data, spec)
            task.prefetch = SHARES_AHEAD
            rows.append([f"from shards, {arguments.loaders} loaders, {best}", speed(task, *network, best)])
    print(f"Inception v3, {arguments.size} px, width {arguments.width}, on {device}")
    print_table(["", "images/s", f"share of resident {best}"], [[name, fast, fast / limit] for name, fast in rows])


if __name__ == "__main__":
    main()
