"""A GPT -> the ONNX graph that ONNX Runtime decodes fastest: fused operators over a cache of fixed size.

It computes what `portable_graph` computes, with operators that ONNX Runtime alone has (domain com.microsoft):
GroupQueryAttention turns queries and keys by their positions, writes keys and values into the cache in place and
attends, in one node; SkipSimplifiedLayerNormalization adds to the residual stream and normalises the sum;
BranchwiseRMSNorm normalises each head (an ONNX Runtime before 1.31 lacks it and takes the definition that the model
carries); MatMulNBits multiplies by 8-bit weights. One graph serves prompts and single tokens:

    input_ids [batch, new] int64        rows padded on the right; `new` is 1 while decoding
    last_place [batch] int32            index of each row's last token in the cache after this run
    total_length [] int32 (CPU memory)  tokens that the longest row holds after this run
    position_ids [batch, new] int64     learned positions only
    rows [read] int64                   which of the batch x new tokens get logits
    past_key.N, past_value.N [batch, heads, context, head size]
      -> logits [read, vocabulary] fp32, present_key.N, present_value.N: bind each to the buffer of its past

Precisions: `fp32`; `int8`, every matrix as 8-bit integers in blocks along its input with one fp32 scale each,
activations quantised on the fly (accuracy_level 4), keys and values in the cache as 8-bit integers too, one scale for
all keys of a layer and one for all its values (see `calibration`); `fp16`, weights, activations and cache in half
precision.

Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.

Shape suffixes as in `gpt`: B batch, T new tokens, C n_embd, F n_hidden, K inputs and N outputs of a matrix.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from gptmodel.export.graph_builder import OPSET
from gptmodel.export.transformer import TransformerGraph
from gptmodel.model.gpt import GPT, LAYER_NORM_EPS, RMS_NORM_EPS, head_size
from gptmodel.params import GPTNetwork
from gptmodel.runtime.graphs import Precision

CacheRanges = Sequence[tuple[float, float]]  # per layer: the largest magnitude of its keys and of its values

MICROSOFT = "com.microsoft"
HEAD_NORM = "BranchwiseRMSNorm"
BLOCKS = (128, 64, 32)  # weights that share one scale: the largest of these that divides a row
CACHE_KINDS = {"fp32": TensorProto.FLOAT, "int8": TensorProto.INT8, "fp16": TensorProto.FLOAT16}
QUANTISED_CACHE = {"k_quant_type": "PER_TENSOR", "v_quant_type": "PER_TENSOR", "kv_cache_bit_width": 8}
LARGEST = 127  # of 8-bit keys and values
SCALES_FROM = 12  # index of the cache's scales among the inputs of GroupQueryAttention
INTEGER_PRODUCTS = 4  # accuracy_level of MatMulNBits: 8-bit activations; 0, floating point, is far slower


def build(network: GPT, precision: Precision, ranges: CacheRanges = ()) -> onnx.ModelProto:
    """Return the ONNX model of a network; `UserError` where it is too large for one file.

    int8 needs the `ranges` that `calibration.cache_ranges` found.
    """
    config = network.config
    graph = _FastGraph(network, precision, ranges)
    graph.add_network("position_ids")
    graph.declare_ids_and_logits("read")
    graph.input("last_place", TensorProto.INT32, "batch")
    graph.input("total_length", TensorProto.INT32)
    graph.input("rows", TensorProto.INT64, "read")
    if config.positions == "learned":
        graph.input("position_ids", TensorProto.INT64, "batch", "new")
    graph.declare_cache(CACHE_KINDS[precision], past=config.context, present=config.context)
    return graph.model("gpt", MICROSOFT, [_head_norm_defined(config)] if config.qk_norm else [])


class _FastGraph(TransformerGraph):
    """Adds ONNX Runtime's own operators, and numbers in the graph's precision."""

    def __init__(self, network: GPT, precision: Precision, ranges: CacheRanges) -> None:
        super().__init__(network)
        self._precision = precision
        self._ranges = ranges

    def _floats(self, name: str, value: npt.NDArray[np.float32]) -> str:
        return self.constant(name, value.astype(np.float16) if self._precision == "fp16" else value)

    def _fused(self, operator: str, name: str, inputs: Sequence[str], outputs: Sequence[str] = (), **sizes: Any) -> str:
        """Add a node of the domain com.microsoft."""
        return self.node(operator, name, inputs, outputs, domain=MICROSOFT, **sizes)

    def _product(self, name: str, x: str, weight_NK: npt.NDArray[np.float32], output: str = "") -> str:
        if self._precision != "int8":
            return super()._product(name, x, weight_NK, output)
        integers, scales = quantise(weight_NK)
        inputs = [x, self.constant(f"{name}.int8", integers), self.constant(f"{name}.scale", scales)]
        sizes = {"N": weight_NK.shape[0], "K": weight_NK.shape[1], "bits": 8, "block_size": integers.shape[2]}
        return self._fused("MatMulNBits", name, inputs, [output or name], **sizes, accuracy_level=INTEGER_PRODUCTS)

    def _attention(self, layer: int, x_BTC: str, positions: str) -> str:
        name, heads = f"blocks.{layer}.attention", self.config.n_head
        inputs = [*self._qkv(name, x_BTC), f"past_key.{layer}", f"past_value.{layer}", "last_place", "total_length"]
        options: dict[str, Any] = {"num_heads": heads, "kv_num_heads": heads}
        if self.config.positions == "rotary":
            inputs += ["rotary_cos", "rotary_sin"]
            options["do_rotary"] = 1
        if self._precision == "int8":
            inputs += [""] * (SCALES_FROM - len(inputs))
            inputs += self._cache_scales(name, layer)
            options |= QUANTISED_CACHE
        outputs = [f"{name}/mixed", f"present_key.{layer}", f"present_value.{layer}"]
        mixed_BTC = self._fused("GroupQueryAttention", name, inputs, outputs, **options)
        return self._linear(f"{name}.out", mixed_BTC)

    def _qkv(self, name: str, x_BTC: str) -> list[str]:
        """Add queries, keys and values; without QK-norm as one value, which GroupQueryAttention takes apart."""
        qkv = self._linear(f"{name}.qkv", x_BTC)
        if not self.config.qk_norm:
            return [qkv, "", ""]
        q, k, v = self._split(name, qkv, "q", "k", "v")
        return [self._head_norm(f"{name}.q_norm", q), self._head_norm(f"{name}.k_norm", k), v]

    def _head_norm(self, name: str, x_BTC: str) -> str:
        """Add an RMS normalisation of each head by itself, as one node; return its output."""
        inputs = [x_BTC, self._weight(f"{name}.weight")]
        return self._fused(HEAD_NORM, name, inputs, num_branches=self.config.n_head, epsilon=RMS_NORM_EPS)

    def _cache_scales(self, name: str, layer: int) -> list[str]:
        """Add the size of one step of a layer's 8-bit keys and values; a layer of zeros takes any."""
        return [
            self.constant(f"{name}.{kind}_scale", np.array([(largest or 1.0) / LARGEST], np.float32))
            for kind, largest in zip(("key", "value"), self._ranges[layer], strict=True)
        ]

    def _add_and_norm(self, total: str, norm: str, y_BTC: str, stream_BTC: str) -> tuple[str, str]:
        inputs = [y_BTC, stream_BTC, *self._norm_weights(norm)]
        if self.config.norm == "rmsnorm":
            operator, epsilon = "SkipSimplifiedLayerNormalization", RMS_NORM_EPS
        else:
            operator, epsilon = "SkipLayerNormalization", LAYER_NORM_EPS
        stream_BTC = f"{norm}/stream"
        return self._fused(operator, norm, inputs, [norm, "", "", stream_BTC], epsilon=epsilon), stream_BTC

    def _gelu(self, name: str, x_BTF: str) -> str:
        return self._fused("FastGelu", f"{name}/gelu", [x_BTF])

    def _silu(self, name: str, x_BTF: str) -> str:
        return self._fused("QuickGelu", f"{name}/silu", [x_BTF], alpha=1.0)  # x * sigmoid(alpha x)

    def _head(self, x_BTC: str) -> None:
        flat = self.node("Reshape", "places", [x_BTC, self.integers("shape/places", -1, self.config.n_embd)])
        read = self.node("Gather", "read", [flat, "rows"])
        weight_VC = self.weights["token_embedding.weight" if self.config.tie_embeddings else "head.weight"]
        if self._precision == "fp16":
            self._product("head", read, weight_VC, "head/fp16")
            self.node("Cast", "head/fp32", ["head/fp16"], ["logits"], to=TensorProto.FLOAT)
        else:
            self._product("head", read, weight_VC, "logits")


def _head_norm_defined(config: GPTNetwork) -> onnx.FunctionProto:
    """Return what BranchwiseRMSNorm computes here, in standard operators, for a runtime that has no kernel for it.

    ONNX Runtime takes a kernel before a definition.
    """
    nodes = [
        helper.make_node("Constant", [], ["heads"], value_ints=[0, 0, config.n_head, head_size(config)]),
        helper.make_node("Constant", [], ["flat"], value_ints=[0, 0, config.n_embd]),
        helper.make_node("Reshape", ["X", "heads"], ["x"]),
        helper.make_node("RMSNormalization", ["x", "scale"], ["y"], axis=-1, epsilon=RMS_NORM_EPS),
        helper.make_node("Reshape", ["y", "flat"], ["Y"]),
    ]
    standard = [helper.make_opsetid("", OPSET)]
    return helper.make_function(
        MICROSOFT, HEAD_NORM, ["X", "scale"], ["Y"], nodes, standard, attributes=["num_branches", "epsilon"]
    )


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
