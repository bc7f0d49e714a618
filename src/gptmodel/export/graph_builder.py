"""An ONNX graph under construction: its nodes, constants, inputs and outputs. Source: https://onnx.ai/onnx/operators."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

OPSET = 23  # the first with Attention
IR_VERSION = 11  # what opset 23 came with
VENDOR_OPSET = 1  # of the operators that only ONNX Runtime has

Array = npt.NDArray[Any]


class GraphBuilder:
    """Collects the parts of a graph; a node's name is also the name of its first output, unless that is given."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, kind: int, *shape: int | str) -> None:
        """Declare an input; `kind` is a `TensorProto` type, a dimension given by name is free."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))

    def output(self, name: str, kind: int, *shape: int | str) -> None:
        """Declare an output, as `input`."""
        self.outputs.append(helper.make_tensor_value_info(name, kind, list(shape)))

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

    def model(self, name: str, vendor: str = "", functions: Sequence[onnx.FunctionProto] = ()) -> onnx.ModelProto:
        """Return the ONNX model; `vendor` is the domain of the operators that are not standard, if any."""
        graph = helper.make_graph(self.nodes, name, self.inputs, self.outputs, list(self.constants.values()))
        opsets = [helper.make_opsetid("", OPSET)]
        if vendor:
            opsets.append(helper.make_opsetid(vendor, VENDOR_OPSET))
        return helper.make_model(
            graph, functions=functions, opset_imports=opsets, ir_version=IR_VERSION, producer_name="gptmodel"
        )

    def checked_model(self, name: str) -> onnx.ModelProto:
        """Return the ONNX model after `onnx.checker` has found nothing wrong; standard operators only."""
        model = self.model(name)
        onnx.checker.check_model(model, full_check=True)
        return model
