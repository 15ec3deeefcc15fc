"""A network as PyTorch source that people read: one class for each stage, one line for each
operation, shapes beside it. It needs torch and safetensors.

    class Stage2(nn.Module):
        # maps of 16×16

        def __init__(self) -> None:
            super().__init__()
            self.conv3 = nn.Conv2d(24, 48, 3, stride=2, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.conv3(x))  # (48, 16, 16)

A stage ends where the maps become smaller; the head is what works on vectors. An output that only
the next operation reads is called x, any other by the operation that made it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from nanonas.core import Shape
from nanonas.data.preprocessing import Preprocessing
from nanonas.deploy.operations import SOURCES
from nanonas.errors import GenomeError
from nanonas.networks.network import Network
from nanonas.training.modules import Step, steps

WIDTH = 100  # of a line, as of the classes of ours that go along
_INPUT = "input"  # as the nodes call the network's input
_INDENT = " " * 8


def model_source(network: Network, rule: Preprocessing) -> str:
    """The file model.py: `Model`, `prepare` and `load`.

    Its weights are those that `named_tensors` renames.

    Args:
        network: with nodes whose names are Python's identifiers.
        rule: how its images are prepared.

    Raises:
        GenomeError: it has an operation that is not in `operations.SOURCES`.
    """
    _check(network)
    stages = _stages(network)
    own = dict.fromkeys(one for node in network.nodes for one in SOURCES[node.op].needs)
    classes = [
        *(inspect.getsource(one).rstrip() for one in own),
        *(_stage_source(stage, network) for stage in stages),
        _model_class(network, stages),
    ]
    functional = any("F." in source for source in classes)
    parts = [_header(network, rule, functional), *classes, _functions(rule)]
    return "\n\n\n".join(parts) + "\n"


def named_tensors(network: Network, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a network's module under the names that model.py has for them."""
    stage_of = {step.module: stage.name for stage in _stages(network) for step in stage.steps}
    return {f"{stage_of[name.split('.')[0]]}.{name}": tensor for name, tensor in tensors.items()}


def _check(network: Network) -> None:
    for node in network.nodes:
        if node.op not in SOURCES:
            raise GenomeError(
                f"the operation {node.op!r} has no source to export; give it an entry in "
                "nanonas.deploy.SOURCES, or leave out the format pytorch"
            )


# --- what happens where ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stage:
    """Steps that work on maps of one size."""

    name: str  # of its attribute, such as stage1
    size: str  # of its maps, in words
    steps: tuple[Step, ...] = ()
    reads: tuple[str, ...] = ()  # outputs of steps before it, by the names that nodes have
    gives: tuple[str, ...] = ()  # of its own and before it, that steps behind it read
    variables: Mapping[str, str] = field(default_factory=dict)  # of outputs, by these names

    @property
    def kind(self) -> str:
        """The name of its class."""
        return self.name.capitalize()


def _stages(network: Network) -> list[_Stage]:
    """The network's steps, divided where maps become smaller than all before."""
    order = steps(network)
    variables = _variables(network, order)
    divided: list[list[Step]] = [[]]
    smallest = network.input_shape[1:]
    for step in order:
        size = step.shape[1:]
        if divided[-1] and math.prod(size or (0,)) < math.prod(smallest or (0,)):
            divided.append([])
        smallest = min(smallest, size, key=lambda sides: math.prod(sides or (0,)))
        divided[-1].append(step)
    stages = []
    known = [_INPUT]
    for place, own in enumerate(divided):
        later = {name for behind in divided[place + 1 :] for step in behind for name in step.inputs}
        reads = _in_order(known, {name for step in own for name in step.inputs})
        known += [step.output for step in own]
        gives = _in_order([step.output for step in own], later) or (own[-1].output,)
        size = own[-1].shape[1:]
        name = f"stage{place + 1}" if size else "head"
        words = f"maps of {size[0]}×{size[1]}" if size else "vectors"
        stages.append(_Stage(name, words, tuple(own), reads, gives, variables))
    return stages


