"""A GPT -> the ONNX graph that ONNX Runtime decodes fastest: fused operators over a cache of fixed size.

It computes what `onnx_graph` computes, with operators that ONNX Runtime alone has (domain com.microsoft):
GroupQueryAttention turns queries and keys by their positions, writes keys and values into the cache in place and
attends, in one node; SkipSimplifiedLayerNormalization adds to the residual stream and normalises the sum;
BranchwiseRMSNorm normalises each head (an ONNX Runtime before 1.31 lacks it and takes the definition that the model
carries); MatMulNBits multiplies by 8-bit weights. One graph serves prompts and single tokens:

    input_ids [batch, new] int64        rows padded on the right; `new` is 1 while decoding
    last_place [batch] int32            index of each row's last token in the cache after this run
    total_length [] int32 (CPU memory)  tokens that the longest row holds after this run
    position_ids [batch, new] int64     learned positions only
    rows [read] int64                   which of the batch x new places get logits
    past_key.N, past_value.N [batch, heads, context, head size]
      -> logits [read, vocabulary] fp32, present_key.N, present_value.N: bind each to the buffer of its past

Precisions: `fp32`; `int8`, every matrix as 8-bit integers in blocks along its input with one fp32 scale each,
activations quantised on the fly (accuracy_level 4), keys and values in the cache as 8-bit integers too, one scale for
all keys of a layer and one for all its values (see `calibration`); `fp16`, weights, activations and cache in half
precision.

Left out on purpose: sampling (see `sampler_graph`), grouped queries, 4-bit weights (measured: too wrong), a scale per
channel of the cache (measured: not more exact, 3 to 5 % slower), the bigram (a table look-up is as fast as it gets).
Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.

Shape suffixes as in `gpt`: B batch, T new tokens, C n_embd, F n_hidden, K inputs and N outputs of a matrix.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from gptmodel.export.calibration import CacheRanges
from gptmodel.export.graph_builder import IR_VERSION, OPSET, Graph, Weights, network_weights, tensor
from gptmodel.model.gpt import GPT, LAYER_NORM_EPS, RMS_NORM_EPS
from gptmodel.params import GPTNetwork

Precision = Literal["fp32", "int8", "fp16"]

MICROSOFT = "com.microsoft"
HEAD_NORM = "BranchwiseRMSNorm"
BLOCKS = (128, 64, 32)  # weights that share one scale: as many as divide a row; 128 is 5 % faster than 32
QUANTISED_CACHE = {"k_quant_type": "PER_TENSOR", "v_quant_type": "PER_TENSOR", "kv_cache_bit_width": 8}
LARGEST = 127  # of 8-bit keys and values
SCALES_FROM = 12  # place of the cache's scales among the inputs of GroupQueryAttention
INTEGER_PRODUCTS = 4  # accuracy_level of MatMulNBits; at 0, floating point, it is 36 times slower


class _FastGraph(Graph):
    """Adds ONNX Runtime's own operators, and numbers in the graph's precision."""

    def __init__(self, weights: Weights, precision: Precision, ranges: CacheRanges) -> None:
        super().__init__(weights)
        self.precision, self.ranges = precision, ranges
        self.cache = {"fp32": TensorProto.FLOAT, "int8": TensorProto.INT8, "fp16": TensorProto.FLOAT16}[precision]

    def floats(self, name: str, value: npt.NDArray[np.float32]) -> str:
        """Add floating-point numbers."""
        return self.constant(name, value.astype(np.float16) if self.precision == "fp16" else value)

    def fused(self, operator: str, name: str, inputs: Sequence[str], outputs: Sequence[str] = (), **sizes: Any) -> str:
        """Add a node of the domain com.microsoft."""
        return self.node(operator, name, inputs, outputs, domain=MICROSOFT, **sizes)

    def head_norm(self, config: GPTNetwork, name: str, x_BTC: str) -> str:
        """Add an RMS normalisation of each head by itself, as one node; return its output."""
        inputs = [x_BTC, self.weight(f"{name}.weight")]
        return self.fused(HEAD_NORM, name, inputs, num_branches=config.n_head, epsilon=RMS_NORM_EPS)

    def cache_scales(self, name: str, layer: int) -> list[str]:
        """Add the size of one step of a layer's 8-bit keys and values; a layer of zeros takes any."""
        return [
            self.constant(f"{name}.{kind}_scale", np.array([(largest or 1.0) / LARGEST], np.float32))
            for kind, largest in zip(("key", "value"), self.ranges[layer], strict=True)
        ]

    def product(self, name: str, x: str, weight_NK: npt.NDArray[np.float32], output: str = "") -> str:
        """Add x @ weight^T and return its name."""
        if self.precision != "int8":
            return super().product(name, x, weight_NK, output)
        integers, scales = quantise(weight_NK)
        inputs = [x, self.constant(f"{name}.int8", integers), self.constant(f"{name}.scale", scales)]
        sizes = {"N": weight_NK.shape[0], "K": weight_NK.shape[1], "bits": 8, "block_size": integers.shape[2]}
        return self.fused("MatMulNBits", name, inputs, [output or name], **sizes, accuracy_level=INTEGER_PRODUCTS)


