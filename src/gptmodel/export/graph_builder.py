"""Nodes and constants of an ONNX graph under construction; the weights keep the names of the state dict.

Shared by `onnx_graph` (portable) and `fast_graph` (ONNX Runtime). Source: https://onnx.ai/onnx/operators.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from gptmodel.errors import UserError
from gptmodel.model.gpt import LAYER_NORM_EPS, RMS_NORM_EPS
from gptmodel.model.networks import LanguageModel, count_parameters
from gptmodel.params import GPTNetwork

OPSET, IR_VERSION = 23, 11  # the first opset with Attention; onnxruntime-gpu 1.31 reads opsets to 26 and IR to 13
MAX_BYTES = 2_000_000_000  # a protobuf message holds less than 2 GiB

Array = npt.NDArray[Any]
Weights = Mapping[str, npt.NDArray[np.float32]]


class Graph:
    """Collects nodes and constants; a node's name is also the name of its first output, unless that is given."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: Array) -> str:
        """Add a constant, once per name, and return its name."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def integers(self, name: str, *values: int) -> str:
        """Add a list of integers (axes, shapes)."""
        return self.constant(name, np.array(values, dtype=np.int64))

    def node(
        self, operator: str, name: str, inputs: Sequence[str], outputs: Sequence[str] = (), **attributes: Any
    ) -> str:
        """Add a node and return its first output."""
        outputs = outputs or [name]
        self.nodes.append(helper.make_node(operator, list(inputs), list(outputs), name=name, **attributes))
        return outputs[0]

    def weight(self, name: str) -> str:
        """Add a weight of the network, as it is, and return its name."""
        return self.floats(name, self.weights[name])

    def floats(self, name: str, value: npt.NDArray[np.float32]) -> str:
        """Add floating-point numbers, in the precision of the graph."""
        return self.constant(name, value)

    def product(self, name: str, x: str, weight_NK: npt.NDArray[np.float32], output: str = "") -> str:
        """Add x @ weight^T and return its name."""
        return self.node("MatMul", name, [x, self.floats(f"{name}.weight", weight_NK.T)], [output or name])

    def linear(self, name: str, x: str, sources: Sequence[str] = ()) -> str:
        """Add a linear layer, or several (`sources`) of the same input as one product; return its output."""
        sources = sources or [name]
        y = self.product(name, x, np.concatenate([self.weights[f"{source}.weight"] for source in sources]))
        if f"{sources[0]}.bias" not in self.weights:
            return y
        bias = np.concatenate([self.weights[f"{source}.bias"] for source in sources])
        return self.node("Add", f"{name}/with_bias", [y, self.floats(f"{name}.bias", bias)])

    def norm(self, kind: Literal["layernorm", "rmsnorm"], name: str, x: str) -> str:
        """Add a normalisation over the last axis; return its output."""
        inputs = [x, self.weight(f"{name}.weight")]
        if kind == "rmsnorm":
            return self.node("RMSNormalization", name, inputs, axis=-1, epsilon=RMS_NORM_EPS)
        if f"{name}.bias" in self.weights:
            inputs.append(self.weight(f"{name}.bias"))
        return self.node("LayerNormalization", name, inputs, axis=-1, epsilon=LAYER_NORM_EPS)

    def head_norm(self, config: GPTNetwork, name: str, x_BTC: str) -> str:
        """Add an RMS normalisation of each head by itself; return its output."""
        heads = self.integers("shape/heads", 0, 0, config.n_head, config.head_size)  # 0 keeps the dimension
        flat = self.integers("shape/flat", 0, 0, config.n_embd)
        x_BTHD = self.node("Reshape", f"{name}/heads", [x_BTC, heads])
        return self.node("Reshape", f"{name}/flat", [self.norm("rmsnorm", name, x_BTHD), flat])


def network_weights(network: LanguageModel) -> Weights:
    """Return a network's weights in fp32; `UserError` where they are too large for one ONNX file."""
    if 4 * count_parameters(network) > MAX_BYTES:
        raise UserError(f"a network above {MAX_BYTES:,} bytes does not fit one ONNX file: make it smaller")
    return {name: weight.detach().float().cpu().numpy() for name, weight in network.state_dict().items()}


def tensor(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
    """Return the declaration of an input or output."""
    return helper.make_tensor_value_info(name, kind, list(shape))
