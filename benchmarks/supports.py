"""Large support sets: seconds and memory of a training step, and of 1,000 queries, against the number of items S.

    python -m benchmarks.supports [--supports 25 1000 10000 100000 1000000] [--train 25 1000 5000 25000]
        [--model matchnet/published/omniglot.pt --shards data/shards/omniglot --split vinyals] [--figure FILE]

A training step is Conv-4 on images of 28 x 28, with at most 1,000 ways and one query a way: all at once, and in chunks
with either statistics of batch normalisation. Plain steps end at --plain-most items. 1,000 queries meet embeddings of
64 numbers: all scores at once, in chunks (running softmax), and attending to the 100 nearest items alone, found exactly
or, where faiss is installed (`pip install faiss-cpu`), by its index HNSW. The limit is to read the S x 64 numbers once.
Each figure is of a fresh process: the best time of some, and by how much its largest resident set grew (Linux alone).

With a model and its shards: the accuracy on all test classes at once, against the number of nearest items attended to.
"""

import argparse
import multiprocessing
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.table import print_table
from matchnet.attention import Attention, AttentionSpec, attend, similarity
from matchnet.chunks import ChunkSpec
from matchnet.episodes import EpisodeSpec
from matchnet.evaluation import EpisodeStream, embed_rows, episode_results, rows_drawn
from matchnet.files import atomic_write
from matchnet.methods.base import Batch
from matchnet.methods.matching_network import MatchingNetwork, MatchingNetworkSpec
from matchnet.running_attention import Support, log_probs_in_chunks
from matchnet.statistics import mean_and_interval

QUERIES, MOST_WAYS, D, NEAREST, SCALE = 1000, 1000, 64, 100, 30.0
IMAGE = (1, 28, 28)
ITEMS = (1, 2, 5, 10, 20, 50, 100, 200)  # numbers of items that a query attends to
EPISODES = 20


@dataclass(frozen=True)
class Measured:
    seconds: float
    mib: float


# ---- what is measured: each returns the call whose time counts, and how often it is tried ----

Prepared = tuple[Callable[[], object], int]


def train_plain(num_items: int, size: int) -> Prepared:
    return _training_step(num_items, None)


def train_set(num_items: int, size: int) -> Prepared:
    return _training_step(num_items, ChunkSpec(size, "set"))


def train_chunk(num_items: int, size: int) -> Prepared:
    return _training_step(num_items, ChunkSpec(size, "chunk"))


def _training_step(num_items: int, chunk: ChunkSpec | None) -> Prepared:
    torch.manual_seed(0)
    method, ways = MatchingNetwork(MatchingNetworkSpec(), IMAGE).train(), min(num_items, MOST_WAYS)
    way_ES, class_EN = torch.arange(num_items).remainder(ways)[None], torch.arange(ways)[None]

    def samples(count: int) -> Tensor:
        image_CHW = torch.randint(256, (1, count, *IMAGE), dtype=torch.uint8)
        return image_CHW.float() / 255 if chunk is None else image_CHW

    batch = Batch(samples(num_items), way_ES, samples(ways), class_EN, class_EN, chunk)

    def step() -> None:
        method.zero_grad()
        method(batch)["loss"].backward()

    return step, 1 if num_items >= 5000 else 3


def query_plain(num_items: int, size: int) -> Prepared:
    query_EQD, support_ESD, way_ES, ways = embeddings(num_items)
    return lambda: attend(similarity("cosine", query_EQD, support_ESD) * SCALE, way_ES, ways), tries(num_items)


def query_chunks(num_items: int, size: int) -> Prepared:
    query_EQD, support_ESD, way_ES, ways = embeddings(num_items)

    def score(query: Tensor, support: Tensor, scale: Tensor) -> Tensor:
        return similarity("cosine", query, support) * scale

    support, scale = Support(support_ESD, way_ES, ways), torch.tensor(SCALE)
    return lambda: log_probs_in_chunks(score, query_EQD, support, scale), tries(num_items)


