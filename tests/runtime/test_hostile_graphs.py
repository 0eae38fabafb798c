"""A zoo of operators that were bent to break a reader: each is refused for its own reason, before an engine sees it."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from onnx import numpy_helper as np_helper
from zoo import Model, bytes_of, model, one

from inr_runtime.errors import GraphError
from inr_runtime.graph import CanonicalGraph

i = np.array
F = np.float32
BIG = 1 << 40
NODES: dict[str, tuple[Model, str]] = {
    "a loop": (one("Loop", "x0 x0 x0"), "'Loop' is not in the dialect"),
    "a branch": (one("If", "x0"), "'If' is not in the dialect"),
    "a precompiled engine": (one("EPContext", "x0"), "'EPContext' is not in the dialect"),
    "somebody's own operator": (one("Relu", "x0", domain="com.evil"), "default domain"),
    "an operator of a long name": (one("\x1b[2J" * 999, "x0"), r"operator '\\x1b\[2J"),
    "an overloaded operator": (one("Relu", "x0", overload="f"), "default domain"),
    "an unknown attribute": (one("Relu", "x0", secret=1), "'secret' is not in the dialect"),
    "a foreign attribute": (one("Relu", "x0", alpha=0.5), "'alpha' is not in the dialect"),
    "an automatic padding": (one("Conv", "x0 w0", auto_pad="SAME_UPPER"), "auto_pad='SAME_UPPER'"),
    "an unknown mode": (one("DepthToSpace", "x0", blocksize=2, mode="XYZ"), "mode='XYZ'"),
    "a cubic resize": (one("Resize", "x0 - - c0", i([1, 8, 8, 8]), mode="cubic"), "mode='cubic'"),
    "a text for a number": (one("LeakyRelu", "x0", alpha="0.5"), "alpha must be of type float"),
    "an int for a float": (one("LeakyRelu", "x0", alpha=1), "alpha must be of type float"),
    "a number for a list": (one("Conv", "x0 w0", pads=1), "pads must be of type tuple"),
    "a list for a number": (one("DepthToSpace", "x0", blocksize=[2]), "blocksize"),
    "a float for a text": (one("DepthToSpace", "x0", blocksize=2, mode=1.0), "mode must be of type str"),
    "a number that is none": (one("LeakyRelu", "x0", alpha=float("nan")), "'alpha' has a kind"),
    "no block size": (one("DepthToSpace", "x0"), "blocksize None"),
    "an empty block": (one("DepthToSpace", "x0", blocksize=0), "blocksize 0"),
    "a negative block": (one("DepthToSpace", "x0", blocksize=-2), "blocksize -2"),
    "a block that does not divide": (one("DepthToSpace", "x0", blocksize=3), "do not fit"),
    "no axis": (one("Concat", "x0 x0"), "axis None"),
    "no order": (one("Transpose", "x0"), "expected a list of ints"),
    "an axis outside": (one("Concat", "x0 x0", axis=4), "axis 4"),
    "an axis far outside": (one("Concat", "x0 x0", axis=-BIG), "does not fit rank 4"),
    "batches joined": (one("Concat", "x0 x0", axis=0), "batch of 1"),
    "batches joined from behind": (one("Concat", "x0 x0", axis=-4), "batch of 1"),
    "ranks mixed": (one("Concat", "x0 w0", w0=(1, 8, 4), axis=3), "Concat"),
    "sizes mixed": (one("Concat", "x0 w0", w0=(1, 8, 4, 7), axis=1), "Concat"),
    "batch moved": (one("Transpose", "x0", perm=[1, 0, 2, 3]), "keeps the batch"),
    "an order that is none": (one("Transpose", "x0", perm=[0, 1, 1, 3]), "Transpose"),
    "an order of another rank": (one("Transpose", "x0", perm=[0]), "Transpose"),
    "a reordered number": (one("Transpose", "c0", F(1), perm=[0]), "Transpose"),
    "a kernel of another size": (one("Conv", "x0 w0", kernel_shape=[5, 5]), "Conv kernel"),
    "a kernel of one dimension": (one("Conv", "x0 w0", kernel_shape=[3]), "Conv kernel"),
    "a 3-D convolution": (one("Conv", "x0 w0", w0=(12, 8, 3, 3, 3)), "Conv"),
    "channels that do not fit": (one("Conv", "x0 w0", w0=(12, 7, 3, 3)), "Conv"),
    "a kernel larger than the picture": (one("Conv", "x0 w0", w0=(12, 8, 5, 5)), "Conv output"),
    "no groups": (one("Conv", "x0 w0", group=0), "convolutions are 2-D"),
    "negative groups": (one("Conv", "x0 w0", group=-1), "convolutions are 2-D"),
    "groups that do not divide": (one("Conv", "x0 w0", w0=(13, 4, 3, 3), group=2), "Conv"),
    "no stride": (one("Conv", "x0 w0", strides=[0, 1]), "out of range"),
    "negative padding": (one("Conv", "x0 w0", pads=[-1, 1, 1, 1]), "out of range"),
    "enormous padding": (one("Conv", "x0 w0", pads=[BIG] * 4), "out of range"),
    "enormous dilation": (one("Conv", "x0 w0", dilations=[BIG, 1]), "out of range"),
    "too few paddings": (one("Conv", "x0 w0", pads=[1, 1]), "convolutions are 2-D"),
    "a bias that does not fit": (one("Conv", "x0 w0 w1", w0=(11, 8, 3, 3)), "Conv bias"),
    "no kernel": (one("Conv", "x0 -"), "input 1 must be given"),
    "no picture": (one("Conv", "- w0"), "input 0 must be given"),
    "a bias left empty": (one("Conv", "x0 w0 -"), "input 2 must be given"),
    "channels that do not fit backwards": (one("ConvTranspose", "x0 w0"), "ConvTranspose"),
    "a result that is all padding": (one("ConvTranspose", "x0 w0", w0=(8, 3, 1, 1), pads=[9] * 4), "output"),
    "an operator of nothing": (one("Relu", "-"), "input 0 must be given"),
    "an operator without inputs": (model([helper.make_node("Relu", [], ["e0"])]), "found 0"),
    "too many inputs": (one("Relu", "x0 x0"), "found 2"),
    "a name from nowhere": (one("Relu", "e9"), "'e9', which no earlier node defines"),
    "a circle of two nodes": (
        model([helper.make_node("Relu", ["e1"], ["e0"]), helper.make_node("Relu", ["e0"], ["e1"])]),
        "'e1', which no earlier node defines",
    ),
    "an operator of another framework's name": (one("PyOp", "x0"), "'PyOp' is not in the dialect"),
    "a constant made by a node": (one("Constant", "", value_float=1.0), "'Constant' is not in the dialect"),
    "an operator in small letters": (one("relu", "x0"), "'relu' is not in the dialect"),
    "an operator under the default domain's other name": (one("Relu", "x0", domain="ai.onnx"), "default domain"),
    "tensors as attribute": (one("Relu", "x0", value=np_helper.from_array(F(1))), "'value' is not in the dialect"),
    "a tensor for a number": (one("LeakyRelu", "x0", alpha=np_helper.from_array(F(1))), "'alpha' has a kind"),
    "floats for a number": (one("LeakyRelu", "x0", alpha=[0.5, 0.5]), "'alpha' has a kind"),
    "texts for a text": (one("DepthToSpace", "x0", blocksize=2, mode=["DCR", "CRD"]), "'mode' has a kind"),
    "graphs for a number": (one("LeakyRelu", "x0", alpha=[helper.make_graph([], "g", [], [])]), "'alpha' has a kind"),
    "a very long list": (one("Transpose", "x0", perm=list(range(65))), "'perm' has a kind or size"),
    "a very long text": (one("DepthToSpace", "x0", blocksize=2, mode="D" * 65), "'mode' has a kind or size"),
    "a slope of infinity": (one("LeakyRelu", "x0", alpha=float("inf")), "'alpha' has a kind"),
    "far too many inputs": (one("Concat", "x0 " * 10_000, axis=1), "found 10000"),
    "a node that reads itself": (one("Relu", "e0"), "'e0', which no earlier node defines"),
    "shapes that do not broadcast": (one("Add", "x0 w0"), "do not broadcast"),
    "a broadcast batch": (one("Add", "x0 w0", w0=(5, 8, 4, 6)), "batch of 1"),
    "a broadcast beyond rank 6": (one("Add", "x0 c0", np.zeros((1,) * 7, F)), "rank at most 6"),
    "a result of constants": (one("Add", "c0 c0", F(1)), "batch of 1"),
    "integers as data": (one("Add", "x0 c0", i([1])), "input 1 must be float32"),
    "a float as a shape": (one("Reshape", "x0 c0", F([1, 192])), "vector of int64"),
    "a number as a shape": (one("Reshape", "x0 c0", i(192)), "vector of int64"),
    "a weight as a shape": (one("Reshape", "x0 w1"), "input 1 must be a constant"),
    "a shape of -1": (one("Reshape", "x0 c0", i([1, -1])), "Reshape"),
    "a shape of 0": (one("Reshape", "x0 c0", i([1, 0, 8, 24])), "Reshape"),
    "a shape of another size": (one("Reshape", "x0 c0", i([1, 8, 4, 7])), "Reshape"),
    "a shape that takes the batch": (one("Reshape", "x0 c0", i([8, 24])), "batch of 1"),
    "a shape of rank 7": (one("Reshape", "x0 c0", i([1, 8, 4, 6, 1, 1, 1])), "Reshape"),
    "a number reshaped": (one("Reshape", "c0 c1", F(1), i([2])), "Reshape"),
    "a resize by a weight": (one("Resize", "x0 - - w1"), "input 3 must be a constant"),
    "a resize by scales": (one("Resize", "x0 - c0 c1", F([1, 1, 2, 2]), i([1, 8, 8, 12])), "input 2 must be empty"),
    "a resize of a region": (one("Resize", "x0 w1 - c0", i([1, 8, 8, 12])), "input 1 must be empty"),
    "a resize without a size": (one("Resize", "x0 - -"), "found 3"),
    "a resize of channels": (one("Resize", "x0 - - c0", i([1, 9, 8, 12])), "Resize"),
    "a resize to nothing": (one("Resize", "x0 - - c0", i([1, 8, 0, 12])), "Resize"),
    "a resize of another rank": (one("Resize", "x0 - - c0", i([1, 8, 8])), "Resize"),
    "a slice backwards": (one("Slice", "x0 c0 c1 c2 c3", i([3]), i([0]), i([2]), i([-1])), "forward steps"),
    "a slice in steps": (one("Slice", "x0 c0 c1 c2 c3", i([0]), i([4]), i([2]), i([2])), "forward steps"),
    "a slice from behind": (one("Slice", "x0 c0 c1 c2 c3", i([-2]), i([4]), i([2]), i([1])), "forward steps"),
    "a slice of nothing": (one("Slice", "x0 c0 c1 c2 c3", i([9]), i([BIG]), i([2]), i([1])), "Slice"),
    "a slice of the batch": (one("Slice", "x0 c0 c1 c2 c3", i([0]), i([1]), i([-4]), i([1])), "forward steps"),
    "a slice outside": (one("Slice", "x0 c0 c1 c2 c3", i([0]), i([1]), i([4]), i([1])), "axis 4"),
    "slices of one axis": (one("Slice", "x0 c0 c0 c0 c0", i([2, 2])), "Slice axes"),
    "bounds of several lengths": (one("Slice", "x0 c0 c1 c1 c1", i([0, 0]), i([1])), "Slice"),
    "a slice without axes": (one("Slice", "x0 c0 c0", i([1])), "found 3"),
    "a clip by tensors": (one("Clip", "x0 c0 c0", F([0])), "two float32 scalars"),
    "a clip by integers": (one("Clip", "x0 c0 c0", i(0)), "two float32 scalars"),
    "a clip by a weight": (one("Clip", "x0 w0 w0", w0=(1,)), "must be a constant"),
    "a clip without bounds": (one("Clip", "x0 - -"), "must be given"),
    "an output that is not RGB": (one("Relu", "x0"), r"RGB picture \(1, 3, H, W\), found \(1, 8, 4, 6\)"),
    "an output of another rank": (one("Reshape", "x0 c0", i([1, 3, 64])), "RGB picture"),
    "another size than declared": (one("Slice", "x0 c0 c1 c2 c2", i([0]), i([3]), i([1])), "declared output shape"),
}


@pytest.mark.parametrize("name", NODES)
def test_an_operator_is_refused_for(name: str) -> None:
    hostile, reason = NODES[name]
    for read in (lambda: CanonicalGraph.from_model(hostile), lambda: CanonicalGraph.from_bytes(bytes_of(hostile))):
        with pytest.raises(GraphError, match=reason) as caught:
            read()
        assert len(str(caught.value)) < 400
        assert str(caught.value).isprintable()
