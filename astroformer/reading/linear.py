"""How far one gets without a network: logistic regression on pixels. The yardstick for "hard
enough".
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from astroformer.data import Images


def linear_accuracy(train: Images, test: Images, *, size: int = 32) -> float:
    """Percent of test images that logistic regression on standardised pixels, averaged down to
    size x size, gets right.
    """
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=200))
    classifier.fit(_reduced(train, size), train.labels)
    return 100 * float(np.mean(classifier.predict(_reduced(test, size)) == test.labels))


def _reduced(images: Images, size: int) -> np.ndarray:
    """(N, size * size * 3) float: block means where the image is larger."""
    block = max(1, images.image_size // size)
    side = images.image_size // block * block
    pixels = images.array()[:, :side, :side].astype(np.float32)
    means = pixels.reshape(len(pixels), side // block, block, side // block, block, 3).mean((2, 4))
    return means.reshape(len(means), -1)