def query_nearest(num_items: int, size: int) -> Prepared:
    query_EQD, support_ESD, way_ES, ways = embeddings(num_items)
    attention = Attention(AttentionSpec("cosine", "fixed", SCALE)).eval()
    attention.nearest = NEAREST
    return lambda: attention(query_EQD, support_ESD, way_ES, ways), tries(num_items)


def query_index(num_items: int, size: int) -> Prepared:
    """Queries by an index that is built before: once, for any number of queries."""
    import faiss  # type: ignore[import-not-found]

    query_EQD, support_ESD, _, _ = embeddings(num_items)
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexHNSWFlat(D, 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efSearch = 2 * NEAREST
    index.add(torch.nn.functional.normalize(support_ESD[0], dim=-1).numpy())
    query_QD = torch.nn.functional.normalize(query_EQD[0], dim=-1).numpy()
    return lambda: index.search(query_QD, NEAREST), 3


def read_once(num_items: int, size: int) -> Prepared:
    support_ESD = embeddings(num_items)[1]
    return lambda: support_ESD.sum(), 5


def tries(num_items: int) -> int:
    return 3 if num_items <= 100_000 else 1


def embeddings(num_items: int) -> tuple[Tensor, Tensor, Tensor, int]:
    """Embeddings of at most 1,000 ways, with items spread about their way's mean as much as means are apart."""
    generator, ways = torch.Generator().manual_seed(0), min(num_items, MOST_WAYS)
    mean_ND = torch.randn(ways, D, generator=generator)
    way_S, way_Q = torch.arange(num_items) % ways, torch.arange(QUERIES) % ways
    support_ESD, query_EQD = ((mean_ND[way_B] + torch.randn(len(way_B), D, generator=generator))[None]
                              for way_B in (way_S, way_Q))
    return query_EQD, support_ESD, way_S[None], ways


INDEX = f"nearest {NEAREST} by HNSW"
TRAINING = {"plain step": train_plain, "step in chunks": train_set, "step, statistics of a chunk": train_chunk}
QUERYING = {"1,000 queries, plain": query_plain, "1,000 queries in chunks": query_chunks,
            f"1,000 queries, nearest {NEAREST}": query_nearest, INDEX: query_index,
            "limit: reading S x D once": read_once}


def measure(prepare: Callable[[int, int], Prepared], num_items: int, size: int) -> Measured:
    """Measure in a fresh process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(prepare, num_items, size, torch.get_num_threads(), sender))
    process.start()
    sender.close()
    try:
        return Measured(*receiver.recv())
    except EOFError:
        raise RuntimeError(f"{prepare.__name__} of {num_items} items ended; was there too little memory?") from None
    finally:
        process.join()


def _report(prepare: Callable[[int, int], Prepared], num_items: int, size: int, threads: int,
            sender: Connection) -> None:
    torch.set_num_threads(threads)
    prepare(25, size)[0]()  # work that torch does once
    call, times = prepare(num_items, size)
    before, seconds = resident_mib("VmRSS"), []
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    for _ in range(times):
        started = time.perf_counter()
        with torch.set_grad_enabled(prepare in TRAINING.values()):
            call()
        seconds.append(time.perf_counter() - started)
    sender.send((min(seconds), resident_mib("VmHWM") - before))


def resident_mib(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii", errors="replace"))
    return int(found[1]) / 1024 if found else 0.0


# ---- accuracy ----

def accuracies(model_path: Path, shards: Path, split: str, shots: int,
               episodes: int) -> dict[int | None, tuple[float, float]]:
    """Accuracy on all test classes at once, mean and 95% interval by the number of items attended to; None is all."""
    from matchnet.model_file import read_model
    from pipeline.data.load.samples import load_samples
    from pipeline.data.shards.folder import ShardFolder

    model = read_model(model_path)
    samples, method = load_samples(ShardFolder(shards), split, ("test",), model.sample_shape), model.build(model_path)
    assert isinstance(method, MatchingNetwork)
    spec = EpisodeSpec(0, shots, 5).among(samples.num_classes)
    stream = EpisodeStream(samples.classes_for(spec), spec, seed=0)
    features = embed_rows(method, samples.store, rows_drawn(stream, episodes), "cpu")
    found = {}
    for nearest in (*ITEMS, None):
        method.attention.nearest = nearest
        results = episode_results(method, features, stream, range(episodes))
        found[nearest] = mean_and_interval(results.accuracy_E)
        print(f"{spec.column}, {nearest or 'all'} items: {100 * found[nearest][0]:.2f} ± {100 * found[nearest][1]:.2f}",
              flush=True)
    return found


# ---- table and figure ----

Lines = dict[str, dict[int, Measured]]


def draw(file: Path, lines: Lines, accuracy: dict[str, dict[int | None, tuple[float, float]]]) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, ((step, memory), (query, right)) = pyplot.subplots(2, 2, figsize=(9, 7), layout="constrained")
    panels = ((step, TRAINING, "seconds", "seconds of a training step"),
              (memory, TRAINING, "mib", "MiB that a training step takes"),
              (query, QUERYING, "seconds", "seconds of 1,000 queries"))
    for axes, names, field, title in panels:
        for name in names:
            if values := lines.get(name):
                axes.plot(list(values), [getattr(value, field) for value in values.values()], marker="o", markersize=3,
                          label=name)
        axes.set(xlabel="support items", title=title, xscale="log", yscale="log")
        if axes.lines:
            axes.legend(frameon=False, fontsize=7)
    for name, by_items in accuracy.items():
        counts = [items for items in by_items if items is not None]
        percent = [100 * by_items[items][0] for items in counts]
        [line] = right.plot(counts, percent, marker="o", markersize=3, label=name)
        right.axhline(100 * by_items[None][0], color=line.get_color(), linewidth=0.8, linestyle="--")
    right.set(xlabel="nearest items that a query attends to (dashed: all)", title="% right, all test classes",
              xscale="log")
    if accuracy:
        right.legend(frameon=False, fontsize=7)
    matplotlib.rcParams |= {"svg.hashsalt": "supports", "svg.fonttype": "none"}
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file, "wb") as output:
        figure.savefig(output, format="svg", metadata={"Date": None})


def table(lines: Lines, counts: Sequence[int]) -> None:
    def cell(name: str, count: int) -> str:
        found = lines[name].get(count)
        return f"{found.seconds:.3g} s, {max(found.mib, 0):,.0f} MiB" if found else "-"

    print_table(["support items", *(f"{count:,}" for count in counts)],
                [[name, *(cell(name, count) for count in counts)] for name in lines])


def has_faiss() -> bool:
    try:
        import faiss  # noqa: F401
    except ImportError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--supports", type=int, nargs="+", default=[25, 1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--train", type=int, nargs="*", default=[25, 1000, 5000, 25_000])
    parser.add_argument("--plain-most", type=int, default=5000, help="items of a plain training step")
    parser.add_argument("--plain-scores", type=int, default=10_000, help="items of plain queries")
    parser.add_argument("--index-most", type=int, default=1_000_000, help="items of an index, which takes minutes")
    parser.add_argument("--chunk", type=int, default=512)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--shards", type=Path)
    parser.add_argument("--split", default="vinyals")
    parser.add_argument("--episodes", type=int, default=EPISODES, help="of all classes, for the accuracy")
    parser.add_argument("--figure", type=Path, default=Path("docs/figures/supports.svg"))
    options = parser.parse_args()
    lines: Lines = {}
    wanted = [(name, prepare, options.train) for name, prepare in TRAINING.items()]
    wanted += [(name, prepare, options.supports) for name, prepare in QUERYING.items()
               if prepare is not query_index or has_faiss()]
    most = {"plain step": options.plain_most, "1,000 queries, plain": options.plain_scores, INDEX: options.index_most}
    for name, prepare, counts in wanted:
        lines[name] = {}
        for count in counts:
            if count <= most.get(name, count):
                lines[name][count] = measure(prepare, count, options.chunk)
                print(f"{name}: {count:,} items: {lines[name][count]}", flush=True)
    table(lines, sorted({*options.train, *options.supports}))
    accuracy = {} if options.model is None else {
        f"{shots}-shot": accuracies(options.model, options.shards, options.split, shots, options.episodes)
        for shots in (1, 5)}
    draw(options.figure, lines, accuracy)


if __name__ == "__main__":
    main()
