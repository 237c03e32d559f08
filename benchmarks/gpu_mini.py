"""Part 6 of benchmarks/gpu.sh: as much of Table 2 on miniImageNet as the time allows.

`--mini` names a tar of the photographs (n0153282900000005.jpg: a synset and a number, 84 x 84; plain, gz, bz2 or xz),
all or a part of them. Classes are divided as Ravi and Larochelle do. The recipes are those of experiments/mini, with
larger steps and as many of them as fit: 16 episodes a step for matching nets, 256 images for the classifier, and no
random crops. So the figures are a bound of what a few seconds give, and no row of that table.
"""

import argparse
import io
import re
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.gpu_part import Part, easy_images
from matchnet.augmentation import AffineSpec
from matchnet.episodes import ClassRows, EpisodeSpec
from matchnet.episodic_training import EpisodicData, EpisodicSpec, EpisodicTask
from matchnet.evaluation import EpisodeStream, evaluate
from matchnet.methods import (
    Classifier,
    ClassifierSpec,
    MatchingNetwork,
    Method,
    MethodSpec,
    Pixels,
    PixelsSpec,
    build_method,
)
from matchnet.methods.matching_network import MatchingNetworkSpec
from matchnet.statistics import mean_and_interval
from matchnet.store import MemoryStore
from matchnet.training import Worker, train

LISTS = Path("pipeline/data/lists")
NAME = re.compile(r"(n\d{8})\d+\.jpe?g", re.IGNORECASE)
SIZE, SHAPE = 84, (3, 84, 84)
AFFINE = AffineSpec(fill="reflection", max_scale=0.2, max_translation=8.0, mirror=True)
COLUMNS, TEST_EPISODES = (EpisodeSpec(5, 1, 15), EpisodeSpec(5, 5, 15)), 2000
PROBE = 20  # steps that tell how long one takes
SHARES = {"matching-scratch": 0.4, "classifier": 0.3, "matching": 0.3}  # shares of the time for training


@dataclass(frozen=True)
class Photographs:
    store: MemoryStore
    train: ClassRows
    test: ClassRows


def read_tar(path: Path) -> Photographs:
    """Raises ValueError for a tar that has no such photographs of both parts."""
    names, contents = [], []
    with tarfile.open(path) as archive:
        for member in archive:
            found = NAME.fullmatch(Path(member.name).name)
            if found and member.isfile():
                file = archive.extractfile(member)
                assert file is not None
                names.append(found[1])
                contents.append(file.read())
    held_out = [set((LISTS / f"ravi_{part}.txt").read_text().split()) for part in ("valid", "test")]
    classes = sorted(set(names))
    parts = [[c for c, name in enumerate(classes) if wanted(name)] for wanted in (
        lambda name: not any(name in of_part for of_part in held_out), lambda name: name in held_out[1])]
    if any(len(part) < 5 for part in parts):
        raise ValueError(f"{path}: photographs of {len(classes)} classes, {len(parts[0])} to train and "
                         f"{len(parts[1])} to test; each takes at least 5")
    with ThreadPoolExecutor() as pool:
        pixels_RHWC = np.stack(list(pool.map(decode, contents)))
    class_id_R = np.searchsorted(classes, names)
    store = MemoryStore(torch.from_numpy(pixels_RHWC).permute(0, 3, 1, 2))
    return Photographs(store, *(ClassRows.from_class_ids(class_id_R, part) for part in parts))


