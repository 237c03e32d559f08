"""Kill stages while they write: at any fsync or rename, or with half of a file written; every second power is cut.

tests/chaos.py runs it with --kind shards published results. After each kill no output may be a broken one: each is as
it was, as it should be, or not there. Then the same command runs to its end, and all outputs are those of a run that
was left alone, to the last bit of the weights.
"""

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import sweep
from kill_points import die_at
from power_loss import cut_power, record_all, watch
from sweep import Digests, Run, Sweep, forked, remove_outputs, runs, same, snapshot

from pipeline.data.nodes.upload import upload_shards
from pipeline.data.shards.folder import ShardFolder

FILE_KINDS = ("shards", "published", "results")
KILLED = -9
PUBLISHED = Run("publish", "letters", ("data/shards/letters",), ("storage",))
# what is put back to what was synced; none has a link in it
DISKS = ("data/shards", "data/models", "data/evaluations", "data/runs", "results", "storage")


@dataclass(frozen=True)
class FileKill:
    """One kill: of which stage, at which moment of how many, whether the power was cut, and what was there before."""

    kind: str
    run: Run
    moment: int
    moments: int
    power: bool
    fresh: bool

    def __str__(self) -> str:
        where = f"{self.kind:<12}{self.run.stage} {self.run.of}, moment {self.moment + 1} of {self.moments}"
        return where + ", no outputs before" * self.fresh + ", power cut" * self.power


class Killer:
    """Stages of a small repository, each kill in a copy of it."""

    def __init__(self, base: Sweep) -> None:
        self.base = base
        self.moments: dict[tuple[Run, bool], int] = {}
        sweep.COMMANDS["publish"] = lambda: publish(Path("data/shards/letters"), Path("storage"))
        published = forked(base.base, PUBLISHED)
        assert published.status == 0, published.said
        base.good = snapshot(base.base)

    def kills(self, kind: str, count: int, seed: int) -> Iterator[FileKill]:
        """Raises AssertionError where the rule does not hold."""
        chance = random.Random(f"{kind} {seed}")
        of_kind = {"shards": [run for run in runs() if run.stage == "shard"], "published": [PUBLISHED],
                   "results": [run for run in runs() if run.stage in ("train", "evaluate", "compare", "report")]}[kind]
        for number in range(count):
            run, fresh = chance.choice(of_kind), chance.random() < 0.7
            moments = self.count(run, fresh)
            if moments == 0:  # all is there, and nothing is written
                fresh, moments = True, self.count(run, True)
            kill = FileKill(kind, run, chance.randrange(moments), moments, number % 2 == 1, fresh)
            self.kill(kill)
            yield kill

    def count(self, run: Run, fresh: bool) -> int:
        """Moments of this stage at which it can be killed."""
        if (run, fresh) not in self.moments:
            with self.copy(run, fresh) as folder:
                counted = folder / "counted"
                counted.write_text("0")
                outcome = forked(folder, run, partial(die_at, None, counted))
                assert outcome.status == 0, outcome.said
                self.moments[run, fresh] = int(counted.read_text())
        return self.moments[run, fresh]

    def kill(self, kill: FileKill) -> None:
        with self.copy(kill.run, kill.fresh) as folder:
            before, record = snapshot(folder, self.base.good), folder.parent / "synced"
            for disk in existing(folder):
                record_all(disk, record)

            def prepare() -> None:
                watch(record, folder)
                die_at(kill.moment, folder / "counted")

            outcome = forked(folder, kill.run, prepare)
            assert outcome.status == KILLED, f"{kill}: it ended with {outcome.status}: {outcome.said}"
            if kill.power:
                cut_power(record, *existing(folder))
            self.check_that_nothing_is_broken(kill, before, snapshot(folder, self.base.good))
            again = forked(folder, kill.run)
            assert again.status == 0, f"{kill}: the same command does not go on: {again.said}"
            after = snapshot(folder, self.base.good)
            wrong = [path for path in self.base.good if not same(after, self.base.good, path)]
            assert not wrong, f"{kill}: it ended with another {', '.join(wrong[:3])}"

    def check_that_nothing_is_broken(self, kill: FileKill, before: Digests, after: Digests) -> None:
        good = self.base.good
        of_run = {path for path in good for place in kill.run.writes if path == place or path.startswith(f"{place}/")}
        for path in good:
            if path in of_run and path not in after:
                continue  # not there yet, or a folder that is being replaced
            assert same(after, good, path) or after.get(path) == before.get(path), f"{kill}: {path} is broken"

    def copy(self, run: Run, fresh: bool) -> "Copy":
        return Copy(self.base, run, fresh)


class Copy:
    """A copy of the repository, without the outputs of a stage if it is to be `fresh`; removed after the block."""

    def __init__(self, base: Sweep, run: Run, fresh: bool) -> None:
        self.folder = base.room / "killed" / "repository"
        shutil.copytree(base.base, self.folder, symlinks=True)
        if fresh:
            remove_outputs(self.folder, run)

    def __enter__(self) -> Path:
        return self.folder

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.folder.parent)


def existing(folder: Path) -> list[Path]:
    return [folder / disk for disk in DISKS if (folder / disk).is_dir()]


def publish(shards: Path, storage: Path) -> None:
    upload_shards(ShardFolder(shards), str(storage.absolute()))


def kill_while_files_are_written(kinds: list[str], kills: int, seed: int) -> None:
    with Sweep() as base:
        killer = Killer(base)
        for kind in kinds:
            for kill in killer.kills(kind, kills, seed):
                print(kill, flush=True)
            print(f"{kind}: {kills} kills, and all outputs are those of a run left alone", flush=True)
