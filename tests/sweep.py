"""A sweep: faults drawn from a seed, under the real stages, on small data.

    PYTHONPATH=. python tests/sweep.py --seed 0 --faults 1000 --record /tmp/sweep.jsonl

With --record each fault's outcome is a line of that file: the same command goes on where an interrupted one was, and
several files (cut by --first and --faults) are counted together with --count FILE...

Each fault gets a copy of a finished repository, of some 2 MB, and a process of its own, forked once all is imported: a
stage runs in it as its command would. What would run in a worker's process runs in that one.

The rule. Either the stage succeeds, and all outputs are those of an undisturbed run; or it ends with a status that is
not 0, one message that names the file or the field and says what to do, and every good output is as it was. A process
that was killed is followed by the same stage without a fault, which has to succeed.
"""

import argparse
import collections
import contextlib
import csv
import gc
import hashlib
import importlib
import io
import json
import math
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import small_corpus
import small_imagenet
import small_omniglot
import torch
from odd_pictures import odd_pictures
from PIL import Image
from places import ROOT

import stages.compare
import stages.download
import stages.evaluate
import stages.report
import stages.resolve
import stages.shard
import stages.train
from matchnet.files import sha256_of
from matchnet.training import Worker
from pipeline import paths
from pipeline.data.load import from_shards
from pipeline.data.raw.datasets import omniglot, ptb
from pipeline.stage_code import PACKAGES
from pipeline.training import driver
from pipeline.training.errors import TrainingError
from pipeline.training.worker import TrainingWorkers, WorkerSettings, train_on_worker
from stages.command import run_stage

SECONDS = 120  # of the processor; a stage takes two
PATIENCE = 3600  # seconds by the clock: on a busy machine a stage hardly runs
TICKS = os.sysconf("SC_CLK_TCK")
ALLOWED_MIB = 4096  # of address space more than this process has
NOBODY = 65534
TABLE = {
    "table": "demo",
    "cluster": {"mirror": "mirror", "num_processes": 1, "max_failures": 0},
    "compute": {"threads_per_worker": 1, "device": "cpu", "precision": "fp32"},
    "datasets": {
        "letters": {
            "source": "omniglot",
            "invert": True,
            "shard_size_mib": 0.05,
            "splits": {"random": {"kind": "random", "num_valid": 3, "num_test": 4}},
        },
        "corpus": {
            "source": "ptb",
            "shard_size_mib": 0.03,
            "splits": {"words": {"kind": "words", "num_test": 8, "num_valid": 6}},
        },
        "photographs": {
            "source": "imagenet",
            "shard_size_mib": 0.02,
            "imagenet": {"sample": True, "shorter_side": 24},
            "splits": {"all": {"kind": "whole", "part": "test"}},
        },
    },
    "recipes": {
        "conv": {
            "split": "random",
            "image_size": 12,
            "method": {"name": "matching_network", "encoder": {"name": "conv4", "num_filters": 4, "num_blocks": 2}},
            "training": {
                "episode": {"num_ways": 4, "num_shots": 1, "num_queries": 1},
                "steps": 4,
                "valid_episode": {"num_ways": 3, "num_shots": 1, "num_queries": 2},
                "valid_episodes": 10,
                "valid_every": 2,
                "checkpoint_every": 2,
                "log_every": 1,
            },
        },
        "bag": {
            "split": "words",
            "context": 4,
            "method": {
                "name": "matching_network",
                "encoder": {"name": "bag_of_words", "num_words": 40, "embedding_size": 8},
            },
            "training": {
                "episode": {"num_ways": 3, "num_shots": 1, "num_queries": 1},
                "steps": 2,
                "valid_episode": {"num_ways": 2, "num_shots": 1, "num_queries": 1},
                "valid_episodes": 10,
                "valid_every": 2,
                "checkpoint_every": 2,
                "log_every": 1,
            },
        },
    },
    "models": {
        "conv": {"recipe": "conv", "from": "shards/letters"},
        "tuned": {"recipe": "conv", "from": "models/demo/conv"},
        "pixels": {"recipe": "conv", "from": "shards/letters", "method": {"name": "pixels"}, "training": None},
        "bag": {"recipe": "bag", "from": "shards/corpus"},
        "photographs": {
            "split": "all",
            "train_parts": [],
            "from": "shards/photographs",
            "image_size": 16,
            "channels": 3,
            "method": {"name": "pixels"},
            "training": None,
        },
    },
    "evaluation": {"episodes": 40, "queries": 1, "columns": ["2w1s"]},
    "rows": {
        "conv": {"model": "conv", "dataset": "letters"},
        "pixels": {"model": "pixels", "dataset": "letters"},
        "tuned": {"model": "tuned", "dataset": "letters"},
        "bag": {"model": "bag", "dataset": "corpus"},
        "photographs": {"model": "photographs", "dataset": "photographs"},
    },
    "comparisons": {"conv": {"row": "conv", "baseline": "pixels", "column": "2w1s"}},
    "report": {"title": "Sweep", "titles": {"conv": "Conv-4", "pixels": "pixels"}, "paper": {}},
}
COMMANDS: dict[str, Callable[[], None]] = {
    "download": lambda: run_stage(stages.download.download, "", "dataset"),
    "shard": lambda: run_stage(stages.shard.shard, "", "dataset"),
    "train": lambda: run_stage(stages.train.train, "", "model"),
    "evaluate": lambda: run_stage(stages.evaluate.evaluate, "", "row"),
    "compare": lambda: run_stage(stages.compare.compare, "", "comparison"),
    "report": stages.report.main,
    "resolve": stages.resolve.main,
}


