"""A trained network for other programs: `export` writes a checkpoint of this project as

safetensors  the weights, with all that must be said of them as metadata
hf           a folder as the Hugging Face hub has it, which timm loads
torch        a program of `torch.export`, which torch runs without this library
onnx         a graph, which any runtime of ONNX runs

Each file is loaded again and compared with the checkpoint before it gets its name. The last two
begin with pixels: what normalises them is part of the graph.
"""

from astroformer.exporting.uploading import push
from astroformer.exporting.writing import KINDS, Exported, export

__all__ = ["KINDS", "Exported", "export", "push"]
