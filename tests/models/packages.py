"""Compiles the packages of the integration tests anew, into tests/models/aoti: they are kept, since CI has no compiler of
models. Needs what models/export.py needs.

    python3 tests/models/packages.py
"""

import pathlib
import shutil
import sys
import tempfile

import torch

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "models"), str(ROOT / "models" / "digits")]

from export import Input, export  # noqa: E402


class Words(torch.nn.Module):
    """Two inputs whose lengths must be the same, outputs by name, and an index that may be out of range."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.arange(8.0).reshape(4, 2))

    def forward(self, ids, weights):
        vectors = torch.nn.functional.embedding(ids, self.table)
        return {"sum": (vectors * weights.unsqueeze(2)).sum(1), "twice": weights * 2}


def digits():
    """The shipped model's network with the shipped weights: constants of its graph, told apart by their shapes."""
    from train import Digits

    graph = torch.jit.load(str(ROOT / "models/digits/1/model.pt")).graph
    constants = [node for node in graph.findAllNodes("prim::Constant") if node.output().type().kind() == "TensorType"]
    tensors = [node.t("value") for node in constants]
    by_shape = {tuple(tensor.shape): tensor for tensor in tensors}
    net = Digits()
    net.load_state_dict({name: by_shape[tuple(tensor.shape)] for name, tensor in net.state_dict().items()})
    return net.eval()


def main():
    made = {
        "digits": (digits(), [Input("image:FP32[-1,8,8]")]),
        "words": (Words(), [Input("ids:INT64[-1,-1]"), Input("weights:FP32[-1,-1]")]),
    }
    for name, (module, inputs) in made.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch)
            export(module, inputs, folder)
            shutil.copy(folder / "1/model.pt2", ROOT / f"tests/models/aoti/{name}.pt2")


main()
