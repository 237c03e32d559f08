"""Part 5 of benchmarks/gpu.sh: time and memory of large support sets, on matchnet's plain path.

A training step of Conv-4 in bf16 on one episode of N ways with a shot and a query each; and 1,000 queries against S
embeddings of 64 numbers. The least that the latter can take is to read S x 64 numbers once (`read once`: a copy of as
many bytes, measured here, divided by two). What does not fit into memory is a line of the table.
"""

import argparse
from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.gpu_part import Part, calls_per_second, forget_peak, peak_mib
from matchnet.attention import Attention, AttentionSpec
from matchnet.methods import Batch, MatchingNetwork
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.training import autocast

WAYS = (25, 1_000, 5_000, 20_000)
SUPPORTS = (1_000, 10_000, 100_000, 1_000_000)
QUERIES, EMBEDDING = 1_000, 64
SHAPE = (1, 28, 28)


def episode(num_ways: int, device: torch.device) -> Batch:
    """An episode of random pixels with one shot and one query a way."""
    support, query = (torch.rand(1, num_ways, *SHAPE, device=device) for _ in range(2))
    way_ES = torch.arange(num_ways, device=device).unsqueeze(0)
    return Batch(support, way_ES, query, way_ES, way_ES)


def training_steps(part: Part, sizes: tuple[int, ...]) -> None:
    method = MatchingNetwork(MatchingNetworkSpec(encoder=part.conv4), SHAPE).to(part.device)
    optimizer = torch.optim.AdamW(method.parameters(), fused=part.cuda)
    for num_ways in sizes:
        what = f"training step, {num_ways:,} ways, 1 shot, 1 query"
        with part.attempt(what):
            batch = episode(num_ways, part.device)

            def step(batch: Batch = batch) -> None:
                optimizer.zero_grad()
                with autocast(part.device, "bf16"):
                    loss = method(batch)["loss"]
                loss.backward()
                optimizer.step()

            forget_peak(part.device)
            seconds = 1 / calls_per_second(step, 1 if part.tiny else 5, part.device)
            part.row(what, 1000 * seconds, peak_mib(part.device), "")


@torch.inference_mode()
def queries(part: Part, sizes: tuple[int, ...]) -> None:
    attention = Attention(AttentionSpec("cosine", "fixed", 30.0)).to(part.device)
    query_EQD = torch.randn(1, QUERIES, EMBEDDING, device=part.device)
    for size in sizes:
        what = f"1,000 queries, {size:,} support items"
        with part.attempt(what):
            support_ESD = torch.randn(1, size, EMBEDDING, device=part.device)
            way_ES = (torch.arange(size, device=part.device) % 1000).unsqueeze(0)
            forget_peak(part.device)
            calls = 1 if part.tiny else 5
            seconds = 1 / calls_per_second(partial(attention, query_EQD, support_ESD, way_ES, 1000), calls, part.device)
            peak, copied = peak_mib(part.device), torch.empty_like(support_ESD)
            read = 0.5 / calls_per_second(partial(copied.copy_, support_ESD), calls, part.device)
            part.row(what, 1000 * seconds, peak, 1000 * read)


def sizes_of(part: Part) -> Iterator[tuple[int, ...]]:
    yield from ((25, 50), (1_000,)) if part.tiny else (WAYS, SUPPORTS)


def main() -> None:
    part = Part("supports", argparse.ArgumentParser(description=__doc__,
                                                    formatter_class=argparse.RawDescriptionHelpFormatter))
    part.begin("large support sets, plain path", "ms", "MiB at most", "read once, ms")
    ways, supports = sizes_of(part)
    training_steps(part, ways)
    queries(part, supports)
    part.end()


if __name__ == "__main__":
    main()
