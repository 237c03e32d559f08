"""OneShotClassifier on picture files: seconds for many queries against many support pictures, and for decoding alone.

    python -m benchmarks.own_pictures SUPPORT QUERIES [--model omniglot]

SUPPORT has a folder for each class; QUERIES is a folder. Decoding is reading, and bringing to the model's square.
"""

import argparse
import time
from pathlib import Path

from benchmarks.table import print_table
from matchnet import OneShotClassifier
from matchnet.pictures.encoders import load_encoder
from matchnet.pictures.folders import find_queries, find_support
from matchnet.pictures.ground import as_the_model_sees
from matchnet.pictures.inputs import to_picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("support", type=Path)
    parser.add_argument("queries", type=Path)
    parser.add_argument("--model", default="omniglot")
    options = parser.parse_args()
    support, (queries, _) = find_support(options.support), find_queries([options.queries])
    preparation = load_encoder(options.model).preparation
    assert preparation is not None
    started = [time.perf_counter(), time.process_time()]

    def taken() -> tuple[float, float]:
        before = tuple(started)
        started[:] = time.perf_counter(), time.process_time()
        return started[0] - before[0], started[1] - before[1]

    classifier = OneShotClassifier(options.model).fit(support.paths, support.labels)
    rows = [(f"fit, {len(support.paths)} pictures", *taken())]
    classifier.predict(queries)
    rows.append((f"predict, {len(queries)} pictures", *taken()))
    for path in [*support.paths, *queries]:
        image = to_picture(path, 0)
        as_the_model_sees(image, preparation, "auto", clean=True)
    rows.append((f"of both: decoding {len(support.paths) + len(queries)} pictures", *taken()))
    print_table(("what", "seconds", "CPU seconds"), rows)


if __name__ == "__main__":
    main()
