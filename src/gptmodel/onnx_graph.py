"""A network -> one ONNX graph that serves prefill and decoding, built node by node with the names of the state dict.

Standard operators only (opset 23: Attention, RMSNormalization, RotaryEmbedding), fp32, so that any ONNX runtime can
run it and `onnx.checker` can check it; each has a CPU and a CUDA kernel in ONNX Runtime. The inputs and outputs are
the `Decoder` contract:

    input_ids [batch, new] int64, pad [batch] int64 (left padding of each row),
    past_key.N, past_value.N [batch, heads, past, head size] (past is 0 before the first token)
      -> logits [batch, new, vocabulary], present_key.N, present_value.N [batch, heads, past + new, head size]

A bigram has neither padding nor cache: input_ids -> logits.

Left out on purpose: sampling, half precision and quantisation, kernels of one vendor (com.microsoft).
Source: https://onnx.ai/onnx/operators. Measured on 2 CPU cores: one Attention node with past inputs is 5 to 15 % faster
than the same from MatMul and Softmax; SiLU as x * Sigmoid(x) is fused by ONNX Runtime, opset 24's Swish is not.

Shape suffixes as in `gpt`: B batch, T new tokens, S tokens seen so far, C n_embd, F n_hidden, H heads, D head size.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from gptmodel.bigram import Bigram
from gptmodel.errors import UserError
from gptmodel.gpt import GPT, LAYER_NORM_EPS, RMS_NORM_EPS
from gptmodel.networks import LanguageModel, count_parameters
from gptmodel.params import GPTNetwork

OPSET, IR_VERSION = 23, 11  # the first opset with Attention; onnxruntime-gpu 1.31 reads opsets to 26 and IR to 13
MAX_BYTES = 2_000_000_000  # a protobuf message holds less than 2 GiB

Array = npt.NDArray[np.float32] | npt.NDArray[np.int64]
Weights = Mapping[str, npt.NDArray[np.float32]]


class _Graph:
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

    def linear(self, name: str, x: str, sources: Sequence[str] = ()) -> str:
        """Add a linear layer, or several (`sources`) of the same input as one product; return its output."""
        sources = sources or [name]
        weight = np.concatenate([self.weights[f"{source}.weight"] for source in sources]).T
        y = self.node("MatMul", name, [x, self.constant(f"{name}.weight", weight)])
        if f"{sources[0]}.bias" not in self.weights:
            return y
        bias = np.concatenate([self.weights[f"{source}.bias"] for source in sources])
        return self.node("Add", f"{name}/with_bias", [y, self.constant(f"{name}.bias", bias)])

    def norm(self, kind: Literal["layernorm", "rmsnorm"], name: str, x: str) -> str:
        """Add a normalisation over the last axis; return its output."""
        inputs = [x, self.constant(f"{name}.weight", self.weights[f"{name}.weight"])]
        if kind == "rmsnorm":
            return self.node("RMSNormalization", name, inputs, axis=-1, epsilon=RMS_NORM_EPS)
        if f"{name}.bias" in self.weights:
            inputs.append(self.constant(f"{name}.bias", self.weights[f"{name}.bias"]))
        return self.node("LayerNormalization", name, inputs, axis=-1, epsilon=LAYER_NORM_EPS)


def build(network: LanguageModel) -> onnx.ModelProto:
    """Return the checked ONNX model of a network."""
    if 4 * count_parameters(network) > MAX_BYTES:
        raise UserError(f"a network above {MAX_BYTES:,} bytes does not fit one ONNX file: make it smaller")
    weights = {name: tensor.detach().float().cpu().numpy() for name, tensor in network.state_dict().items()}
    graph = _bigram(network, weights) if isinstance(network, Bigram) else _gpt(network, weights)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="gptmodel")
    onnx.checker.check_model(model, full_check=True)
    return model


def _bigram(network: Bigram, weights: Weights) -> onnx.GraphProto:
    graph = _Graph(weights)
    graph.node("Gather", "table", [graph.constant("table.weight", weights["table.weight"]), "input_ids"], ["logits"])
    return helper.make_graph(
        graph.nodes,
        "bigram",
        [_tensor("input_ids", TensorProto.INT64, "batch", "new")],
        [_tensor("logits", TensorProto.FLOAT, "batch", "new", network.vocab_size)],
        list(graph.constants.values()),
    )


def _gpt(network: GPT, weights: Weights) -> onnx.GraphProto:
    config, graph = network.config, _Graph(weights)
    position_BT, mask_B1TS = _places(graph)
    table = graph.constant("token_embedding.weight", weights["token_embedding.weight"])
    x_BTC = graph.node("Gather", "embedding/tokens", [table, "input_ids"])
    if config.positions == "learned":
        places = graph.constant("position_embedding.weight", weights["position_embedding.weight"])
        learned_BTC = graph.node("Gather", "embedding/positions", [places, position_BT])
        x_BTC = graph.node("Add", "embedding/sum", [x_BTC, learned_BTC])
    else:
        graph.constant("rotary_cos", network.cos_SR.cpu().numpy())
        graph.constant("rotary_sin", network.sin_SR.cpu().numpy())
    for layer in range(config.n_layer):
        x_BTC = _block(graph, config, layer, x_BTC, position_BT, mask_B1TS)
    x_BTC = graph.norm(config.norm, "final_norm", x_BTC)
    if config.tie_embeddings:
        head_CV = graph.node("Transpose", "head.weight", [table], perm=[1, 0])
    else:
        head_CV = graph.constant("head.weight", weights["head.weight"].T)
    graph.node("MatMul", "head", [x_BTC, head_CV], ["logits"])
    inputs = [_tensor("input_ids", TensorProto.INT64, "batch", "new"), _tensor("pad", TensorProto.INT64, "batch")]
    outputs = [_tensor("logits", TensorProto.FLOAT, "batch", "new", network.vocab_size)]
    for layer in range(config.n_layer):
        for kind in ("key", "value"):
            heads, size = config.n_head, config.head_size
            inputs.append(_tensor(f"past_{kind}.{layer}", TensorProto.FLOAT, "batch", heads, "past", size))
            outputs.append(_tensor(f"present_{kind}.{layer}", TensorProto.FLOAT, "batch", heads, "total", size))
    return helper.make_graph(graph.nodes, "gpt", inputs, outputs, list(graph.constants.values()))


def _places(graph: _Graph) -> tuple[str, str]:
    """Add each new token's position (its place less the padding) and the mask that is added to the scores."""
    zero, one = graph.constant("zero", np.array(0, np.int64)), graph.constant("one", np.array(1, np.int64))
    axis_1, axes_1_2, last = graph.integers("axis_1", 1), graph.integers("axes_1_2", 1, 2), graph.integers("last", -1)
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


