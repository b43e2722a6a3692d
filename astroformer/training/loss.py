"""The loss of a micro-batch."""

from torch import Tensor

from astroformer.models.spectformer_h import token_label_loss


def loss_of(outputs: Tensor | tuple, target: Tensor) -> Tensor:
    """Cross-entropy with probabilities (B, K), in float32; that of token labelling where the
    network returns what it needs.
    """
    if isinstance(outputs, tuple):
        logits, token_logits, box = outputs
        return token_label_loss((logits.float(), token_logits.float(), box), target)
    return -(target * outputs.float().log_softmax(1)).sum(1).mean()
