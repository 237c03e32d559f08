"""Scaling of training: measured with 1 and 2 processes here, and a model of communication for 8 to 64 GPUs.

    python -m benchmarks.scaling [--step-seconds 0.1] [--network-gbit 100]

DDP sums the gradients of n workers by a ring: each sends and receives 2 (n - 1) / n times their bytes a step, in
2 (n - 1) turns. With B bytes a second between neighbours and L seconds a turn,

    step(n) = compute + max(0, 2 (n - 1) / n * bytes / B + 2 (n - 1) L - overlap * compute)

Assumed: every worker has as many images whatever n is (weak scaling); gradients are fp32; the slowest link of the ring,
the network, decides B; the backward pass, two thirds of the computing, hides communication behind it (overlap = 2 / 3:
DDP sends a bucket when it is full) where processors can do both, as GPUs can; decoding keeps up. Not modelled:
stragglers, several rings, the restarts of nodes that are lost. The first table compares the model with what two
processes of one thread each do here, over gloo on loopback, where the same cores compute and communicate: overlap = 0.
"""

import argparse
import os
import socket
import time
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
import torch.distributed
import torch.multiprocessing
from torch.nn.parallel import DistributedDataParallel

from benchmarks.table import print_table
from matchnet.encoders import EncoderSpec
from matchnet.encoders.conv4 import Conv4Spec
from matchnet.encoders.inception import InceptionSpec
from matchnet.episodes import ClassRows, EpisodeSpec
from matchnet.episodic_training import EpisodicData, EpisodicSpec, EpisodicTask
from matchnet.methods import MatchingNetwork
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.store import MemoryStore
from matchnet.training import Callbacks, Worker, train

EPISODE, STEPS, LINES = EpisodeSpec(5, 1, 15), 8, 5
LATENCY = 20e-6  # seconds a turn over a network of a cluster, NCCL's order of magnitude
NETWORKS: dict[str, tuple[EncoderSpec, tuple[int, ...]]] = {
    "Conv-4, 28 px": (Conv4Spec(), (1, 28, 28)), "Inception v3, 299 px": (InceptionSpec(), (3, 299, 299))}
WORKERS = (1, 2, 8, 16, 32, 64)


@dataclass(frozen=True)
class Ring:
    """bandwidth: bytes a second; latency: seconds a turn."""

    bandwidth: float
    latency: float

    def seconds(self, num_bytes: int, n: int) -> float:
        return 2 * (n - 1) / n * num_bytes / self.bandwidth + 2 * (n - 1) * self.latency


def step_seconds(compute: float, num_bytes: int, n: int, ring: Ring, overlap: float) -> float:
    """Seconds of one step of n workers."""
    return compute + max(0.0, ring.seconds(num_bytes, n) - overlap * compute)


def gradient_bytes(model: torch.nn.Module) -> int:
    return sum(4 * weight.numel() for weight in model.parameters() if weight.requires_grad)


def network(name: str) -> MatchingNetwork:
    encoder, shape = NETWORKS[name]
    return MatchingNetwork(MatchingNetworkSpec(encoder=encoder), shape)


def worker(rank: int, world_size: int, port: int, results: torch.multiprocessing.Queue) -> None:
    """Train as shipped; rank 0 notes the seconds of a step, of an all-reduce as large, and of a tiny one."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world_size)
    model = network("Conv-4, 28 px")
    reduce_seconds = [all_reduce_seconds(numbers) for numbers in (gradient_bytes(model) // 4, 1)]
    speeds: list[float] = []

    store = MemoryStore(torch.randint(256, (4000, 1, 28, 28), dtype=torch.uint8))
    data = EpisodicData(store, ClassRows.from_class_ids(np.repeat(np.arange(200), 20)))
    spec = EpisodicSpec(episode=EPISODE, episodes_per_step=world_size, steps=STEPS * LINES, log_every=STEPS,
                        schedule="constant")
    train(DistributedDataParallel(model) if world_size > 1 else model, EpisodicTask(data, spec),
          Callbacks(log=lambda values: speeds.append(values["steps_per_second"])),
          worker=Worker(rank=rank, world_size=world_size))
    if rank == 0:
        results.put((1 / median(speeds[1:]), *reduce_seconds))
    torch.distributed.destroy_process_group()


def all_reduce_seconds(numbers: int, rounds: int = 20) -> float:
    content, taken = torch.zeros(numbers), []
    for _ in range(rounds):
        torch.distributed.barrier()
        started = time.perf_counter()
        torch.distributed.all_reduce(content)
        taken.append(time.perf_counter() - started)
    return median(taken)


def measured(world_size: int) -> tuple[float, float, float]:
    results = torch.multiprocessing.get_context("spawn").SimpleQueue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(worker, (world_size, port, results), nprocs=world_size)
    return results.get()


def here() -> list[list[object]]:
    """Speed of 1 and 2 processes, and the model's speed for 2 from the speed of 1 and from all-reduces alone."""
    alone, *_ = measured(1)
    both, large, tiny = measured(2)
    size = gradient_bytes(network("Conv-4, 28 px"))
    ring = Ring(size / max(large - tiny, 1e-9), tiny / 2)
    predicted = step_seconds(alone, size, 2, ring, overlap=0.0)
    return [["1 process", 1 / alone, ""], ["2 processes", 2 / both, ""],
            ["2 processes, by the model", 2 / predicted, ""],
            ["scaling efficiency, measured", alone / both,
             f"all-reduce {1000 * large:.1f} ms of {1000 * both:.0f} ms"],
            ["scaling efficiency, by the model", alone / predicted, ""]]


def clusters(compute: float, gbit: float) -> list[list[object]]:
    """Efficiency of n GPUs, one a node, for each network."""
    ring = Ring(gbit * 1e9 / 8, LATENCY)
    rows: list[list[object]] = []
    for name in NETWORKS:
        size = gradient_bytes(network(name))
        shares = [compute / step_seconds(compute, size, n, ring, overlap=2 / 3) for n in WORKERS]
        exposed = [compute / step_seconds(compute, size, n, ring, overlap=0.0) for n in WORKERS]
        rows += [[f"{name}: {size / 1e6:.1f} MB a step", *shares], ["  nothing hidden behind backward", *exposed]]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step-seconds", type=float, default=0.1, help="that a GPU computes a step of its own images")
    parser.add_argument("--network-gbit", type=float, default=100.0, help="between two nodes, Gbit a second")
    arguments = parser.parse_args()
    print("Here: Conv-4 on 28 x 28, 5w1s15q, one episode a worker and step, one thread a process, gloo on loopback")
    print_table(["", "episodes/s, or share", ""], here())
    print(f"\nBy the model: {1000 * arguments.step_seconds:.0f} ms of computing a step, {arguments.network_gbit:g} "
          f"Gbit/s, {1e6 * LATENCY:.0f} us a turn; share of perfect scaling")
    print_table(["", *(f"{n} GPUs" for n in WORKERS)], clusters(arguments.step_seconds, arguments.network_gbit))


if __name__ == "__main__":
    main()
