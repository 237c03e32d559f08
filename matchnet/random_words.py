"""Random words that depend on (seed, stream, number) and nothing else: numpy's Philox, used as a counter."""

from collections.abc import Sequence

import numpy as np


def random_words(seed: int, stream: int, numbers: Sequence[int] | np.ndarray, words_per_number: int,
                 draw: int = 0) -> np.ndarray:
    """(len(numbers), words_per_number) uint64; row i is a function of all arguments but the other numbers.

    Args:
        seed, stream: the two halves of the key, each in [0, 2^64); a stream says what the words are for.
        numbers: counters, at least 0; runs of consecutive numbers cost one call of the generator each.
        draw: the upper half of the counter: other words for the same numbers, if the first ones cannot be used.
    Raises:
        ValueError: a seed outside [0, 2^64).
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed}; it must be at least 0 and below 2^64")
    if not len(numbers):
        return np.empty((0, words_per_number), dtype=np.uint64)
    blocks = -(-words_per_number // 4)  # Philox4x64 gives 4 words a counter value
    key = np.array([seed, stream], dtype=np.uint64)
    counters = np.asarray(numbers, dtype=np.int64)
    runs = np.split(counters, np.flatnonzero(np.diff(counters) != 1) + 1)
    words = [np.random.Philox(counter=(draw << 128) + int(run[0]) * blocks, key=key).random_raw(len(run) * blocks * 4)
             for run in runs]
    return np.concatenate(words).reshape(len(numbers), -1)[:, :words_per_number]


def to_uniform(words: np.ndarray) -> np.ndarray:
    """uint64 words -> float64 in [0, 1), from their high 53 bits."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
