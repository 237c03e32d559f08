"""A difference between two methods over several trainings of each: its interval is over seeds and episodes."""

import numpy as np
from scipy.stats import t as student_t


def mean_over_seeds(difference_TE: np.ndarray) -> tuple[float, float]:
    """Mean of T pairs of trainings on the same E episodes, and half the width of its 95% interval.

    A pair and an episode each shift a difference at random (a two-way layout without replication; Searle, Casella and
    McCulloch 1992, Variance Components, chapter 4). With the mean squares of pairs, of episodes and of the rest, the
    variance of the mean is (pairs + episodes - rest) / (T E), and at least the larger of the first two alone. Its
    degrees of freedom are Satterthwaite's. With few pairs they are few: with 3, a quantile of 4.3 stands in for 1.96.

    Args:
        difference_TE: of each pair and episode, the accuracy less the baseline's.
    Raises:
        ValueError: fewer than two pairs or two episodes.
    """
    T, E = difference_TE.shape
    if T < 2 or E < 2:
        raise ValueError(f"an interval over {T} pairs of trainings and {E} episodes; it takes at least 2 of both")
    mean, of_pair_T, of_episode_E = difference_TE.mean(), difference_TE.mean(1), difference_TE.mean(0)
    rest_TE = difference_TE - of_pair_T[:, None] - of_episode_E + mean
    pairs, episodes = E * of_pair_T.var(ddof=1), T * of_episode_E.var(ddof=1)
    rest = np.square(rest_TE).sum() / ((T - 1) * (E - 1))
    total = max(pairs + episodes - rest, pairs, episodes)
    if total == 0:
        return float(mean), 0.0
    freedom = total**2 / (pairs**2 / (T - 1) + episodes**2 / (E - 1) + rest**2 / ((T - 1) * (E - 1)))
    return float(mean), float(student_t.ppf(0.975, freedom) * np.sqrt(total / (T * E)))
