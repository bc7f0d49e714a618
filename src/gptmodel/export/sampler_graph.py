"""`sampling.choose` as an ONNX graph, and the bookkeeping of one decoding step: logits never leave the device.

One graph serves every bundle; all sizes are dynamic. Beside the token it returns the state that the next
step reads, so that, bound to the same buffers, model and sampler run in turn without the host:

    logits [batch, vocabulary] fp32, uniform [steps, batch] fp64, step [1] int64: the row of `uniform` that counts
    temperature, top_p, repetition_penalty [] fp64, top_k [] int64, allowed [vocabulary] bool,
    seen [batch, vocabulary] bool: tokens that the repetition penalty counts
    tokens [steps, batch] int64, last_place [batch] int32
      -> next_ids [batch, 1], next_position_ids [batch, 1], next_last_place [batch], next_step [1],
         next_seen [batch, vocabulary], next_tokens [steps, batch]: with this step's tokens in row `step`

All sums are in fp64 and in the order of numpy's, so that the same tokens come out.

Left out on purpose: random numbers (an operator that draws repeats itself in a captured CUDA graph).
"""

import numpy as np
import onnx
from onnx import TensorProto

from gptmodel.export.graph_builder import GraphBuilder

FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
INT32, INT64, BOOL = TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL


def build() -> onnx.ModelProto:
    """Return the checked ONNX model."""
    graph = GraphBuilder()
    kept_BV, greedy_B1 = _weights(graph)
    token_B1 = _draw(graph, kept_BV, greedy_B1)
    _state(graph, token_B1)
    graph.input("logits", FLOAT, "batch", "vocabulary")
    graph.input("uniform", DOUBLE, "steps", "batch")
    graph.input("step", INT64, 1)
    for name in ("temperature", "top_p", "repetition_penalty"):
        graph.input(name, DOUBLE)
    graph.input("top_k", INT64)
    graph.input("allowed", BOOL, "vocabulary")
    graph.input("seen", BOOL, "batch", "vocabulary")
    graph.input("tokens", INT64, "steps", "batch")
    graph.input("last_place", INT32, "batch")
    graph.output("next_ids", INT64, "batch", 1)
    graph.output("next_position_ids", INT64, "batch", 1)
    graph.output("next_last_place", INT32, "batch")
    graph.output("next_step", INT64, 1)
    graph.output("next_seen", BOOL, "batch", "vocabulary")
    graph.output("next_tokens", INT64, "steps", "batch")
    return graph.checked_model("sampler")


def _weights(graph: GraphBuilder) -> tuple[str, str]:
    """Add each token's weight in the draw, (B, V), and the likeliest token."""
    one = graph.constant("one", np.array(1.0))
    zero = graph.constant("zero", np.array(0.0))
    minus_infinity = graph.constant("minus_infinity", np.array(-np.inf))
    raw_BV = graph.node("Cast", "raw", ["logits"], to=DOUBLE)
    smaller_BV = graph.node("Div", "penalty/above_0", [raw_BV, "repetition_penalty"])
    larger_BV = graph.node("Mul", "penalty/below_0", [raw_BV, "repetition_penalty"])
    above_BV = graph.node("Greater", "penalty/is_above_0", [raw_BV, zero])
    penalised_BV = graph.node("Where", "penalty/score", [above_BV, smaller_BV, larger_BV])
    fair_BV = graph.node("Where", "penalty", ["seen", penalised_BV, raw_BV])
    scores_BV = graph.node("Where", "scores", ["allowed", fair_BV, minus_infinity])
    greedy_B1 = graph.node("ArgMax", "greedy", [scores_BV], axis=1, keepdims=1)
    top_B1 = graph.node("ReduceMax", "top", [scores_BV, graph.integers("axis_1", 1)], keepdims=1)
    is_greedy = graph.node("Equal", "is_greedy", ["temperature", zero])
    divisor = graph.node("Where", "divisor", [is_greedy, one, "temperature"])
    below_BV = graph.node("Sub", "below_top", [scores_BV, top_B1])
    weight_BV = graph.node("Exp", "weight", [graph.node("Div", "exponent", [below_BV, divisor])])
    return _keep_likeliest(graph, weight_BV), greedy_B1


