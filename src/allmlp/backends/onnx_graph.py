"""Our families as ONNX, operation by operation: in float32, in the int8 that `quantize.int8` defines, or in both.

What the engine computes, in standard operations (opset 20) that any runtime has. int8 is said by QuantizeLinear and
DequantizeLinear around products, which a runtime turns into sums of whole numbers: they are ours to the bit, and so is
the table that is GELU. Tokens are mixed in float without a transposition, weights times tokens as they lie; in int8 the
operand's bytes are turned, since runtimes want the weights of whole-number products on the right.

Axes: N images, S tokens, C channels, F hidden, K classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

import allmlp
from allmlp.backends.packages import need
from allmlp.quantize.dynamic import LEAST, STEP, DynamicGMLP, DynamicMixer, DynamicResMLP
from allmlp.quantize.int8 import Int8GMLP, Int8Linear, Int8Mixer, Int8ResMLP
from allmlp.quantize.network import Half
from allmlp.quantize.parts import PIXEL_CENTRE, GMLPParts, Linear, MixerParts, Norm, Parts, ResMLPParts
from allmlp.quantize.tables import ENTRIES, LAST

OPSET = 20  # the first with Gelu
IR_VERSION = 9
TURN = {"perm": [0, 2, 1]}  # (N, S, C) to (N, C, S) and back


class Graph:
    """Nodes one after another. Calling it adds an operation and gives the name of what comes out."""

    def __init__(self) -> None:
        (self.onnx,) = need("onnx")
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def __call__(self, operation: str, *inputs: str | np.ndarray, **attributes: Any) -> str:
        names = [self._name(value) for value in inputs]
        output = f"{operation.lower()}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operation, names, [output], **attributes))
        return output

    def _name(self, value: str | np.ndarray) -> str:
        if isinstance(value, str):
            return value
        name = f"constant_{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name


def write_graph(parts: Parts, stem: Int8Linear | Linear, halves: Sequence[tuple[Half, Half]]) -> Any:
    """The model: uint8 `images` (N, H, W, 3) to float32 `logits` (N, K). `stem`, and of each block what mixes tokens
    and what mixes channels (of gMLP the same twice), are in int8 or in float: `Int8Network` has them."""
    graph = Graph()
    (height, width), (rows, columns) = parts.image_size, parts.patch_size
    grid = np.array([-1, height // rows, rows, width // columns, columns * 3])
    patches = graph("Transpose", graph("Reshape", "images", grid), perm=[0, 1, 3, 2, 4])
    pixels_NSP = graph("Reshape", patches, np.array([-1, parts.tokens, rows * columns * 3]))
    if isinstance(stem, Int8Linear):
        x_NSC = _int8(graph, pixels_NSP, stem)
    else:
        centred = graph("Sub", graph("Cast", pixels_NSP, to=graph.onnx.TensorProto.FLOAT), _float(PIXEL_CENTRE))
        x_NSC = _linear(graph, centred, stem)
    for over_tokens, over_channels in halves:
        if isinstance(over_tokens, GMLPParts | Int8GMLP | DynamicGMLP):
            x_NSC = _gated(graph, x_NSC, over_tokens)
        else:
            assert not isinstance(over_channels, GMLPParts | Int8GMLP | DynamicGMLP)
            x_NSC = _over_channels(graph, _over_tokens(graph, x_NSC, over_tokens), over_channels)
    pooled = graph("ReduceMean", _norm(graph, x_NSC, parts.norm), np.array([1]), keepdims=0)
    _linear(graph, pooled, parts.head)
    graph.nodes[-1].output[0] = "logits"
    helper, kinds = graph.onnx.helper, graph.onnx.TensorProto
    proto = helper.make_graph(
        graph.nodes, "allmlp",
        [helper.make_tensor_value_info("images", kinds.UINT8, ["N", height, width, 3])],
        [helper.make_tensor_value_info("logits", kinds.FLOAT, ["N", len(parts.head.bias)])],
        graph.constants,
    )  # fmt: skip
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
                             producer_name="allmlp", producer_version=allmlp.__version__)


def _float(values: Any) -> np.ndarray:
    return np.asarray(values, np.float32)


def _linear(graph: Graph, x: str, layer: Linear) -> str:
    return graph("Add", graph("MatMul", x, _float(layer.weight.T)), _float(layer.bias))


def _mix_tokens(graph: Graph, x_NSC: str, layer: Linear) -> str:
    return graph("Add", graph("MatMul", _float(layer.weight), x_NSC), _float(layer.bias[:, None]))


def _norm(graph: Graph, x: str, norm: Norm) -> str:
    if norm.epsilon is None:
        return graph("Add", graph("Mul", x, _float(norm.scale)), _float(norm.shift))
    return graph("LayerNormalization", x, _float(norm.scale), _float(norm.shift), axis=-1, epsilon=norm.epsilon)


def _gelu(graph: Graph, x: str, kind: str) -> str:
    return graph("Gelu", x, approximate="tanh" if kind == "tanh" else "none")


def _to_byte(graph: Graph, x: str) -> str:
    """Rounded to nearest, ties to even, cut to [0, 255]."""
    return graph("QuantizeLinear", x, _float(1), np.array(0, np.uint8))


def _sums(graph: Graph, operand: str, layer: Int8Linear) -> str:
    """Bytes (…, inputs) to sums times `scale` (…, outputs)."""
    bytes_ = graph("DequantizeLinear", operand, _float(1), np.array(layer.zero_point, np.uint8))
    weight = graph("DequantizeLinear", layer.weight.T, layer.scale, np.zeros(len(layer.scale), np.int8), axis=1)
    return graph("MatMul", bytes_, weight)


def _int8(graph: Graph, operand: str, layer: Int8Linear) -> str:
    return graph("Add", _sums(graph, operand, layer), layer.shift)


def _look_up(graph: Graph, x: str, table: np.ndarray) -> str:
    """Entries of the table, at indices rounded and cut to them. Not by Gather, with which ONNX Runtime copies each byte
    as a block of memory of its own, in six times the time."""
    if (table[LAST:] == table[LAST]).all():
        whole, table = _to_byte(graph, x), table[: LAST + 1]
    else:
        whole = graph("Round", graph("Clip", x, _float(0), _float(ENTRIES - 1)))
    index = graph("Cast", whole, to=graph.onnx.TensorProto.INT32)
    entries = graph("GatherElements", table, graph("Reshape", index, np.array([-1])))
    return graph("Reshape", entries, graph("Shape", index))


def _turned(graph: Graph, x: str) -> str:
    return graph("Transpose", x, **TURN)


def _dynamic(graph: Graph, x: str, layer: Int8Linear) -> str:
    """A product of rows (…, inputs) that get their scales here: `quantize.dynamic.product`."""
    largest = graph("ReduceMax", graph("Abs", x), np.array([-1]), keepdims=1)
    scale = graph("Mul", graph("Max", largest, LEAST), STEP)
    rows = graph("QuantizeLinear", graph("Div", x, scale), _float(1), np.array(layer.zero_point, np.uint8))
    return graph("Add", graph("Mul", _sums(graph, rows, layer), scale), layer.shift)


# What stands for one half of a block, but for gMLP.
_Half = MixerParts | ResMLPParts | Int8Mixer | Int8ResMLP | DynamicMixer | DynamicResMLP


def _over_tokens(graph: Graph, x_NSC: str, block: _Half) -> str:
    normed = _norm(graph, x_NSC, block.norm1)
    if isinstance(block, MixerParts):
        hidden = _gelu(graph, _mix_tokens(graph, normed, block.tokens1), block.gelu)
        mixed = _mix_tokens(graph, hidden, block.tokens2)
    elif isinstance(block, ResMLPParts):
        mixed = graph("MatMul", _float(block.tokens), normed)
        mixed = graph("Add", graph("Mul", mixed, _float(block.column_scale)), _float(block.shift))
    elif isinstance(block, DynamicMixer):
        hidden = _gelu(graph, _dynamic(graph, _turned(graph, normed), block.tokens1), block.gelu)
        mixed = _turned(graph, _dynamic(graph, hidden, block.tokens2))
    elif isinstance(block, DynamicResMLP):
        mixed = _turned(graph, _dynamic(graph, _turned(graph, normed), block.tokens))
        mixed = graph("Add", graph("Mul", mixed, block.column_scale), block.shift)
    elif isinstance(block, Int8Mixer):
        operand_NCS = _turned(graph, _to_byte(graph, normed))
        sums = graph("Mul", _sums(graph, operand_NCS, block.tokens1), block.column_scale[:, None])
        hidden = _look_up(graph, graph("Add", sums, block.tokens1.shift), block.tokens_table)
        mixed = _turned(graph, _int8(graph, hidden, block.tokens2))
    else:
        operand_NCS = _turned(graph, _to_byte(graph, normed))
        sums = graph("Mul", _sums(graph, operand_NCS, block.tokens), block.column_scale[:, None])
        mixed = graph("Add", _turned(graph, sums), block.shift)
    return graph("Add", x_NSC, mixed)


def _over_channels(graph: Graph, x_NSC: str, block: _Half) -> str:
    normed = _norm(graph, x_NSC, block.norm2)
    if isinstance(block, DynamicMixer | DynamicResMLP):
        hidden = _gelu(graph, _dynamic(graph, normed, block.channels1), block.gelu)
        return graph("Add", x_NSC, _dynamic(graph, hidden, block.channels2))
    if isinstance(block, MixerParts | ResMLPParts):
        hidden = _gelu(graph, _linear(graph, normed, block.channels1), block.gelu)
        return graph("Add", x_NSC, _linear(graph, hidden, block.channels2))
    hidden = _look_up(graph, _int8(graph, _to_byte(graph, normed), block.channels1), block.channels_table)
    return graph("Add", x_NSC, _int8(graph, hidden, block.channels2))


def _gated(graph: Graph, x_NSC: str, block: GMLPParts | Int8GMLP | DynamicGMLP) -> str:
    normed = _norm(graph, x_NSC, block.norm1)
    if isinstance(block, DynamicGMLP):
        carrier, gate = (_gelu(graph, _dynamic(graph, normed, layer), block.gelu)
                         for layer in (block.carrier, block.gate))
        gates = _dynamic(graph, _turned(graph, _norm(graph, gate, block.norm2)), block.tokens)
        return graph("Add", x_NSC, _dynamic(graph, graph("Mul", carrier, _turned(graph, gates)), block.out))
    if isinstance(block, GMLPParts):
        carrier, gate = (_gelu(graph, _linear(graph, normed, layer), block.gelu)
                         for layer in (block.carrier, block.gate))
        gates = _mix_tokens(graph, _norm(graph, gate, block.norm2), block.tokens)
        return graph("Add", x_NSC, _linear(graph, graph("Mul", carrier, gates), block.out))
    operand = _to_byte(graph, normed)
    carrier, gate = (_gelu(graph, _int8(graph, operand, layer), block.gelu) for layer in (block.carrier, block.gate))
    operand = _turned(graph, _to_byte(graph, _norm(graph, gate, block.norm2)))
    mixed = graph("Mul", _sums(graph, operand, block.tokens), block.column_scale[:, None])
    gates = graph("Mul", _turned(graph, graph("Add", mixed, block.tokens.shift)), carrier)
    gates = graph("Add", graph("Mul", gates, _float(block.out_scale)), _float(block.out_shift))
    return graph("Add", x_NSC, _int8(graph, _to_byte(graph, gates), block.out))
