"""Which weights of a network a run changes: all of them, or the classifier's alone, a linear probe
(Alain and Bengio 2016, arXiv:1610.01644) of the features that the other weights compute.

The other weights then get no gradient, and the network computes as in evaluation: statistics of
BatchNorm stay what they were, nothing is dropped, so that the features of an image are the same in
every step.
"""

import types

from torch import nn

from astroformer.training.initial import classifier_names

AUXILIARY = "aux_head."  # of token labelling, which evaluation does not compute


def freeze(model: nn.Module, trained: str) -> nn.Module:
    """The network, prepared in place: for "classifier" training changes the classifier alone; "all"
    changes nothing.

    ValueError in one line for a network whose classifier has no weights of its own.
    """
    if trained == "all":
        return model
    parameters = dict(model.named_parameters())
    taught = {one for one in classifier_names(model, parameters) if not one.startswith(AUXILIARY)}
    if not taught:
        raise ValueError(
            f"{type(model).__name__} has no classifier that could be trained alone; leave out "
            "--set trained=classifier"
        )
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in taught)
    # on the network itself, and a deep copy binds it to the copy
    model.train = types.MethodType(_as_in_evaluation, model)
    return model


def _as_in_evaluation(model: nn.Module, mode: bool = True) -> nn.Module:
    """In place of `train`."""
    return type(model).train(model, False)
