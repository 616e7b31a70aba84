"""Mean and deviation over frames."""

import math
from collections.abc import Sequence
from statistics import fmean


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the population standard deviation of at least one value."""
    mean = fmean(values)
    return mean, math.sqrt(fmean([(value - mean) ** 2 for value in values]))
