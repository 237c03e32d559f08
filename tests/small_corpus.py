"""A raw folder laid out as Mikolov's Penn Treebank, of a few hundred short sentences, for tests."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.data.raw.datasets import ptb
from pipeline.data.spec import DatasetParams, Part, WordSplit

COUNTS: dict[Part, int] = {"train": 120, "valid": 40, "test": 60}
WORDS = [f"w{number:02d}" for number in range(30)]
PARAMS = DatasetParams(source="ptb", shard_size_mib=0.03, splits={"words": WordSplit(num_test=8, num_valid=6)})


def corpus(seed: int = 0) -> dict[Part, list[str]]:
    """Sentences of 1 to 9 words; frequent words, `<unk>` and `N` among them, as in the real one."""
    random = np.random.default_rng(seed)
    names = ["the", "<unk>", "N", *WORDS]
    weights = 1.0 / np.arange(2, len(names) + 2)
    sentences = {part: [" ".join(random.choice(names, random.integers(1, 10), p=weights / weights.sum()))
                        for _ in range(count)] for part, count in COUNTS.items()}
    sentences["train"][0] = " ".join(names)  # every word is of the training vocabulary
    sentences["test"][7] = sentences["test"][3] = "w01 the w02 w01 w20"  # a sentence that is there twice
    return sentences


def write_corpus(raw_dir: Path, sentences: dict[Part, list[str]]) -> Path:
    """As Mikolov's files are: a space before and after each sentence."""
    raw_dir.mkdir(parents=True, exist_ok=True)
    for part, lines in sentences.items():
        (raw_dir / ptb.FILES[part]).write_text("".join(f" {line} \n" for line in lines), encoding="utf-8")
    return raw_dir


def small_corpus(raw_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All three files; the counts that the reader expects are those of the small ones."""
    monkeypatch.setattr(ptb, "SENTENCES", COUNTS)
    return write_corpus(raw_dir, corpus())