def quantise(weight_NK: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Return 8-bit integers around 128, (N, blocks, block), and one scale per block, (N, blocks).

    A weight is (integer - 128) * scale, off by at most half a scale; the largest of a block is exact to rounding. The
    last block is padded with 0 where K is no multiple of the smallest block.

    >>> integers, scales = quantise(np.array([[0.5, -1.27, 0.0]], dtype=np.float32))
    >>> integers[0, 0, :4].tolist(), scales.astype(float).round(4).tolist()
    ([178, 1, 128, 128], [[0.01]])
    """
    n, k = weight_NK.shape
    block = next((size for size in BLOCKS if k % size == 0), BLOCKS[-1])
    padded_NbK = np.pad(weight_NK, ((0, 0), (0, -k % block))).reshape(n, -1, block)
    scale_Nb = np.abs(padded_NbK).max(axis=2) / 127
    divisor_Nb1 = np.where(scale_Nb == 0, 1, scale_Nb)[:, :, None]
    integers = (np.rint(padded_NbK / divisor_Nb1) + 128).astype(np.uint8)
    return integers, scale_Nb.astype(np.float32)


def build(network: GPT, precision: Precision, ranges: CacheRanges = ()) -> onnx.ModelProto:
    """Return the ONNX model of a network; `UserError` where it is too large for one file.

    int8 needs the `ranges` that `calibration.cache_ranges` found.
    """
    config, graph = network.config, _FastGraph(network_weights(network), precision, ranges)
    table = graph.weight("token_embedding.weight")
    stream_BTC = graph.node("Gather", "embedding/tokens", [table, "input_ids"])
    if config.positions == "learned":
        places = graph.weight("position_embedding.weight")
        learned_BTC = graph.node("Gather", "embedding/positions", [places, "position_ids"])
        stream_BTC = graph.node("Add", "embedding/sum", [stream_BTC, learned_BTC])
    else:
        graph.floats("rotary_cos", network.cos_SR.cpu().numpy())
        graph.floats("rotary_sin", network.sin_SR.cpu().numpy())
    norms = [f"blocks.{layer}.{kind}_norm" for layer in range(config.n_layer) for kind in ("attention", "mlp")]
    y_BTC = graph.norm(config.norm, norms[0], stream_BTC)
    for place, following in enumerate([*norms[1:], "final_norm"]):
        layer, part = divmod(place, 2)
        y_BTC = _mlp(graph, config, layer, y_BTC) if part else _attention(graph, config, layer, y_BTC)
        y_BTC, stream_BTC = _add_and_norm(graph, config, following, y_BTC, stream_BTC)
    flat = graph.node("Reshape", "places", [y_BTC, graph.integers("shape/places", -1, config.n_embd)])
    head = "token_embedding.weight" if config.tie_embeddings else "head.weight"
    read = graph.node("Gather", "read", [flat, "rows"])
    if precision == "fp16":
        read = graph.product("head", read, graph.weights[head], "head/fp16")
        graph.node("Cast", "head/fp32", [read], ["logits"], to=TensorProto.FLOAT)
    else:
        graph.product("head", read, graph.weights[head], "logits")
    return _model(graph, config, network.vocab_size)


def _model(graph: _FastGraph, config: GPTNetwork, vocab_size: int) -> onnx.ModelProto:
    inputs = [
        tensor("input_ids", TensorProto.INT64, "batch", "new"),
        tensor("last_place", TensorProto.INT32, "batch"),
        tensor("total_length", TensorProto.INT32),
        tensor("rows", TensorProto.INT64, "read"),
    ]
    if config.positions == "learned":
        inputs.append(tensor("position_ids", TensorProto.INT64, "batch", "new"))
    outputs = [tensor("logits", TensorProto.FLOAT, "read", vocab_size)]
    shape = ("batch", config.n_head, config.context, config.head_size)
    for layer in range(config.n_layer):
        for kind in ("key", "value"):
            inputs.append(tensor(f"past_{kind}.{layer}", graph.cache, *shape))
            outputs.append(tensor(f"present_{kind}.{layer}", graph.cache, *shape))
    graph_proto = helper.make_graph(graph.nodes, "gpt", inputs, outputs, list(graph.constants.values()))
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    functions = [_head_norm_defined(config)] if config.qk_norm else []
    return helper.make_model(
        graph_proto, functions=functions, opset_imports=opsets, ir_version=IR_VERSION, producer_name="gptmodel"
    )


def _head_norm_defined(config: GPTNetwork) -> onnx.FunctionProto:
    """Return what BranchwiseRMSNorm computes here, in standard operators, for a runtime that has no kernel for it.

    ONNX Runtime takes a kernel before a definition. Measured (10M parameters, 8 bits, one thread): the kernel makes
    8 to 14 % more tokens per second than these nodes.
    """
    nodes = [
        helper.make_node("Constant", [], ["heads"], value_ints=[0, 0, config.n_head, config.head_size]),
        helper.make_node("Constant", [], ["flat"], value_ints=[0, 0, config.n_embd]),
        helper.make_node("Reshape", ["X", "heads"], ["x"]),
        helper.make_node("RMSNormalization", ["x", "scale"], ["y"], axis=-1, epsilon=RMS_NORM_EPS),
        helper.make_node("Reshape", ["y", "flat"], ["Y"]),
    ]
    standard = [helper.make_opsetid("", OPSET)]
    return helper.make_function(
        MICROSOFT, HEAD_NORM, ["X", "scale"], ["Y"], nodes, standard, attributes=["num_branches", "epsilon"]
    )


def _add_and_norm(graph: _FastGraph, config: GPTNetwork, name: str, y_BTC: str, stream_BTC: str) -> tuple[str, str]:
    """Add y to the residual stream and normalise the sum; return both."""
    inputs, total = [y_BTC, stream_BTC, graph.weight(f"{name}.weight")], f"{name}/stream"
    if config.norm == "rmsnorm":
        operator, epsilon = "SkipSimplifiedLayerNormalization", RMS_NORM_EPS
    else:
        operator, epsilon = "SkipLayerNormalization", LAYER_NORM_EPS
        if config.bias:
            inputs.append(graph.weight(f"{name}.bias"))
    return graph.fused(operator, name, inputs, [name, "", "", total], epsilon=epsilon), total


def _attention(graph: _FastGraph, config: GPTNetwork, layer: int, x_BTC: str) -> str:
    name = f"blocks.{layer}.attention"
    qkv = [graph.linear(f"{name}.qkv", x_BTC), "", ""]  # GroupQueryAttention takes them apart itself
    if config.qk_norm:
        parts = [f"{name}/q", f"{name}/k", f"{name}/v"]
        graph.node("Split", f"{name}/split", qkv[:1], parts, num_outputs=3, axis=-1)
        qkv = [*(graph.head_norm(config, f"{name}.{x}_norm", f"{name}/{x}") for x in "qk"), parts[2]]
    cache = [f"past_key.{layer}", f"past_value.{layer}", "last_place", "total_length"]
    inputs = [*qkv, *cache]
    options: dict[str, Any] = {"num_heads": config.n_head, "kv_num_heads": config.n_head}
    if config.positions == "rotary":
        inputs += ["rotary_cos", "rotary_sin"]
        options["do_rotary"] = 1
    if graph.precision == "int8":
        inputs += [""] * (SCALES_FROM - len(inputs))
        inputs += graph.cache_scales(name, layer)
        options |= QUANTISED_CACHE
    outputs = [f"{name}/mixed", f"present_key.{layer}", f"present_value.{layer}"]
    mixed_BTC = graph.fused("GroupQueryAttention", name, inputs, outputs, **options)
    return graph.linear(f"{name}.out", mixed_BTC)


def _mlp(graph: _FastGraph, config: GPTNetwork, layer: int, x_BTC: str) -> str:
    name = f"blocks.{layer}.mlp"
    if config.mlp == "swiglu":
        both = graph.linear(f"{name}.gate_and_up", x_BTC, [f"{name}.gate", f"{name}.up"])
        gate_BTF, up_BTF = f"{name}/gate", f"{name}/up"
        graph.node("Split", f"{name}/split", [both], [gate_BTF, up_BTF], num_outputs=2, axis=-1)
        silu_BTF = graph.fused("QuickGelu", f"{name}/silu", [gate_BTF], alpha=1.0)  # x * sigmoid(alpha x)
        h_BTF = graph.node("Mul", f"{name}/gated", [silu_BTF, up_BTF])
    elif config.mlp == "gelu":
        h_BTF = graph.fused("FastGelu", f"{name}/gelu", [graph.linear(f"{name}.up", x_BTC)])  # by tanh
    else:
        h_BTF = graph.node("Relu", f"{name}/relu", [graph.linear(f"{name}.up", x_BTC)])
    return graph.linear(f"{name}.down", h_BTF)
