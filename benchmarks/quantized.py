"""int8 on a processor that has no instructions for it: the quantized graph with its integers as floats."""

from __future__ import annotations

from typing import Any

import numpy as np


def with_floats(graph: Any) -> Any:
    """A quantized OpenVINO ``graph`` that rounds as int8 does and multiplies floats: every processor computes it alike.

    By the formula in OpenVINO's specification of FakeQuantize.
    """
    from openvino import opset13 as op

    for node in graph.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize":
            x, low, high, new_low, new_high = (node.input_value(index) for index in range(5))
            steps = op.constant(np.float32(node.get_attributes()["levels"] - 1))
            share = op.divide(op.subtract(op.minimum(op.maximum(x, low), high), low), op.subtract(high, low))
            rounded = op.divide(op.round(op.multiply(share, steps), "half_to_even"), steps)
            scaled = op.add(op.multiply(rounded, op.subtract(new_high, new_low)), new_low)
            node.output(0).replace(scaled.output(0))
    return graph
