"""Does a network move with its image? Theorem, measurement, decomposition, trained networks."""