@dataclass(frozen=True)
class Run:
    """A stage as its command line names it; the folders and files that it reads, and those that it writes."""

    stage: str
    of: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        return [self.of] if self.stage in ("report", "resolve") else [f"demo/{self.of}"]


def runs() -> list[Run]:
    """In an order in which each finds what it reads."""
    found = [Run("resolve", ".", (), ("data/resolved",))]
    places = {
        "letters": ("mirror/omniglot", "mirror/SHA256SUMS"),
        "corpus": ("mirror/ptb", "mirror/SHA256SUMS"),
        "photographs": ("mirror/imagenet", "mirror/SHA256SUMS"),
    }
    for name in TABLE["datasets"]:
        found.append(Run("download", name, places[name], (f"data/raw/{name}", "data/raw/.archives")))
        raw = (f"data/raw/{name}", *(("data/raw/.archives", "mirror/imagenet") if name == "photographs" else ()))
        found.append(Run("shard", name, raw, (f"data/shards/{name}", f"data/shards/.notes/{name}")))
    of_model = {"tuned": "letters", "bag": "corpus", "photographs": "photographs"}
    for name in TABLE["models"]:
        shards = f"data/shards/{of_model.get(name, 'letters')}"
        init = ("data/models/demo/conv",) if name == "tuned" else ()
        model, row, full = (
            str(paths.model_file(f"demo/{name}").parent),
            paths.accuracies_file(f"demo/{name}"),
            f"demo/{name}",
        )
        found.append(
            Run(
                "train",
                name,
                (shards, *init, "data/runs"),
                (model, str(paths.curve_file(full)), str(paths.speed_file(full))),
            )
        )
        found.append(
            Run(
                "evaluate",
                name,
                (shards, model),
                (str(row.parent), str(paths.metrics_file(full)), str(paths.details_file(full))),
            )
        )
    rows = [
        place(f"demo/{name}")
        for name in ("conv", "pixels")
        for place in (paths.model_file, paths.accuracies_file, paths.most_one_way_file, paths.details_file)
    ]
    found.append(
        Run(
            "compare",
            "conv",
            ("data/shards/letters", *map(str, rows)),
            (str(paths.comparison_folder("demo/conv")), str(paths.comparison_file("demo/conv"))),
        )
    )
    found.append(
        Run(
            "report",
            "demo",
            ("results/details", "results/curves", "results/speed", "results/comparisons", "data/evaluations"),
            ("results/demo.md", "results/demo.html"),
        )
    )
    return found


@dataclass
class Outcome:
    """How a process ended: its status, what it said, and whether it was ended by us."""

    status: int
    said: str
    seconds: float
    hung: bool = False

    @property
    def message(self) -> str:
        """The last error that it said, to the end."""
        found = list(re.finditer(r"(?m)^\w*(?:Error|error|Interrupt)\b[^\n]*(?:\n|$)", self.said))
        return self.said[found[-1].start() :].strip() if found else self.said.strip()[-500:]


