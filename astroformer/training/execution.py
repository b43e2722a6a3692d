"""How a run is executed: what may change its speed and the rounding of its numbers, and not what
was asked for. It is recorded with each attempt and is no part of the run's identity.
"""

import os
from dataclasses import asdict, dataclass, replace

import torch
from torch import nn

from astroformer.data.loader import workers_beside


@dataclass(frozen=True, kw_only=True)
class Execution:
    """None means that the device decides, see `settled`."""

    channels_last: bool | None = None  # memory layout of images and convolutions
    compile: bool = False  # torch.compile
    # float32 products of a GPU in 19 bits (TensorFloat-32), which are several times as fast; off,
    # float32 means float32
    tf32: bool = False
    cudnn_benchmark: bool | None = None  # tries the kernels of convolutions at their first use
    workers: int | None = None  # processes that read and augment images
    grad_checkpointing: bool = False  # computes activations twice instead of keeping them
    world_size: int = 1  # processes that train together

    def __post_init__(self):
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"workers {self.workers} is negative; 0 reads in the same process")

    def settled(self, device: torch.device) -> "Execution":
        """With everything that a device decides written out."""
        on_gpu = device.type == "cuda"
        return replace(
            self,
            # CPUs gain by it where channels are few; timm's tables show GPUs of both kinds.
            channels_last=not on_gpu if self.channels_last is None else self.channels_last,
            cudnn_benchmark=on_gpu if self.cudnn_benchmark is None else self.cudnn_benchmark,
            workers=workers_beside(device) if self.workers is None else self.workers,
        )

    @property
    def layout(self) -> torch.memory_format:
        """Of images and of the weights of convolutions."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def apply(self) -> None:
        """Sets what is set for the whole process."""
        torch.backends.cuda.matmul.allow_tf32 = self.tf32
        torch.backends.cudnn.allow_tf32 = self.tf32
        torch.backends.cudnn.benchmark = bool(self.cudnn_benchmark)

    def prepared(self, model: nn.Module) -> nn.Module:
        """A network in the memory layout that is asked for, on its device."""
        if self.grad_checkpointing:
            if not hasattr(model, "set_grad_checkpointing"):
                raise ValueError(
                    f"{type(model).__name__} cannot compute its activations again; leave out "
                    "--grad-checkpointing"
                )
            model.set_grad_checkpointing()
        return model.to(memory_format=self.layout) if self.channels_last else model

    def recorded(self) -> dict[str, object]:
        """For a ledger record."""
        return asdict(self) | {"threads": torch.get_num_threads(), "process": os.getpid()}