def _in_order(names: Sequence[str], wanted: set[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name in wanted)


def _variables(network: Network, order: Sequence[Step]) -> dict[str, str]:
    """What each output is called: x where the next step alone reads it, else as what made it."""
    readers: dict[str, set[int]] = {}
    for place, step in enumerate(order):
        for name in step.inputs:
            readers.setdefault(name, set()).add(place)
    variables = {_INPUT: "x" if readers.get(_INPUT, set()) <= {0} else "image"}
    for place, step in enumerate(order):
        passing = readers.get(step.output, set()) <= {place + 1}
        variables[step.output] = "x" if passing else step.module
    return variables


# --- the classes ----------------------------------------------------------------------------------


def _stage_source(stage: _Stage, network: Network) -> str:
    made = []
    for step in stage.steps:
        node = network.named[step.module]
        module = SOURCES[node.op].module
        if module is not None:
            made += _wrapped(_INDENT, f"self.{node.name} = {module(node)}")
    lines = [f"class {stage.kind}(nn.Module):", f"    # {stage.size}"]
    if made:
        lines += ["", "    def __init__(self) -> None:", f"{_INDENT}super().__init__()", *made]
    given = [stage.variables[name] for name in stage.gives]
    taken = ", ".join(f"{stage.variables[name]}: Tensor" for name in stage.reads)
    result = "Tensor" if len(given) == 1 else f"tuple[{', '.join(['Tensor'] * len(given))}]"
    lines += ["", *_wrapped("    ", f"def forward(self, {taken}) -> {result}:")]
    statements = list(_statements(stage, network))
    last, comment = statements[-1]
    if len(given) == 1 and last.startswith(f"{given[0]} = "):
        statements[-1] = ("return " + last.removeprefix(f"{given[0]} = "), comment)
    else:
        statements.append((f"return {', '.join(given)}", ""))
    for statement, comment in statements:
        lines += _wrapped(_INDENT, statement, comment)
    return "\n".join(lines)


def _statements(stage: _Stage, network: Network) -> Iterator[tuple[str, str]]:
    """The assignments of a stage, each with its comment: the shape of what is assigned."""
    waiting = ""  # the expression of an output that the next step takes in
    for place, step in enumerate(stage.steps):
        node = network.named[step.module]
        inputs = [waiting or stage.variables[name] for name in step.inputs]
        expression = SOURCES[node.op].call(node, inputs)
        variable = stage.variables[step.output]
        behind = stage.steps[place + 1] if place + 1 < len(stage.steps) else None
        waiting = ""
        if behind is not None and variable == "x" and _takes_in(behind, network):
            nested = SOURCES["act"].call(network.named[behind.module], [expression])
            if len(f"{_INDENT}{stage.variables[behind.output]} = {nested}") <= WIDTH:
                waiting = expression
                continue
        yield f"{variable} = {expression}", f"  # {_shape(step.shape)}"


def _takes_in(step: Step, network: Network) -> bool:
    """Whether a step's source can have an expression in the place of what it reads."""
    return network.named[step.module].op == "act"


def _shape(shape: Shape) -> str:
    """(24, 16, 16), or (10,)."""
    return str(tuple(shape))


def _model_class(network: Network, stages: Sequence[_Stage]) -> str:
    lines = ["class Model(nn.Module):"]
    shape = ", ".join(map(str, network.input_shape))
    lines += [
        f'    """(B, {shape}), as `prepare` makes them, to (B, {network.classes}), logits."""',
        "",
        "    def __init__(self) -> None:",
        f"{_INDENT}super().__init__()",
        *(f"{_INDENT}self.{stage.name} = {stage.kind}()" for stage in stages),
        "",
        f"    def forward(self, {stages[0].variables[_INPUT]}: Tensor) -> Tensor:",
    ]
    for stage in stages[:-1]:
        given = ", ".join(stage.variables[name] for name in stage.gives)
        lines += _wrapped(_INDENT, f"{given} = {_call(stage)}")
    lines += _wrapped(_INDENT, f"return {_call(stages[-1])}")
    return "\n".join(lines)


def _call(stage: _Stage) -> str:
    return f"self.{stage.name}({', '.join(stage.variables[name] for name in stage.reads)})"


# --- what stands around them ----------------------------------------------------------------------

_HEADER = '''\
"""A convolutional network with {params:,} parameters, found by nanonas: from images of shape
({depth}, {height}, {width}) to {classes} classes. It needs torch and safetensors.

    from model import load, prepare

    model = load("model.safetensors")
    with torch.inference_mode():
        logits = model(prepare(images))  # uint8, (B, {height}, {width}, {depth})
    classes = logits.argmax(dim=1)  # their names stand in labels.json

It works in training mode, too, to be trained further. preprocessing.json says how an image of
any other size becomes one of these.
"""

import torch
{functional}from safetensors.torch import load_file
from torch import Tensor, nn

{mean}
{std}'''

_FUNCTIONS = '''\
def prepare(images: Tensor) -> Tensor:
    """Pixels, uint8 (B, {height}, {width}, {depth}), to float32 (B, {depth}, {height}, {width})."""
    pixels = images.permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor(MEAN, device=images.device).reshape(-1, 1, 1)
    std = torch.tensor(STD, device=images.device).reshape(-1, 1, 1)
    return (pixels - mean) / std


def load(path: str = "model.safetensors") -> Model:
    """The trained network, in eval mode, on the CPU."""
    model = Model()
    model.load_state_dict(load_file(path))
    return model.eval()'''


def _header(network: Network, rule: Preprocessing, functional: bool) -> str:
    """All before the first class. `functional`: whether one of them calls a function of F."""
    depth, height, width = network.input_shape
    return _HEADER.format(
        params=network.params,
        width=width,
        height=height,
        depth=depth,
        classes=network.classes,
        functional="import torch.nn.functional as F\n" if functional else "",
        mean="\n".join(_wrapped("", f"MEAN = {list(rule.mean)}", "  # of pixels in [0, 1]")),
        std="\n".join(_wrapped("", f"STD = {list(rule.std)}")),
    )


def _functions(rule: Preprocessing) -> str:
    depth, height, width = rule.input_shape
    return _FUNCTIONS.format(depth=depth, height=height, width=width)


# --- lines ----------------------------------------------------------------------------------------


def _wrapped(indent: str, code: str, comment: str = "") -> list[str]:
    """A statement in lines of `WIDTH`: whole, with what its brackets hold on a line of its own, or
    with each part of that on one. The comment stands where it fits.
    """
    for ending in dict.fromkeys((comment, "")):
        if len(indent + code + ending) <= WIDTH:
            return [indent + code + ending]
    before, inside, after, separator = _opened(code)
    inner = f"{indent}    {inside}"
    if len(inner) <= WIDTH:
        lines = [inner]
    elif separator == ",":
        lines = [f"{indent}    {part}," for part in inside.split(", ")]
    else:
        first, *rest = inside.split(separator)
        lines = [f"{indent}    {first}", *(f"{indent}    {separator[1:]}{one}" for one in rest)]
    return [indent + before, *lines, indent + after]


def _opened(code: str) -> tuple[str, str, str, str]:
    """A statement's code before what its outermost brackets hold, that, the code behind it, and
    what separates its parts. A sum, which has no brackets, gets some.
    """
    pairs = {"(": ")", "[": "]"}
    place = next((place for place, letter in enumerate(code) if letter in pairs), None)
    if place is not None and " + " not in code:
        end = code.rindex(pairs[code[place]])
        return code[: place + 1], code[place + 1 : end], code[end:], ","
    head, _, tail = code.partition(" = ") if " = " in code else code.partition(" ")
    joint = " = " if " = " in code else " "
    return f"{head}{joint}(", tail, ")", " + "
