import subprocess
import sys

import onnx
import pytest
from onnx import TensorProto

from gptmodel.export.graph_builder import GraphBuilder


def test_the_samplers_graph_needs_no_torch() -> None:
    program = "import gptmodel.export.sampler_graph as s, sys; s.build(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_constant_is_there_once_and_a_mistake_is_found() -> None:
    graph = GraphBuilder()
    graph.input("x", TensorProto.INT64, "n")
    graph.output("y", TensorProto.INT64, "n")
    assert graph.integers("two", 2) == graph.integers("two", 2) == "two"
    graph.node("Mul", "double", ["x", "two"], ["y"])
    model = graph.checked_model("doubling")
    assert [constant.name for constant in model.graph.initializer] == ["two"]
    graph.node("Mul", "wrong", ["x", "three"])
    with pytest.raises(onnx.checker.ValidationError, match="three"):
        graph.checked_model("doubling")
