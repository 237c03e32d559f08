"""Part 2 of benchmarks/gpu.sh: episodes of Conv-4 a second, with 1, 16 and 256 of them in a step.

`shipped` is matchnet.training.train in bf16, images on the device, episodes drawn by a thread ahead. `bare` is forward,
backward and AdamW on resident episodes and nothing else; `graph` is that step as one CUDA graph, which has no Python in
it: the limit. `compiled` and `compiled, CUDA graphs` are the shipped loop with torch.compile (the second with
mode="reduce-overhead"); each first compiles, for tens of seconds.
"""

import argparse
import itertools
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F

from benchmarks.gpu_part import LINES, Part, calls_per_second, easy_images, forget_peak, peak_mib, steps_per_second
from matchnet.encoders.conv4 import Conv4, Conv4Spec
from matchnet.episodes import EpisodeSpec
from matchnet.episodic_training import EpisodicData, EpisodicSpec, EpisodicTask
from matchnet.methods import MatchingNetwork
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.training import autocast

EPISODE = EpisodeSpec(5, 1, 15)
GREY_28, COLOURED_84 = (1, 28, 28), (3, 84, 84)
STEPS = {1: 200, 16: 60, 256: 12}  # between two lines of the log, at 28 px
SHARES_AHEAD = 2  # as pipeline.training.data has it
COMPILE_SECONDS = 25.0


def task_of(data: EpisodicData, episodes: int, steps: int) -> EpisodicTask:
    spec = EpisodicSpec(episode=EPISODE, episodes_per_step=episodes, schedule="constant", steps=LINES * steps,
                        log_every=steps, checkpoint_every=LINES * steps)
    task = EpisodicTask(data, spec)
    task.prefetch = SHARES_AHEAD
    return task


def bare_step(part: Part, shape: tuple[int, ...], spec: Conv4Spec, episodes: int,
              capturable: bool) -> Callable[[], None]:
    """Forward, backward and update on a few episodes that are on the device."""
    encoder = Conv4(spec, shape).to(part.device)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-3, fused=part.cuda, capturable=capturable)
    N, Q = EPISODE.num_ways, EPISODE.num_ways * EPISODE.num_queries
    images = itertools.cycle([torch.rand(episodes * (N + Q), *shape, device=part.device)
                              for _ in range(1 if capturable else 3)])
    way_B = torch.arange(N, device=part.device).repeat_interleave(EPISODE.num_queries).repeat(episodes)

    def step() -> None:
        optimizer.zero_grad()
        with autocast(part.device, "bf16"):
            embedding_BD = encoder(next(images))
        embedding_ETD = F.normalize(embedding_BD.float(), dim=-1).unflatten(0, (episodes, N + Q))
        score_EQN = 10 * embedding_ETD[:, N:] @ embedding_ETD[:, :N].mT
        F.cross_entropy(score_EQN.flatten(0, 1), way_B).backward()
        optimizer.step()

    return step


def graph_of(step: Callable[[], None]) -> Callable[[], None]:
    """The step as one CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(5):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def measure(part: Part, shape: tuple[int, int, int], sizes: dict[int, int]) -> dict[int, float]:
    """Shipped, bare and graph, for each number of episodes; the limit of each, in episodes a second."""
    encoder = part.conv4
    data = easy_images(64, 20, shape)
    data = replace(data, store=data.store.to(part.device), valid_classes=None)  # type: ignore[attr-defined]
    limits: dict[int, float] = {}
    for episodes, steps in sizes.items():
        what = f"5w1s15q, {shape[1]} px, {episodes} a step"
        bare = limit = float("nan")
        with part.attempt(f"{what}, bare"):
            bare = episodes * calls_per_second(bare_step(part, shape, encoder, episodes, False), steps, part.device)
        with part.attempt(f"{what}, graph"):
            if part.cuda:
                replay = graph_of(bare_step(part, shape, encoder, episodes, True))
                limit = episodes * calls_per_second(replay, steps, part.device)
        limits[episodes] = limit if part.cuda else bare
        with part.attempt(f"{what}, shipped"):
            forget_peak(part.device)
            method = MatchingNetwork(MatchingNetworkSpec(encoder=encoder), shape).to(part.device)
            shipped = episodes * steps_per_second(method, task_of(data, episodes, steps), part.device)
            part.row(what, shipped, bare, limit, shipped / bare, shipped / limits[episodes], peak_mib(part.device))
    return limits


def compiled(part: Part, shape: tuple[int, int, int], sizes: dict[int, int], limits: dict[int, float]) -> None:
    """The shipped loop with torch.compile."""
    encoder = part.conv4
    data = easy_images(64, 20, shape)
    data = replace(data, store=data.store.to(part.device), valid_classes=None)  # type: ignore[attr-defined]
    for mode in ("reduce-overhead", "default"):
        for episodes, steps in sizes.items():
            what = f"{episodes} a step, compiled" + ", CUDA graphs" * (mode == "reduce-overhead")
            if not part.has(COMPILE_SECONDS, what):
                return
            with part.attempt(what):
                torch.compiler.reset()
                method = MatchingNetwork(MatchingNetworkSpec(encoder=encoder), shape).to(part.device)
                method.compile(mode=mode)
                speed = episodes * steps_per_second(method, task_of(data, episodes, steps), part.device)
                part.row(what, speed, speed / limits[episodes])


def main() -> None:
    part = Part("conv4", argparse.ArgumentParser(description=__doc__,
                                                 formatter_class=argparse.RawDescriptionHelpFormatter))
    torch.backends.cudnn.benchmark = part.cuda  # as pipeline.training.computing has it
    part.begin("episodes a second, bf16", "shipped", "bare", "graph", "of bare", "of limit", "MiB")
    sizes = {1: 1, 2: 1} if part.tiny else STEPS
    limits = measure(part, GREY_28, sizes)
    measure(part, COLOURED_84, {1: 1} if part.tiny else {1: 100, 16: 12})
    if part.cuda:
        part.begin("episodes a second of the shipped loop, compiled", "shipped", "of limit")
        compiled(part, GREY_28, {16: 60, 1: 200}, limits)
    part.end()


if __name__ == "__main__":
    main()