# -- stages without processes of their own ---------------------------------------------------------------------------


class HereWorker(TrainingWorkers):
    """In place of a worker in a process of its own: the same work in this one."""

    threads = 1

    def fit(self, settings: WorkerSettings, max_failures: int) -> None:
        if reason := train_on_worker(settings, Worker()):
            raise TrainingError(reason)


class HerePool:
    """In place of the processes that decode: each would import all of this."""

    def __init__(self, start: Callable, start_args: tuple, num_processes: int, setting: str = "") -> None:
        self.started = start(*start_args)

    def run(self, work: Callable, tasks: list) -> list:
        return [(task, work(self.started, task)) for task in tasks]

    def close(self) -> None:
        self.started.close()


def start_no_processes() -> None:
    from_shards.WorkerPool = HerePool  # type: ignore[misc, assignment]
    for module in (
        "encodings.utf_8_sig",
        "encodings.cp437",
        "pyarrow.dataset",
        "torch.utils.data",
        "scipy.io",
        "PIL.PngImagePlugin",
        "PIL.JpegImagePlugin",
        "PIL.WebPImagePlugin",
        "ruamel.yaml.cyaml",
        "matplotlib.font_manager",
        "plistlib",
    ):
        importlib.import_module(module)
    Image.init()
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])  # imports 800 modules, which each process would
    resource_tracker.ensure_running()  # started here: the user `nobody` cannot run root's Python
    driver.workers_for = lambda *of: contextlib.nullcontext(HereWorker())  # type: ignore[assignment]
    omniglot.CHARACTERS = small_omniglot.COUNTS  # type: ignore[misc]
    ptb.SENTENCES = small_corpus.COUNTS  # type: ignore[misc]


# -- processes -------------------------------------------------------------------------------------------------------


def forked(
    folder: Path, run: Run, prepare: Callable[[], object] = lambda: None, kill_after: float | None = None
) -> Outcome:
    """Run a stage in a fork of this process, in that folder; `prepare` is called in it first.

    kill_after: seconds of the processor, so that a busy machine has the same kills as a quiet one.
    """
    number, name = tempfile.mkstemp()  # elsewhere: that disk may be full
    os.close(number)
    output = Path(name)
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            _become(folder, output)
            prepare()
            sys.argv = [run.stage, *run.words]
            COMMANDS[run.stage]()
            status = 0
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stderr.flush()
            os._exit(status)
    hung = False
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if used_by(child) > (SECONDS if kill_after is None else kill_after) or time.monotonic() > started + PATIENCE:
            hung = kill_after is None
            os.kill(child, signal.SIGKILL)
            ended = os.waitpid(child, 0)
            break
        time.sleep(0.002)
    said = output.read_bytes().decode(errors="replace")
    output.unlink()
    return Outcome(os.waitstatus_to_exitcode(ended[1]), said, time.monotonic() - started, hung)


def used_by(child: int) -> float:
    """Seconds of the processor that a child, not yet waited for, has had."""
    fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / TICKS


def _become(folder: Path, output: Path) -> None:
    fd = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    os.chdir(folder)
    os.environ.pop("MATCHNET_MIRROR", None)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + ALLOWED_MIB * 2**20,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    torch.set_num_threads(1)
    warnings.resetwarnings()


# -- what a folder holds ---------------------------------------------------------------------------------------------

Digests = dict[str, tuple[str, str]]


def snapshot(folder: Path, known: Digests | None = None, alias: tuple[str, str] = ("", "")) -> Digests:
    """Path -> digests of its bytes, and of what counts of them, for all that is to stay; `known` saves time.

    alias: what stands for what in the files; see `alias_of`.
    """
    found: Digests = {}
    for parent, folders, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            key = path.relative_to(folder).as_posix()
            if not is_passing(key):
                raw = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
                same = known and known.get(key, ("",))[0] == raw
                found[key] = known[key] if same and known else (raw, digest(path, alias))
        folders[:] = [name for name in folders if not is_passing(Path(parent, name).relative_to(folder).as_posix())]
    return found