def _block(graph: _Graph, config: GPTNetwork, layer: int, x_BTC: str, position_BT: str, mask_B1TS: str) -> str:
    name = f"blocks.{layer}"
    y_BTC = graph.norm(config.norm, f"{name}.attention_norm", x_BTC)
    y_BTC = _attention(graph, config, layer, y_BTC, position_BT, mask_B1TS)
    x_BTC = graph.node("Add", f"{name}/after_attention", [x_BTC, y_BTC])
    y_BTC = graph.norm(config.norm, f"{name}.mlp_norm", x_BTC)
    y_BTC = _mlp(graph, config, f"{name}.mlp", y_BTC)
    return graph.node("Add", f"{name}/after_mlp", [x_BTC, y_BTC])


def _attention(graph: _Graph, config: GPTNetwork, layer: int, x_BTC: str, position_BT: str, mask_B1TS: str) -> str:
    name = f"blocks.{layer}.attention"
    q, k, v = f"{name}/q", f"{name}/k", f"{name}/v"
    graph.node("Split", f"{name}/split", [graph.linear(f"{name}.qkv", x_BTC)], [q, k, v], num_outputs=3, axis=-1)
    if config.qk_norm:
        q, k = _head_norm(graph, config, f"{name}.q_norm", q), _head_norm(graph, config, f"{name}.k_norm", k)
    if config.positions == "rotary":
        angles = ["rotary_cos", "rotary_sin", position_BT]
        q = graph.node("RotaryEmbedding", f"{name}/q_rotary", [q, *angles], num_heads=config.n_head)
        k = graph.node("RotaryEmbedding", f"{name}/k_rotary", [k, *angles], num_heads=config.n_head)
    mixed_BTC = graph.node(
        "Attention",
        name,
        [q, k, v, mask_B1TS, f"past_key.{layer}", f"past_value.{layer}"],
        [f"{name}/mixed", f"present_key.{layer}", f"present_value.{layer}"],
        q_num_heads=config.n_head,
        kv_num_heads=config.n_head,
    )
    return graph.linear(f"{name}.out", mixed_BTC)


def _head_norm(graph: _Graph, config: GPTNetwork, name: str, x_BTC: str) -> str:
    """RMS-normalise each head by itself."""
    heads = graph.integers("shape/heads", 0, 0, config.n_head, config.head_size)  # 0 keeps the dimension
    flat = graph.integers("shape/flat", 0, 0, config.n_embd)
    x_BTHD = graph.node("Reshape", f"{name}/heads", [x_BTC, heads])
    return graph.node("Reshape", f"{name}/flat", [graph.norm("rmsnorm", name, x_BTHD), flat])


def _mlp(graph: _Graph, config: GPTNetwork, name: str, x_BTC: str) -> str:
    if config.mlp == "swiglu":
        both = graph.linear(f"{name}.gate_and_up", x_BTC, [f"{name}.gate", f"{name}.up"])
        gate_BTF, up_BTF = f"{name}/gate", f"{name}/up"
        graph.node("Split", f"{name}/split", [both], [gate_BTF, up_BTF], num_outputs=2, axis=-1)
        sigmoid_BTF = graph.node("Sigmoid", f"{name}/sigmoid", [gate_BTF])
        silu_BTF = graph.node("Mul", f"{name}/silu", [gate_BTF, sigmoid_BTF])
        h_BTF = graph.node("Mul", f"{name}/gated", [silu_BTF, up_BTF])
    elif config.mlp == "gelu":
        h_BTF = graph.node("Gelu", f"{name}/gelu", [graph.linear(f"{name}.up", x_BTC)], approximate="tanh")
    else:
        h_BTF = graph.node("Relu", f"{name}/relu", [graph.linear(f"{name}.up", x_BTC)])
    return graph.linear(f"{name}.down", h_BTF)


def _tensor(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))