def decode(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB").resize((SIZE, SIZE)))


class Bench:
    """Training and testing on the photographs."""

    def __init__(self, part: Part, photographs: Photographs) -> None:
        self.part, self.photographs = part, photographs
        self.store = photographs.store.to(part.device)
        self.encoder = part.conv4

    def train(self, spec: MethodSpec, episode: EpisodeSpec, per_step: int, seconds: float, first: Method | None = None,
              **changes: object) -> tuple[Method, int]:
        """Train as many steps as fit into `seconds`, beginning with the encoder of `first` if there is one."""
        torch.manual_seed(0)
        method = build_method(spec, SHAPE, self.photographs.train.num_classes).to(self.part.device)
        if first is not None:
            assert isinstance(method, MatchingNetwork) and isinstance(first, Classifier)
            method.encoder_f.load_state_dict(first.encoder.state_dict())
        data = EpisodicData(self.store, self.photographs.train)
        settings: dict[str, Any] = {"warmup_steps": 1, "affine": AFFINE, "episodes_per_step": per_step} | changes

        def run(method: Method, steps: int) -> float:
            task = EpisodicTask(data, EpisodicSpec(episode=episode, steps=steps, log_every=steps,
                                                   checkpoint_every=steps, **settings))
            task.prefetch = 2
            started = time.perf_counter()
            train(method, task, worker=Worker(device=self.part.device, precision="bf16"))
            return time.perf_counter() - started

        probe = build_method(spec, SHAPE, self.photographs.train.num_classes).to(self.part.device)
        count = 2 if self.part.tiny else PROBE
        run(probe, count)  # includes all work that is done once
        steps = 4 if self.part.tiny else max(PROBE, int(seconds * count / run(probe, count)))
        run(method, steps)
        return method, steps

    def row(self, name: str, method: Method, steps: int) -> None:
        """Accuracies in percent, with intervals over the test episodes."""
        episodes, cells = 20 if self.part.tiny else TEST_EPISODES, []
        for column in COLUMNS:
            stream = EpisodeStream(self.photographs.test, column, seed=0)
            accuracy_E = evaluate(method.to(self.part.device), self.store, stream, episodes, device=self.part.device)
            mean, ci95 = mean_and_interval(accuracy_E)
            cells.append(f"{100 * mean:.1f} +- {100 * ci95:.1f}")
        self.part.row(name, *cells, steps)


def rows(part: Part, photographs: Photographs) -> None:
    bench, matching = Bench(part, photographs), MatchingNetworkSpec(encoder=part.conv4)
    with part.attempt("pixels"):
        bench.row("pixels", Pixels(PixelsSpec()), 0)
    time_left = part.left() - 8
    if time_left < 10 and not part.tiny:
        return part.say("no time to train")
    episode, per_step = EpisodeSpec(5, 5, 6), 2 if part.tiny else 16
    with part.attempt("matching-scratch"):
        bench.row("matching-scratch", *bench.train(matching, episode, per_step, SHARES["matching-scratch"] * time_left))
    with part.attempt("classifier, and matching nets that begin with it"):
        images = EpisodeSpec(photographs.train.num_classes, 0, 4)
        classifier, steps = bench.train(
            ClassifierSpec(encoder=bench.encoder, label_smoothing=0.1), images, 1, SHARES["classifier"] * time_left,
            optimizer="sgd", learning_rate=0.05, weight_decay=5e-4)
        bench.row("classifier", classifier, steps)
        bench.row("matching", *bench.train(matching, episode, per_step, SHARES["matching"] * time_left,
                                           classifier, learning_rate=3e-4))
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mini", type=Path, help="a tar of miniImageNet's photographs")
    part = Part("mini", parser)
    torch.backends.cudnn.benchmark = part.cuda
    path: Path | None = part.arguments.mini
    if path is None and part.tiny:
        data = easy_images(24, 22, SHAPE)
        assert data.valid_classes is not None
        photographs = Photographs(MemoryStore(data.store.samples), data.classes,  # type: ignore[attr-defined]
                                  data.valid_classes)
        part.say("no photographs (--mini): patterns in their place, to try the script")
    elif path is None or not path.is_file():
        part.say(f"left out: {path or '--mini'}: no tar of photographs is named or there")
        return part.end()
    else:
        photographs = read_tar(path)
    part.begin(f"miniImageNet, {photographs.train.num_classes} classes to train and {photographs.test.num_classes} to "
               "test", *(spec.column for spec in COLUMNS), "steps")
    rows(part, photographs)
    part.end()
    return None


if __name__ == "__main__":
    main()