def is_passing(path: str) -> bool:
    """Unfinished work, and what only saves time: it may come and go."""
    return (
        path.startswith("data/runs")
        or ".archives" in path
        or ".notes" in path
        or path.endswith((".part", ".tmp", ".new"))
        or ".new/" in path
        or path.startswith("results/speed")
        or path.endswith("/speed.json")  # beside a model
    )


def digest(path: Path, alias: tuple[str, str] = ("", "")) -> str:
    """Of a file without its seconds, and of JSON without its white space."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return type(error).__name__
    with contextlib.suppress(Exception):
        if path.name == "dataset.json":
            content = json.dumps(json.loads(content)).encode()
        elif path.suffix == ".json" and "details" in path.parts:
            content = json.dumps({**json.loads(content), "seconds": None}).encode()
        elif path.name == "curve.csv" or (path.suffix == ".csv" and "curves" in path.parts):
            rows = list(csv.DictReader(io.StringIO(content.decode())))
            content = json.dumps([{**row, "episodes_per_second": None} for row in rows]).encode()
        elif path.suffix == ".html" and path.parent.name == "results":  # says when a row ran
            content = re.sub(rb'<p class="opening">.*?</p>', b"", content, flags=re.DOTALL)
        elif path.name == "model.pt":
            values = torch.load(io.BytesIO(content), weights_only=True)
            weights = {name: weight.numpy().tobytes() for name, weight in values.pop("state_dict").items()}
            content = repr([{**values, "seconds": None}, weights]).encode()
    new, old = (text.encode() for text in alias)
    return hashlib.sha256(content.replace(new, old) if new else content).hexdigest()


def alias_of(file: Path, good: Path) -> tuple[str, str]:
    """SHA-256 of a disturbed dataset.json and of the good one, where they say the same.

    A blank at its end leaves the data right; results then name the data by the bytes that they were read from.
    """
    with contextlib.suppress(Exception):
        if file.name == "dataset.json" and json.loads(file.read_bytes()) == json.loads(good.read_bytes()):
            return sha256_of(file), sha256_of(good)
    return "", ""


# -- the repository that is disturbed --------------------------------------------------------------------------------


def build(folder: Path) -> None:
    """A mirror, parameters, and all that the stages make."""
    for package in PACKAGES:  # the stage resolve reads them
        (folder / package).symlink_to(ROOT / package)
    (folder / "mirror/omniglot").mkdir(parents=True)
    for archive in small_omniglot.ALPHABETS:
        small_omniglot.write_zip(folder / "mirror/omniglot" / archive, small_omniglot.members_of(archive))
    small_corpus.write_corpus(folder / "mirror/ptb", small_corpus.corpus())
    (folder / "mirror/imagenet").mkdir()
    write_photographs(folder, small_imagenet.small_archive())
    (folder / "params.yaml").write_text(json.dumps(TABLE, indent=1))
    for run in runs():
        outcome = forked(folder, run)
        assert outcome.status == 0, f"{run}: {outcome.said}"
        if run.stage == "train":  # a checkpoint that an interrupted run could go on from is made on the way
            shutil.rmtree(folder / "data/runs", ignore_errors=True)


def write_photographs(folder: Path, synsets: Mapping[str, Mapping[str, bytes]]) -> None:
    (folder / "mirror/imagenet" / small_imagenet.ARCHIVE).write_bytes(small_imagenet.tar_of_synsets(synsets))
    sums = (f"{sha256_of(path)}  {path.relative_to(folder / 'mirror')}\n" for path in (folder / "mirror").rglob("*.*"))
    (folder / "mirror/SHA256SUMS").write_text("".join(sums))


# -- faults ----------------------------------------------------------------------------------------------------------


@dataclass
class Fault:
    """What is done to a repository before a stage runs.

    file: the file that is disturbed; "" where it is none of its own.
    prepare: called in the stage's process first.
    named: of which a message has to name one.
    """

    kind: str
    run: Run
    file: str = ""
    about: str = ""
    prepare: Callable[[], object] = lambda: None
    kill_after: float | None = None
    named: tuple[str, ...] = ()
    results_may_differ: bool = False
    steps: list[Callable[[Path], None]] = field(default_factory=list)


def a_run(chance: random.Random) -> Run:
    """Any; rarely the one that takes seconds, since it reads all code."""
    found = runs()
    return chance.choice(found if chance.random() < 0.1 else [run for run in found if run.stage != "resolve"])


def files_of(folder: Path, places: tuple[str, ...]) -> list[str]:
    found = [
        path
        for place in places
        for path in ([folder / place] if (folder / place).is_file() else sorted((folder / place).rglob("*")))
        if path.is_file()
    ]
    return [path.relative_to(folder).as_posix() for path in found]


def of_a_file(kind: str, damage: Callable[[Path, random.Random], object]) -> Callable:
    """A fault that does something to one of the files that a stage reads or writes."""

    def draw(chance: random.Random, base: Path) -> Fault:
        while not (files := files_of(base, (run := a_run(chance)).reads + run.writes)):
            continue
        chosen = chance.choice([*files, "params.yaml"] if chance.random() < 0.1 else files)
        seed = chance.random()
        return Fault(
            kind,
            run,
            chosen,
            named=(chosen, Path(chosen).name),
            results_may_differ=kind == "removed" and run.stage == "report",  # that row has not run, the report says
            steps=[lambda folder: damage(folder / chosen, random.Random(seed))],
        )  # type: ignore[list-item]

    return draw


def flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 1, 1, 8, 100])):
        if content:
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    rewrite(path, bytes(content))


def cut(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    rewrite(
        path, content[: chance.choice([1, len(content) // 2, len(content) - 1, chance.randrange(len(content) + 1)])]
    )


def replace_by_junk(path: Path, chance: random.Random) -> None:
    junk = [
        b"\0" * 4096,
        b"\xff\xfe\xfd" * 99,
        b"null",
        b"[]",
        b"{}",
        b"<html>404</html>",
        chance.randbytes(3000),
        b"[" * 50_000,
        "🦒\u202e".encode(),
    ]
    rewrite(path, chance.choice(junk))


def append_junk(path: Path, chance: random.Random) -> None:
    rewrite(path, path.read_bytes() + chance.choice([b"\n", b"\0" * 512, b"x", chance.randbytes(700)]))


def replace_by_folder(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.mkdir()
    if chance.random() < 0.5:
        (path / "inside").write_text("x")


def replace_by_another(path: Path, chance: random.Random) -> None:
    """A good file in the wrong place, the like of a mixed-up copy."""
    others = [
        other for other in sorted(path.parent.parent.rglob(f"*{path.suffix}")) if other.is_file() and other != path
    ]
    if others:
        rewrite(path, chance.choice(others).read_bytes())


def replace_by_link(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.symlink_to(chance.choice(["nowhere", path.name, "/dev/null"]))


def set_clock(path: Path, chance: random.Random) -> None:
    when = chance.choice([0, 1, 2**31 + 5, -10_000, 10**10, time.time() - 1e7, time.time() + 1e7])
    os.utime(path, (when, when))


def rewrite(path: Path, content: bytes) -> None:
    """Also of what may only be read."""
    path.unlink()
    path.write_bytes(content)


def permissions(chance: random.Random, base: Path) -> Fault:
    """The stage runs as nobody, who may do everything here but read a file, or write into a folder."""
    run = a_run(chance)
    files = files_of(base, run.reads + run.writes) or ["params.yaml"]
    chosen, is_folder = chance.choice(files), chance.random() < 0.5
    place = str(Path(chosen).parent) if is_folder else chosen

    def take(folder: Path) -> None:
        subprocess.run(["chown", "-R", str(NOBODY), folder], check=True)
        os.chown(folder.parent, NOBODY, -1)
        os.chown(folder / place, 0, 0)
        os.chmod(folder / place, 0o555 if is_folder else 0o000)

    def become() -> None:
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    return Fault(
        "permissions taken",
        run,
        "" if is_folder else chosen,
        place,
        become,
        named=(place, Path(place).name),
        steps=[take],
    )


def full_disk(chance: random.Random, base: Path) -> Fault:
    """Little more room than the repository takes; of its outputs some are gone, so that there is something to write."""
    run, room = a_run(chance), chance.choice([0, 1, 4, 16, 64, 256]) * 1024

    def fill(folder: Path) -> None:
        if chance.random() < 0.7:
            remove_outputs(folder, run)
        free = shutil.disk_usage(folder).free
        with contextlib.suppress(OSError), open(folder / "ballast", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free - room))

    return Fault("disk full", run, about=f"{room} bytes", named=("No space left", "are free"), steps=[fill])


def killed(chance: random.Random, base: Path) -> Fault:
    run = chance.choice(
        [run for run in runs() if run.stage in ("download", "shard", "train", "evaluate", "compare", "report")]
    )
    return Fault(
        "killed",
        run,
        about="at a random moment",
        kill_after=chance.random() * 1.5,
        steps=[lambda folder: remove_outputs(folder, run) if chance.random() < 0.7 else None],
    )


def remove_outputs(folder: Path, run: Run) -> None:
    for place in run.writes:
        if (folder / place).is_dir():
            shutil.rmtree(folder / place)
        else:
            (folder / place).unlink(missing_ok=True)


TEXTS = ["", " ", "🦒", "a\u202eb", "../../x", "a;touch X", "x" * 100_000, "-1", "null", "\x00", "a\nb", "C:\\x", "1e3"]
MUTATIONS: dict[str, Callable[[Any, random.Random], Any]] = {
    "type": lambda value, chance: chance.choice([None, True, "text", 7, 0.5, [], {}, [1, "a"], {"a": {"b": 1}}]),
    "sign": lambda value, chance: -value if isinstance(value, int | float) and value else -1,
    "size": lambda value, chance: chance.choice(
        [0, 1, 10**6, 10**12, 10**400, 1e308, math.inf, math.nan, -math.inf, 1e-320]
    ),
    "unicode": lambda value, chance: chance.choice(TEXTS),
    "list": lambda value, chance: [value] if not isinstance(value, list) else value * 2,
}
ENDLESS = ("steps", "episodes", "valid_episodes", "num_draws")  # for which 10^12 is possible, and takes as long


def mutated_parameters(chance: random.Random, base: Path) -> Fault:
    """One value of params.yaml is another, missing, or one too many."""
    run = a_run(chance)
    values = json.loads((base / "params.yaml").read_text())
    leaves = list(_leaves(values))
    path = chance.choice(leaves)
    how = chance.choice([*MUTATIONS, "missing", "extra"])
    parent: Any = values
    for key in path[:-1]:
        parent = parent[key]
    if how == "missing":
        del parent[path[-1]]
    elif how == "extra" and isinstance(parent, dict):
        parent[chance.choice(["more", "stepz", "🦒", "", "x" * 5000, "a.b"])] = chance.choice([1, "x", None, {}])
    elif how != "extra":
        value = MUTATIONS[how](parent[path[-1]], chance)
        if path[-1] in ENDLESS and isinstance(value, int | float) and value > 1000:
            value = 7
        parent[path[-1]] = value
    text = (
        json.dumps(values, indent=1, ensure_ascii=False)
        .replace("-Infinity", "-.inf")
        .replace("Infinity", ".inf")
        .replace("NaN", ".nan")
    )
    about = f"{'.'.join(map(str, path))} {how}" + (
        f": {parent.get(path[-1])!r:.80}" if isinstance(parent, dict) else ""
    )
    return Fault(
        f"parameter, {how}",
        run,
        "params.yaml",
        about,
        named=("params.yaml", *map(str, path[-1:])),
        results_may_differ=True,
        steps=[lambda folder: rewrite(folder / "params.yaml", text.encode())],
    )


def _leaves(values: Any, path: tuple = ()) -> Iterator[tuple]:
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from _leaves(value, (*path, key))


PICTURES = odd_pictures()


def odd_picture(chance: random.Random, base: Path) -> Fault:
    """One photograph of the archive is something that a picture should not be; download and shard, as one stage."""
    name, content = chance.choice(sorted(PICTURES.items()))
    file = f"{small_imagenet.SYNSETS[0]}_3.JPEG"

    def put(folder: Path) -> None:
        archive = small_imagenet.small_archive()
        archive[small_imagenet.SYNSETS[0]][file] = content
        write_photographs(folder, archive)
        run = Run("download", "photographs", (), ())
        assert (outcome := forked(folder, run)).status == 0, outcome.said

    run = next(run for run in runs() if (run.stage, run.of) == ("shard", "photographs"))
    return Fault(
        "odd picture",
        run,
        f"mirror/imagenet/{small_imagenet.ARCHIVE}",
        name,
        named=(file,),
        results_may_differ=True,
        steps=[put],
    )


KINDS: dict[str, tuple[int, Callable[[random.Random, Path], Fault]]] = {
    "bytes flipped": (4, of_a_file("bytes flipped", flip)),
    "cut": (2, of_a_file("cut", cut)),
    "emptied": (1, of_a_file("emptied", lambda path, chance: rewrite(path, b""))),
    "removed": (1, of_a_file("removed", lambda path, chance: path.unlink())),
    "replaced by junk": (2, of_a_file("replaced by junk", replace_by_junk)),
    "something appended": (1, of_a_file("something appended", append_junk)),
    "replaced by a folder": (1, of_a_file("replaced by a folder", replace_by_folder)),
    "replaced by another file": (1, of_a_file("replaced by another file", replace_by_another)),
    "replaced by a link": (1, of_a_file("replaced by a link", replace_by_link)),
    "clock set": (1, of_a_file("clock set", set_clock)),
    "permissions taken": (2, permissions),
    "disk full": (2, full_disk),
    "killed": (2, killed),
    "parameter": (6, mutated_parameters),
    "odd picture": (3, odd_picture),
}


# -- the rule --------------------------------------------------------------------------------------------------------

WHAT_TO_DO = re.compile(
    r"\b(run|trains it|delete|write|free|check|remove|names?|set|make|lower|take|restore|mount|correct|train|add|use|"
    r"give|save|put|choose|fetch|download|rename|change|let|leave|known are|did you mean|raise|is it|"
    r"must be|must have)\b"
)


def broken(fault: Fault, outcome: Outcome, before: Digests, after: Digests, good: Digests) -> str:
    """Which part of the rule does not hold; "" if it does. `good` is what an undisturbed run leaves."""
    if outcome.hung:
        return f"no end after {SECONDS} s of the processor"
    changed = sorted(
        path
        for path in good
        if path not in (fault.file, "params.yaml") and before.get(path) == good[path] and not same(after, good, path)
    )
    if "Traceback" in outcome.said:
        return "a traceback"
    if re.search(r"0x[0-9a-f]{6,}", outcome.said):
        return "an address of memory"
    if outcome.status == 0:
        if fault.results_may_differ:
            return ""
        written = [
            path for path in good if any(path == place or path.startswith(f"{place}/") for place in fault.run.writes)
        ]
        wrong = sorted(path for path in written if not same(after, good, path))
        return (
            f"succeeded with other results: {', '.join(wrong[:3])}"
            if wrong
            else (f"succeeded and changed {', '.join(changed[:3])}" if changed else "")
        )
    if changed:
        return f"good outputs have changed: {', '.join(changed[:3])}"
    if outcome.status != 1:
        return f"status {outcome.status}"
    message = outcome.message
    if len(message) > 3000:
        return f"a message of {len(message):,} characters"
    if not any(name in outcome.said for name in fault.named):
        return f"names none of {', '.join(fault.named)}"
    return "" if WHAT_TO_DO.search(message) else "does not say what to do"


def same(after: Digests, good: Digests, path: str) -> bool:
    """In what counts."""
    return path in after and after[path][1] == good[path][1]


class Sweep:
    """The base, and room for copies of it, in memory."""

    def __init__(self) -> None:
        start_no_processes()
        self.room = Path(tempfile.mkdtemp(prefix="sweep", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.base = self.room / "base"
        self.base.mkdir()
        os.chmod(self.room, 0o755)
        gc.collect()
        gc.freeze()  # what is shared with the forks stays shared
        build(self.base)
        self.good = snapshot(self.base)
        # copies of the repository link to the archive of the base: a fault must not stay in it
        self.shared = {path: (path.read_bytes(), path.stat()) for path in sorted(self.base.glob("mirror/*/*.tar"))}
        self.can_mount = subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0

    def __enter__(self) -> "Sweep":
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.room, ignore_errors=True)

    def try_one(self, seed: int, number: int) -> tuple[Fault, str, Outcome] | None:
        """Fault number so and so; None for one that cannot be tried here."""
        chance = random.Random(f"{seed} {number}")
        names = list(KINDS)
        name = chance.choices(names, [KINDS[kind][0] for kind in names])[0]
        fault = KINDS[name][1](chance, self.base)
        if fault.kind in ("permissions taken", "disk full") and os.getuid() != 0:
            return None
        place = self.room / f"fault{number}"
        place.mkdir()
        mounted = fault.kind == "disk full"
        if mounted and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place]).returncode:
            return None
        try:
            folder = Path(shutil.copytree(self.base, place / "repository", symlinks=True))
            for step in fault.steps:
                step(folder)
            before, alias = snapshot(folder, self.good), alias_of(folder / fault.file, self.base / fault.file)
            outcome, why = forked(folder, fault.run, fault.prepare, fault.kill_after), ""
            if fault.kill_after is not None:
                outcome = forked(folder, fault.run)
                why = "" if outcome.status == 0 else "the same command does not go on"
            after = snapshot(folder, self.good, alias)
            return fault, why or broken(fault, outcome, before, after, self.good), outcome
        finally:
            if mounted:
                subprocess.run(["umount", "--lazy", place], check=True)
            shutil.rmtree(place, ignore_errors=True)
            for path, (content, status) in self.shared.items():
                if (path.stat().st_mtime_ns, path.stat().st_mode) != (status.st_mtime_ns, status.st_mode):
                    path.write_bytes(content)
                    os.chmod(path, status.st_mode)
                    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@dataclass(frozen=True)
class Found:
    """What one fault led to; how: a column of the table."""

    number: int
    kind: str
    how: str
    what: str = ""
    why: str = ""
    message: str = ""

    def __str__(self) -> str:
        return f"{self.number} {self.kind}: {self.what}: {self.why}\n    {self.message}"


def sweep(seed: int, numbers: Iterable[int]) -> Iterator[Found]:
    """Each fault's outcome, as soon as it is known."""
    with Sweep() as tried:
        for number in numbers:
            found = tried.try_one(seed, number)
            if found is None:
                yield Found(number, "cannot be tried here", "skipped")
                continue
            fault, why, outcome = found
            yield Found(
                number,
                fault.kind,
                "broken" if why else "right result" if outcome.status == 0 else "refused",
                f"{fault.run.stage} {fault.run.of}, {fault.file} {fault.about}".strip(),
                why,
                outcome.message[-1500:],
            )