def _keep_likeliest(graph: GraphBuilder, weight_BV: str) -> str:
    """Add the weights with those outside the k likeliest, then outside the nucleus, set to 0."""
    zero = graph.constant("zero", np.array(0.0))
    none = graph.constant("none", np.array(0, np.int64))
    size = graph.node("Shape", "vocabulary", ["logits"], start=1, end=2)
    graph.node("TopK", "sort", [weight_BV, size], ["sorted", "order"], axis=1, largest=1, sorted=1)
    scalar = graph.node("Squeeze", "vocabulary/scalar", [size])
    rank_V = graph.node("Range", "rank", [none, scalar, graph.constant("unit", np.array(1, np.int64))])
    every = graph.node("Equal", "top_k/is_0", ["top_k", none])
    in_k_V = graph.node("Or", "top_k/kept", [every, graph.node("Less", "top_k/likelier", [rank_V, "top_k"])])
    sorted_BV = graph.node("Where", "top_k/weight", [in_k_V, "sorted", zero])
    mass_BV = graph.node("CumSum", "top_p/mass", [sorted_BV, graph.constant("axis", np.array(1, np.int64))])
    before_BV = graph.node("Sub", "top_p/mass_before", [mass_BV, sorted_BV])
    total_B1 = graph.node("Gather", "top_p/total", [mass_BV, graph.integers("last", -1)], axis=1)
    edge_B1 = graph.node("Mul", "top_p/edge", [total_B1, "top_p"])
    whole = graph.node("GreaterOrEqual", "top_p/is_1", ["top_p", graph.constant("one", np.array(1.0))])
    inside_BV = graph.node("Or", "top_p/kept", [whole, graph.node("Less", "top_p/inside", [before_BV, edge_B1])])
    nucleus_BV = graph.node("Where", "top_p/weight", [inside_BV, sorted_BV, zero])
    return graph.node("ScatterElements", "kept", [weight_BV, "order", nucleus_BV], axis=1)


def _draw(graph: GraphBuilder, kept_BV: str, greedy_B1: str) -> str:
    """Add the token of each row, (B, 1): the cumulative distribution inverted at the row's uniform number."""
    mass_BV = graph.node("CumSum", "mass", [kept_BV, graph.constant("axis", np.array(1, np.int64))])
    total_B1 = graph.node("Gather", "mass/total", [mass_BV, graph.integers("last", -1)], axis=1)
    uniform_1B = graph.node("Gather", "uniform/row", ["uniform", "step"], axis=0)
    uniform_B1 = graph.node("Transpose", "uniform/column", [uniform_1B], perm=[1, 0])
    point_B1 = graph.node("Mul", "mass/point", [total_B1, uniform_B1])
    before_BV = graph.node("LessOrEqual", "mass/before", [mass_BV, point_B1])
    passed_BV = graph.node("Cast", "mass/passed", [before_BV], to=INT64)
    drawn_B1 = graph.node("ReduceSum", "drawn", [passed_BV, graph.integers("axis_1", 1)], keepdims=1)
    possible_BV = graph.node("Greater", "possible", [kept_BV, graph.constant("zero", np.array(0.0))])
    last_BV = graph.node("Cast", "possible/number", [possible_BV], to=FLOAT)
    last_B1 = graph.node("ArgMax", "possible/last", [last_BV], axis=1, keepdims=1, select_last_index=1)
    sampled_B1 = graph.node("Min", "sampled", [drawn_B1, last_B1])  # uniform x mass may round up to the whole mass
    return graph.node("Where", "token", ["is_greedy", greedy_B1, sampled_B1], ["next_ids"])


def _state(graph: GraphBuilder, token_B1: str) -> None:
    """Add what the next step reads."""
    none = graph.constant("none", np.array(0, np.int64))
    unit = graph.constant("unit", np.array(1, np.int64))
    is_token_BV = graph.node("Equal", "seen/new", [token_B1, "rank"])
    graph.node("Or", "seen/all", ["seen", is_token_BV], ["next_seen"])
    graph.node("Add", "step/next", ["step", unit], ["next_step"])
    unit_int32 = graph.constant("unit/int32", np.array(1, np.int32))
    place_B = graph.node("Add", "place/next", ["last_place", unit_int32], ["next_last_place"])
    column_B1 = graph.node("Unsqueeze", "place/column", [place_B, graph.integers("last", -1)])
    graph.node("Cast", "place/position", [column_B1], ["next_position_ids"], to=INT64)
    steps = graph.node("Squeeze", "steps", [graph.node("Shape", "steps/list", ["uniform"], start=0, end=1)])
    row_N = graph.node("Range", "steps/all", [none, steps, unit])
    row_N1 = graph.node("Unsqueeze", "steps/column", [row_N, graph.integers("last", -1)])
    now_N1 = graph.node("Equal", "steps/now", [row_N1, "step"])
    token_1B = graph.node("Transpose", "token/row", [token_B1], perm=[1, 0])
    graph.node("Where", "tokens/all", [now_N1, token_1B, "tokens"], ["next_tokens"])
