"""How each operation is written in PyTorch: one table, `SOURCES`, beside `networks.ops.OPS` and
`training.modules.MODULES`.

What has no tensors is a function of `torch.nn.functional` or of a tensor, which reads better than
a module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from nanonas.networks.ops import NORM_EPS, Node
from nanonas.training import modules

Inputs = Sequence[str]  # expressions


def _module_call(node: Node, inputs: Inputs) -> str:
    return f"self.{node.name}({', '.join(inputs)})"


@dataclass(frozen=True)
class Source:
    """How an operation is written.

    The module has its tensors under the names that `networks.ops.Op.tensors` says.
    """

    call: Callable[[Node, Inputs], str] = _module_call  # the expression of its output
    module: Callable[[Node], str] | None = None  # the expression of its module; None: has none
    needs: tuple[type[nn.Module], ...] = ()  # classes of ours whose source goes along


def _conv(node: Node) -> str:
    words = [str(node.input_shapes[0][0]), str(node.shape[0]), str(node.kernel)]
    if node.stride != 1:
        words.append(f"stride={node.stride}")
    if node.kernel != 1:
        words.append(f"padding={node.kernel // 2}")
    if node.groups != 1:
        words.append(f"groups={node.groups}")
    if not node["bias"]:
        words.append("bias=False")
    return f"nn.Conv2d({', '.join(words)})"


def _norm(node: Node) -> str:
    kind = "BatchNorm2d" if len(node.shape) == 3 else "BatchNorm1d"
    return f"nn.{kind}({node.shape[0]}, eps={NORM_EPS})"


def _pool(function: str, more: str = "") -> Callable[[Node, Inputs], str]:
    def call(node: Node, inputs: Inputs) -> str:
        words = [inputs[0], str(node.kernel), f"stride={node.stride}"]
        if padding := (node.kernel - 1) // 2:
            words.append(f"padding={padding}")
            words += [more] if more else []
        return f"{function}({', '.join(words)})"

    return call


def _space_to_depth(node: Node, inputs: Inputs) -> str:
    stride = node.stride
    right, below = (-node.input_shapes[0][axis] % stride for axis in (2, 1))
    whole = f"F.pad({inputs[0]}, (0, {right}, 0, {below}))" if right or below else inputs[0]
    return f"F.pixel_unshuffle({whole}, {stride})"


ACTIVATIONS: dict[str, str] = {  # by kind; a format of the input
    "relu": "F.relu({})",
    "leaky_relu": "F.leaky_relu({}, 0.1)",
    "silu": "F.silu({})",
    "gelu": "F.gelu({})",
    "hardswish": "F.hardswish({})",
}

SOURCES: dict[str, Source] = {
    "conv": Source(module=_conv),
    "norm": Source(module=_norm),
    "group_norm": Source(
        module=lambda node: f"nn.GroupNorm({node['parts']}, {node.shape[0]}, eps={NORM_EPS})"
    ),
    "layer_norm": Source(
        module=lambda node: f"LayerNorm({node.shape[0]}, eps={NORM_EPS})",
        needs=(modules.LayerNorm,),
    ),
    "act": Source(lambda node, inputs: ACTIVATIONS[str(node["kind"])].format(*inputs)),
    "maxpool": Source(_pool("F.max_pool2d")),
    "avgpool": Source(_pool("F.avg_pool2d", "count_include_pad=False")),
    "globalpool": Source(lambda node, inputs: f"{inputs[0]}.mean(dim=(2, 3))"),
    "globalmaxpool": Source(lambda node, inputs: f"{inputs[0]}.amax(dim=(2, 3))"),
    "space_to_depth": Source(_space_to_depth),
    "slice": Source(lambda node, inputs: f"{inputs[0]}[:, {node['start']}:{node['stop']}]"),
    "squeeze_excite": Source(
        module=lambda node: f"SqueezeExcite({node.shape[0]}, {node['hidden']})",
        needs=(modules.SqueezeExcite,),
    ),
    "channel_attention": Source(
        module=lambda node: f"ChannelAttention({node['span']})", needs=(modules.ChannelAttention,)
    ),
    "spatial_attention": Source(
        module=lambda node: f"SpatialAttention({node.kernel})", needs=(modules.SpatialAttention,)
    ),
    "dropout": Source(
        lambda node, inputs: f"F.dropout({inputs[0]}, {node['rate']}, self.training)"
    ),
    "zero": Source(lambda node, inputs: f"torch.zeros_like({inputs[0]})"),
    "dense": Source(module=lambda node: f"nn.Linear({node.input_shapes[0][0]}, {node.shape[0]})"),
    "add": Source(lambda node, inputs: " + ".join(inputs)),
    "concat": Source(lambda node, inputs: f"torch.cat([{', '.join(inputs)}], dim=1)"),
}
