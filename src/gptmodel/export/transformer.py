"""A GPT as nodes, once: the walk from token ids to logits, with what the two kinds of graph do each in their own way.

`portable_graph` writes it in standard operators, `fast_graph` in those of ONNX Runtime. The weights keep the names of
the state dict.

Shape suffixes as in `gpt`: B batch, T new tokens, C n_embd, F n_hidden, K inputs and N outputs of a matrix.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from gptmodel.errors import UserError
from gptmodel.export.graph_builder import GraphBuilder
from gptmodel.model.gpt import GPT, LAYER_NORM_EPS, RMS_NORM_EPS
from gptmodel.model.networks import LanguageModel, count_parameters

MAX_BYTES = 2_000_000_000  # a protobuf message holds less than 2 GiB

Weights = Mapping[str, npt.NDArray[np.float32]]


def network_weights(network: LanguageModel) -> Weights:
    """Return a network's weights in fp32; `UserError` where they are too large for one ONNX file."""
    if 4 * count_parameters(network) > MAX_BYTES:
        raise UserError(f"a network above {MAX_BYTES:,} bytes does not fit one ONNX file: make it smaller")
    return {name: weight.detach().float().cpu().numpy() for name, weight in network.state_dict().items()}


class TransformerGraph(GraphBuilder, ABC):
    """Adds a GPT to a graph, from top to bottom in the order of the data."""

    def __init__(self, network: GPT) -> None:
        super().__init__()
        self.network = network
        self.config = network.config
        self.weights = network_weights(network)

    def add_network(self, positions: str) -> None:
        """Add all nodes; `positions` is the value with each new token's position."""
        stream_BTC = self._embedding(positions)
        y_BTC = self._norm("blocks.0.attention_norm", stream_BTC)
        for layer in range(self.config.n_layer):
            block = f"blocks.{layer}"
            after = f"blocks.{layer + 1}.attention_norm" if layer + 1 < self.config.n_layer else "final_norm"
            y_BTC = self._attention(layer, y_BTC, positions)
            y_BTC, stream_BTC = self._add_and_norm(f"{block}/after_attention", f"{block}.mlp_norm", y_BTC, stream_BTC)
            y_BTC = self._mlp(f"{block}.mlp", y_BTC)
            y_BTC, stream_BTC = self._add_and_norm(f"{block}/after_mlp", after, y_BTC, stream_BTC)
        self._head(y_BTC)

    def declare_ids_and_logits(self, *rows: str) -> None:
        """Declare the token ids, and the logits in fp32; `rows` names their dimensions before the vocabulary."""
        self.input("input_ids", TensorProto.INT64, "batch", "new")
        self.output("logits", TensorProto.FLOAT, *rows, self.network.vocab_size)

    def declare_cache(self, kind: int, past: int | str, present: int | str) -> None:
        """Declare the keys and values of every layer before and after the new tokens, `past` and `present` long."""
        heads, size = self.config.n_head, self.network.head_size
        for layer in range(self.config.n_layer):
            for part in ("key", "value"):
                self.input(f"past_{part}.{layer}", kind, "batch", heads, past, size)
                self.output(f"present_{part}.{layer}", kind, "batch", heads, present, size)

    @abstractmethod
    def _attention(self, layer: int, x_BTC: str, positions: str) -> str:
        """Add the attention of one layer, over its cache; return its output."""

    @abstractmethod
    def _add_and_norm(self, total: str, norm: str, y_BTC: str, stream_BTC: str) -> tuple[str, str]:
        """Add y to the residual stream and normalise; return norm and sum. `total` names the sum if it is a node."""

    @abstractmethod
    def _gelu(self, name: str, x_BTF: str) -> str:
        """Add GELU in its tanh form."""

    @abstractmethod
    def _silu(self, name: str, x_BTF: str) -> str:
        """Add x * sigmoid(x)."""

    @abstractmethod
    def _head(self, x_BTC: str) -> None:
        """Add the output layer; its output is `logits`."""

    def _floats(self, name: str, value: npt.NDArray[np.float32]) -> str:
        """Add floating-point numbers, in the precision of the graph."""
        return self.constant(name, value)

    def _product(self, name: str, x: str, weight_NK: npt.NDArray[np.float32], output: str = "") -> str:
        """Add x @ weight^T and return its name."""
        return self.node("MatMul", name, [x, self._floats(f"{name}.weight", weight_NK.T)], [output or name])

    def _weight(self, name: str) -> str:
        """Add a weight of the network, as it is, and return its name."""
        return self._floats(name, self.weights[name])

    def _linear(self, name: str, x: str, sources: Sequence[str] = ()) -> str:
        """Add a linear layer, or several (`sources`) of the same input as one product; return its output."""
        sources = sources or [name]
        y = self._product(name, x, np.concatenate([self.weights[f"{source}.weight"] for source in sources]))
        if f"{sources[0]}.bias" not in self.weights:
            return y
        bias = np.concatenate([self.weights[f"{source}.bias"] for source in sources])
        return self.node("Add", f"{name}/with_bias", [y, self._floats(f"{name}.bias", bias)])

    def _norm(self, name: str, x: str) -> str:
        """Add a normalisation of the stream; return its output."""
        if self.config.norm == "rmsnorm":
            return self._rms_norm(name, x)
        return self.node("LayerNormalization", name, [x, *self._norm_weights(name)], axis=-1, epsilon=LAYER_NORM_EPS)

    def _rms_norm(self, name: str, x: str) -> str:
        """Add an RMS normalisation over the last axis; return its output."""
        return self.node("RMSNormalization", name, [x, self._weight(f"{name}.weight")], axis=-1, epsilon=RMS_NORM_EPS)

    def _norm_weights(self, name: str) -> list[str]:
        """Add the weight of a normalisation, and its bias if it has one."""
        return [self._weight(f"{name}.{part}") for part in ("weight", "bias") if f"{name}.{part}" in self.weights]

    def _embedding(self, positions: str) -> str:
        tokens_BTC = self.node("Gather", "embedding/tokens", [self._weight("token_embedding.weight"), "input_ids"])
        if self.config.positions == "learned":
            table = self._weight("position_embedding.weight")
            learned_BTC = self.node("Gather", "embedding/positions", [table, positions])
            return self.node("Add", "embedding/sum", [tokens_BTC, learned_BTC])
        self._floats("rotary_cos", self.network.cos_SR.cpu().numpy())
        self._floats("rotary_sin", self.network.sin_SR.cpu().numpy())
        return tokens_BTC

    def _mlp(self, name: str, x_BTC: str) -> str:
        if self.config.mlp == "swiglu":
            gate_and_up = self._linear(f"{name}.gate_and_up", x_BTC, [f"{name}.gate", f"{name}.up"])
            gate_BTF, up_BTF = self._split(name, gate_and_up, "gate", "up")
            h_BTF = self.node("Mul", f"{name}/gated", [self._silu(name, gate_BTF), up_BTF])
        elif self.config.mlp == "gelu":
            h_BTF = self._gelu(name, self._linear(f"{name}.up", x_BTC))
        else:
            h_BTF = self.node("Relu", f"{name}/relu", [self._linear(f"{name}.up", x_BTC)])
        return self._linear(f"{name}.down", h_BTF)

    def _split(self, name: str, x: str, *parts: str) -> list[str]:
        """Add a cut of the last axis into equal parts; return them."""
        outputs = [f"{name}/{part}" for part in parts]
        self.node("Split", f"{name}/split", [x], outputs, num_outputs=len(parts), axis=-1)
        return outputs