def read_record(files: Iterable[Path]) -> list[Found]:
    """A last line that was cut off counts for nothing: its fault is tried again."""
    lines = [line for file in files if file.exists() for line in file.read_text().splitlines(keepends=True)]
    return [Found(**json.loads(line)) for line in lines if line.endswith("\n")]


def recorded(seed: int, numbers: range, record: Path | None) -> list[Found]:
    """The sweep, less what `record` has already; what breaks the rule is printed at once."""
    found = read_record([record]) if record else []
    known = {one.number for one in found}
    found = [one for one in found if one.number in numbers]
    for one in sweep(seed, [number for number in numbers if number not in known]):
        found.append(one)
        if record:
            with open(record, "a") as file:
                file.write(json.dumps(asdict(one)) + "\n")
        if one.how == "broken":
            print(f"{seed}/{one}", flush=True)
    return found


def counted(found: Iterable[Found]) -> dict[str, collections.Counter]:
    """By kind, of each outcome."""
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for one in found:
        counts[one.kind][one.how] += 1
    return counts


def table(counts: Mapping[str, collections.Counter]) -> str:
    columns = ("right result", "refused", "broken", "skipped")
    lines = [f"{'fault':<28}" + "".join(f"{column:>14}" for column in columns)]
    rows = {**{kind: counts[kind] for kind in sorted(counts)}, "all": sum(counts.values(), collections.Counter())}
    return "\n".join(
        [
            *lines,
            *(f"{kind:<28}" + "".join(f"{count[column]:>14}" for column in columns) for kind, count in rows.items()),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first fault: with --faults 1 one is repeated"
    )
    parser.add_argument("--record", type=Path, help="a file for the outcomes; those that it has are not tried again")
    parser.add_argument("--count", type=Path, nargs="+", help="count the outcomes in these files, and try nothing")
    given = parser.parse_args()
    numbers = range(given.first, given.first + given.faults)
    found = read_record(given.count) if given.count else recorded(given.seed, numbers, given.record)
    print(table(counted(found)))
    sys.exit(any(one.how == "broken" for one in found))


if __name__ == "__main__":
    main()
