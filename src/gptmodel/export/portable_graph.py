"""A network -> one ONNX graph that serves prefill and decoding, built node by node with the names of the state dict.

Standard operators only (opset 23: Attention, RMSNormalization, RotaryEmbedding), fp32, so that any ONNX runtime can
run it and `onnx.checker` can check it; each has a CPU and a CUDA kernel in ONNX Runtime. The inputs and outputs are
the `Decoder` contract:

    input_ids [batch, new] int64, pad [batch] int64 (left padding of each row),
    past_key.N, past_value.N [batch, heads, past, head size] (past is 0 before the first token)
      -> logits [batch, new, vocabulary], present_key.N, present_value.N [batch, heads, past + new, head size]

A bigram has neither padding nor cache: input_ids -> logits.

SiLU is written as x * Sigmoid(x), which ONNX Runtime fuses; it does not fuse Swish of opset 24.
Source: https://onnx.ai/onnx/operators.

Shape suffixes as in `gpt`: B batch, T new tokens, S tokens seen so far, C n_embd, F n_hidden, H heads, D head size.
"""

import numpy as np
import onnx
from onnx import TensorProto

from gptmodel.export.graph_builder import GraphBuilder
from gptmodel.export.transformer import TransformerGraph, network_weights
from gptmodel.model.bigram import Bigram
from gptmodel.model.gpt import GPT
from gptmodel.model.networks import LanguageModel


def build(network: LanguageModel) -> onnx.ModelProto:
    """Return the checked ONNX model of a network; `UserError` where it is too large for one file."""
    return _bigram(network) if isinstance(network, Bigram) else _gpt(network)


def _bigram(network: Bigram) -> onnx.ModelProto:
    graph = GraphBuilder()
    table = graph.constant("table.weight", network_weights(network)["table.weight"])
    graph.node("Gather", "table", [table, "input_ids"], ["logits"])
    graph.input("input_ids", TensorProto.INT64, "batch", "new")
    graph.output("logits", TensorProto.FLOAT, "batch", "new", network.vocab_size)
    return graph.checked_model("bigram")


def _gpt(network: GPT) -> onnx.ModelProto:
    graph = _PortableGraph(network)
    graph.add_network(graph.position_BT)
    graph.declare_ids_and_logits("batch", "new")
    graph.input("pad", TensorProto.INT64, "batch")
    graph.declare_cache(TensorProto.FLOAT, past="past", present="total")
    return graph.checked_model("gpt")


def _positions_and_mask(graph: GraphBuilder) -> tuple[str, str]:
    """Add each new token's position (its index in the row less the padding) and the mask added to the scores."""
    zero = graph.constant("zero", np.array(0, np.int64))
    one = graph.constant("one", np.array(1, np.int64))
    axis_1 = graph.integers("axis_1", 1)
    axes_1_2 = graph.integers("axes_1_2", 1, 2)
    last = graph.integers("last", -1)
    past = graph.node("Shape", "past_length", ["past_key.0"], start=2, end=3)
    new = graph.node("Shape", "new_length", ["input_ids"], start=1, end=2)
    first = graph.node("Squeeze", "first_place", [past])
    end = graph.node("Squeeze", "end_place", [graph.node("Add", "total_length", [past, new])])
    place_T = graph.node("Range", "places/new", [first, end, one])
    place_S = graph.node("Range", "places/all", [zero, end, one])
    place_T1 = graph.node("Unsqueeze", "places/new_column", [place_T, last])
    pad_B1 = graph.node("Unsqueeze", "pad/column", ["pad", last])
    pad_B11 = graph.node("Unsqueeze", "pad/cube", ["pad", axes_1_2])
    position_BT = graph.node("Max", "position", [graph.node("Sub", "position/signed", [place_T, pad_B1]), zero])
    causal_TS = graph.node("LessOrEqual", "mask/causal", [place_S, place_T1])
    real_B1S = graph.node("GreaterOrEqual", "mask/real", [place_S, pad_B11])
    itself_TS = graph.node("Equal", "mask/itself", [place_S, place_T1])  # no row of the mask is empty, as in gpt.GPT
    seen_BTS = graph.node("And", "mask/causal_and_real", [causal_TS, real_B1S])
    visible_BTS = graph.node("Or", "mask/visible", [seen_BTS, itself_TS])
    shown = graph.constant("mask/shown", np.array(0, np.float32))
    hidden = graph.constant("mask/hidden", np.array(np.finfo(np.float32).min, np.float32))
    mask_BTS = graph.node("Where", "mask/scores", [visible_BTS, shown, hidden])
    return position_BT, graph.node("Unsqueeze", "mask", [mask_BTS, axis_1])


class _PortableGraph(TransformerGraph):
    """Adds standard operators."""

    def __init__(self, network: GPT) -> None:
        super().__init__(network)
        self.position_BT, self._mask_B1TS = _positions_and_mask(self)

    def _attention(self, layer: int, x_BTC: str, positions: str) -> str:
        name, heads = f"blocks.{layer}.attention", self.config.n_head
        q, k, v = self._split(name, self._linear(f"{name}.qkv", x_BTC), "q", "k", "v")
        if self.config.qk_norm:
            q = self._head_norm(f"{name}.q_norm", q)
            k = self._head_norm(f"{name}.k_norm", k)
        if self.config.positions == "rotary":
            angles = ["rotary_cos", "rotary_sin", positions]
            q = self.node("RotaryEmbedding", f"{name}/q_rotary", [q, *angles], num_heads=heads)
            k = self.node("RotaryEmbedding", f"{name}/k_rotary", [k, *angles], num_heads=heads)
        inputs = [q, k, v, self._mask_B1TS, f"past_key.{layer}", f"past_value.{layer}"]
        outputs = [f"{name}/mixed", f"present_key.{layer}", f"present_value.{layer}"]
        mixed_BTC = self.node("Attention", name, inputs, outputs, q_num_heads=heads, kv_num_heads=heads)
        return self._linear(f"{name}.out", mixed_BTC)

    def _head_norm(self, name: str, x_BTC: str) -> str:
        """Add an RMS normalisation of each head by itself; return its output."""
        heads = self.integers("shape/heads", 0, 0, self.config.n_head, self.network.head_size)  # 0 keeps the dimension
        flat = self.integers("shape/flat", 0, 0, self.config.n_embd)
        x_BTHD = self.node("Reshape", f"{name}/heads", [x_BTC, heads])
        return self.node("Reshape", f"{name}/flat", [self._rms_norm(name, x_BTHD), flat])

    def _add_and_norm(self, total: str, norm: str, y_BTC: str, stream_BTC: str) -> tuple[str, str]:
        stream_BTC = self.node("Add", total, [stream_BTC, y_BTC])
        return self._norm(norm, stream_BTC), stream_BTC

    def _gelu(self, name: str, x_BTF: str) -> str:
        return self.node("Gelu", f"{name}/gelu", [x_BTF], approximate="tanh")

    def _silu(self, name: str, x_BTF: str) -> str:
        sigmoid_BTF = self.node("Sigmoid", f"{name}/sigmoid", [x_BTF])
        return self.node("Mul", f"{name}/silu", [x_BTF, sigmoid_BTF])

    def _head(self, x_BTC: str) -> None:
        if self.config.tie_embeddings:
            table_CV = self.node("Transpose", "head.weight", ["token_embedding.weight"], perm=[1, 0])
            self.node("MatMul", "head", [x_BTC, table_CV], ["logits"])
        else:
            self._product("head", x_BTC, self.weights["head.weight"], "logits")
