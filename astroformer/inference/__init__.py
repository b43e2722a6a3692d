"""What trained networks say of images without labels: `predict`, for notebooks and for the command.

    from astroformer.inference import predict
    frame = predict(["runs/RUN/last.pt"], "cutouts/")

One checkpoint or several, a folder, a file or a list of files; a row for each image, with its
label, probabilities calibrated on held-out images, and how unlike the training images it is.
"""

from astroformer.inference.predicting import Outcome, predict, write

__all__ = ["Outcome", "predict", "write"]
