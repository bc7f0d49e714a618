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

import numpy as np
import onnx
from onnx import TensorProto, helper

from gptmodel.export.graph_builder import IR_VERSION, OPSET, Graph, Weights, network_weights, tensor
from gptmodel.model.bigram import Bigram
from gptmodel.model.gpt import GPT
from gptmodel.model.networks import LanguageModel
from gptmodel.params import GPTNetwork


def build(network: LanguageModel) -> onnx.ModelProto:
    """Return the checked ONNX model of a network."""
    weights = network_weights(network)
    graph = _bigram(network, weights) if isinstance(network, Bigram) else _gpt(network, weights)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="gptmodel")
    onnx.checker.check_model(model, full_check=True)
    return model


def _bigram(network: Bigram, weights: Weights) -> onnx.GraphProto:
    graph = Graph(weights)
    graph.node("Gather", "table", [graph.weight("table.weight"), "input_ids"], ["logits"])
    return helper.make_graph(
        graph.nodes,
        "bigram",
        [tensor("input_ids", TensorProto.INT64, "batch", "new")],
        [tensor("logits", TensorProto.FLOAT, "batch", "new", network.vocab_size)],
        list(graph.constants.values()),
    )


def _gpt(network: GPT, weights: Weights) -> onnx.GraphProto:
    config, graph = network.config, Graph(weights)
    position_BT, mask_B1TS = _places(graph)
    table = graph.weight("token_embedding.weight")
    x_BTC = graph.node("Gather", "embedding/tokens", [table, "input_ids"])
    if config.positions == "learned":
        places = graph.weight("position_embedding.weight")
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
    inputs = [tensor("input_ids", TensorProto.INT64, "batch", "new"), tensor("pad", TensorProto.INT64, "batch")]
    outputs = [tensor("logits", TensorProto.FLOAT, "batch", "new", network.vocab_size)]
    for layer in range(config.n_layer):
        for kind in ("key", "value"):
            heads, size = config.n_head, config.head_size
            inputs.append(tensor(f"past_{kind}.{layer}", TensorProto.FLOAT, "batch", heads, "past", size))
            outputs.append(tensor(f"present_{kind}.{layer}", TensorProto.FLOAT, "batch", heads, "total", size))
    return helper.make_graph(graph.nodes, "gpt", inputs, outputs, list(graph.constants.values()))


def _places(graph: Graph) -> tuple[str, str]:
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


def _block(graph: Graph, config: GPTNetwork, layer: int, x_BTC: str, position_BT: str, mask_B1TS: str) -> str:
    name = f"blocks.{layer}"
    y_BTC = graph.norm(config.norm, f"{name}.attention_norm", x_BTC)
    y_BTC = _attention(graph, config, layer, y_BTC, position_BT, mask_B1TS)
    x_BTC = graph.node("Add", f"{name}/after_attention", [x_BTC, y_BTC])
    y_BTC = graph.norm(config.norm, f"{name}.mlp_norm", x_BTC)
    y_BTC = _mlp(graph, config, f"{name}.mlp", y_BTC)
    return graph.node("Add", f"{name}/after_mlp", [x_BTC, y_BTC])


def _attention(graph: Graph, config: GPTNetwork, layer: int, x_BTC: str, position_BT: str, mask_B1TS: str) -> str:
    name = f"blocks.{layer}.attention"
    q, k, v = f"{name}/q", f"{name}/k", f"{name}/v"
    graph.node("Split", f"{name}/split", [graph.linear(f"{name}.qkv", x_BTC)], [q, k, v], num_outputs=3, axis=-1)
    if config.qk_norm:
        q, k = graph.head_norm(config, f"{name}.q_norm", q), graph.head_norm(config, f"{name}.k_norm", k)
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


def _mlp(graph: Graph, config: GPTNetwork, name: str, x_BTC: str) -> str:
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
