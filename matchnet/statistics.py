"""The one interval that every accuracy of this project carries."""

import numpy as np

Z_95 = 1.959963984540054  # two-sided 95% quantile of the normal distribution


def mean_and_interval(value_E: np.ndarray) -> tuple[float, float]:
    """Mean over episodes and half the width of its 95% interval, 1.96 s / sqrt(E), s with E - 1 degrees of freedom.

    The interval covers the draw of episodes from these images, for this one model. With other images, other classes or
    another seed of the training, the mean may lie outside the interval.

    Args:
        value_E: the accuracy of each episode, or a difference of two accuracies. Episodes are independent; the queries
            of one episode are not.
    Raises:
        ValueError: fewer than two episodes (no spread to estimate).
    """
    value_E = np.asarray(value_E, dtype=np.float64)
    if value_E.size < 2:
        raise ValueError(f"an interval over {value_E.size} episodes; it takes at least 2: raise their number")
    return float(value_E.mean()), float(Z_95 * value_E.std(ddof=1) / np.sqrt(value_E.size))
