"""The interval of a share: so many of so many, such as the images of a class that are recognised or
the runs that diverged.
"""

import math

from scipy.special import ndtri


def wilson(successes: float, trials: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Both ends, from 0 to 1, of the interval of a share of so many trials. `successes` need not be
    whole: where several seeds answer the same images, it is their mean.

    It keeps a width at 0 and at all. ValueError for no trials, or more successes than trials.
    Model: independent trials. Source: Wilson (1927), Journal of the American Statistical
    Association 22.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"There is no share of {successes:g} successes in {trials} trials.")
    z = float(ndtri((1 + confidence) / 2))
    share, scale = successes / trials, 1 + z**2 / trials
    middle = (share + z**2 / (2 * trials)) / scale
    half = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2)) / scale
    return max(0.0, middle - half), min(1.0, middle + half)
