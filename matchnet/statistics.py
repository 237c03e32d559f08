"""The one interval that every accuracy of this project carries."""

import numpy as np

Z_95 = 1.959963984540054  # two-sided 95% quantile of the normal distribution


def mean_and_interval(accuracy_E: np.ndarray) -> tuple[float, float]:
    """Mean over episodes and half the width of its 95% interval, 1.96 s / sqrt(E), s with E - 1 degrees of freedom.

    Args:
        accuracy_E: the accuracy of each episode, in [0, 1]; episodes are independent, queries of one are not.
    Raises:
        ValueError: fewer than two episodes (no spread to estimate).
    """
    accuracy_E = np.asarray(accuracy_E, dtype=np.float64)
    if accuracy_E.size < 2:
        raise ValueError(f"an interval over {accuracy_E.size} episodes; it takes at least 2: raise their number")
    return float(accuracy_E.mean()), float(Z_95 * accuracy_E.std(ddof=1) / np.sqrt(accuracy_E.size))
