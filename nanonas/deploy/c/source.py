"""The C11 source of a network in 8-bit integers.

Kernels stand in `kernels/`, one file for each operation. Those that a network needs come first,
then its constants, then the calls, one for each step. The source asserts for itself, when it is
compiled, that arena and constants are as large as was planned.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanonas.deploy.c.cmsis_nn import scratch
from nanonas.deploy.c.quantised import IntegerNetwork
from nanonas.networks.arena import Plan
from nanonas.networks.integer import IMAGE, Step

_LINE = 96  # characters of a line of constants, at most
_POINTERS = 6  # in `struct convolution`: longer than 4 bytes on the machine of a desktop


def header(model: IntegerNetwork) -> str:
    """`model.h`: what a program has to know of the network."""
    channels, height, width = model.network.input_shape
    logits = model.scales[model.plan.steps[-1].name]
    besides = scratch(model.plan.steps)
    return f"""\
/* A network in 8-bit integers, written by nanonas: no heap, no floating point, one static arena. */
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

#define MODEL_HEIGHT {height}
#define MODEL_WIDTH {width}
#define MODEL_CHANNELS {channels}
#define MODEL_IMAGE_BYTES {channels * height * width}
#define MODEL_CLASSES {model.network.classes}

/* The arena: the stack comes on top. The constants, where addresses have 32 bits: the code comes on
 * top. */
#define MODEL_RAM_BYTES {model.plan.ram}
#define MODEL_FLASH_BYTES {model.plan.flash}

/* Compiled with -DMODEL_CMSIS_NN, convolutions are left to Arm's CMSIS-NN, which needs so many
 * bytes of RAM besides. */
#define MODEL_CMSIS_NN_FILTERS {besides.filters}
#define MODEL_CMSIS_NN_ROWS {besides.rows}
#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)
#define MODEL_CMSIS_NN_BUFFER {besides.helium_buffer}
#else
#define MODEL_CMSIS_NN_BUFFER {besides.buffer}
#endif
#define MODEL_CMSIS_NN_BYTES \\
    (4 * MODEL_CMSIS_NN_FILTERS + MODEL_CMSIS_NN_BUFFER + MODEL_CMSIS_NN_ROWS)

/* Where an image is to be written before each model_run, which overwrites it: rows of pixels of
 * channels, 0 to 255 (of colour images red, green, blue), upright, and of this height and width. */
uint8_t *model_image(void);

/* Classifies the image. Returns an integer for each class, the largest for the likeliest, until the
 * next model_run: the logits are {logits.scale!r} * (integer - {_signed(logits.zero)}). */
const int8_t *model_run(void);

#endif
"""


def source(model: IntegerNetwork) -> str:
    """`model.c`: kernels, constants, and the steps."""
    writing = _Writing(model)
    for number, step in enumerate(model.plan.steps, 1):
        writing.take(number, step)
    sizes = " + ".join(["sizeof pixels", *(f"sizeof {name}" for name in writing.declared)])
    longer = f"{_POINTERS * writing.convolutions} * (sizeof(void *) - 4)"
    kernels = "\n".join(_kernel(name) for name in ("common", *writing.kernels))
    constants = "\n".join(writing.constants)
    calls = "\n".join(writing.calls)
    image = model.plan.offsets[IMAGE]
    pixels = _array("int8_t", "pixels", model.pixels.ravel())
    return f"""\
#include "model.h"

{kernels}
/* What each value of each channel of an image becomes. */
{pixels}
{constants}
static int8_t arena[MODEL_RAM_BYTES];

_Static_assert(sizeof arena == {model.plan.ram}, "the arena is as large as planned");
_Static_assert({sizes}
                   == {model.plan.flash} + {longer},
               "the constants are as large as planned");

uint8_t *model_image(void)
{{
    return (uint8_t *)arena + {image};
}}

const int8_t *model_run(void)
{{
    uint8_t *image = model_image();
    for (int32_t i = 0; i < MODEL_IMAGE_BYTES; i++)
        arena[{image} + i] = pixels[i % MODEL_CHANNELS * 256 + image[i]];
{calls}
    return arena + {model.plan.offsets[model.plan.steps[-1].name]};
}}
"""


def classes(names: Sequence[str]) -> str:
    """`classes.h`: the names of the classes."""
    quoted = ",\n".join(f"    {_string(name)}" for name in names)
    return f"static const char *const class_names[] = {{\n{quoted},\n}};\n"


def example(pixels: NDArray[np.uint8], logits: NDArray[np.int8]) -> str:
    """`test_image.h`: an image, (H, W, C), and the logits that the reference has for it."""
    image = _array("uint8_t", "test_image", pixels.ravel())
    return f"{image}\n{_array('int8_t', 'test_logits', logits)}"


def main() -> str:
    """`main.c`: a program that classifies images and prints what comes out."""
    return _kernel("main")


def _kernel(name: str) -> str:
    return (files("nanonas.deploy.c") / "kernels" / f"{name}.c").read_text(encoding="utf-8")


@dataclass
class _Writing:
    """Constants and calls, step by step."""

    model: IntegerNetwork
    kernels: dict[str, None] = field(default_factory=dict)  # in the order of their first step
    declared: list[str] = field(default_factory=list)  # names of constants
    constants: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    convolutions: int = 0

    @property
    def plan(self) -> Plan:
        return self.model.plan

    def take(self, number: int, step: Step) -> None:
        """Adds a step: its constants, the kernel that it needs, and its call."""
        self.kernels |= dict.fromkeys(_NEEDS.get(step.op, ()))
        self.kernels[step.op] = None
        words = re.sub(r"[^\w ./]", "", step.node.words.replace("×", "x"))
        shapes = f"{_shape(step.input_shape)} to {_shape(step.shape)}"
        call = _CALLS[step.op](self, number, step)
        self.calls.append(f"    /* {number}: {words}, {shapes} */\n    {call}")

    def declare(self, kind: str, name: str, values: Iterable[Any]) -> str:
        """Adds an array and returns its name."""
        self.constants.append(_array(kind, name, values))
        self.declared.append(name)
        return name

    def at(self, tensor: str) -> str:
        """Where a tensor begins."""
        return f"arena + {self.plan.offsets[tensor]}"

    def table(self, number: int, step: Step) -> str:
        """The name of a step's table, 0 where it has none."""
        table = self.model.numbers[step.name].table
        return "0" if table is None else self.declare("int8_t", f"table_{number}", table)

    def signs(self, number: int, step: Step) -> str:
        """The name of the signs of a step's pool, 0 where it has none."""
        signs = self.model.numbers[step.name].signs
        return "0" if signs is None else self.declare("int8_t", f"signs_{number}", signs)

    def summands(self, number: int, step: Step) -> str:
        """The name of what describes the inputs of a sum."""
        numbers = self.model.numbers[step.name]
        zeros = [self.model.scales[name].zero for name in step.inputs]
        pairs = zip(zeros, numbers.multipliers, strict=True)
        values = ", ".join(f"{{{zero}, {multiplier}}}" for zero, multiplier in pairs)
        name = f"summands_{number}"
        self.constants.append(f"static const struct summand {name}[] = {{{values}}};\n")
        self.declared.append(name)
        return name

    def zero_in(self, step: Step) -> int:
        return self.model.scales[step.inputs[0]].zero

    def zero_out(self, step: Step) -> int:
        """The integer that is 0 of what a step writes, or of what its table reads."""
        scales = self.model.scales[step.name]
        return self.model.sums.get(step.name, scales).zero


# --- calls, by operation --------------------------------------------------------------------------


def _conv(w: _Writing, number: int, step: Step) -> str:
    numbers = w.model.numbers[step.name]
    weights = numbers.weights.transpose((2, 3, 1, 0) if step.depthwise else (0, 2, 3, 1))
    shape = (*step.input_shape[1:], step.input_shape[0], *step.shape[1:], step.shape[0])
    window = (step.node.kernel, step.node.stride, step.groups)
    values = [*shape, *window, 2 if step.pool else 1, w.zero_in(step), w.zero_out(step)]
    names = [
        w.declare("int8_t", f"weights_{number}", weights.ravel()),
        w.declare("int32_t", f"bias_{number}", numbers.bias),
        w.declare("int32_t", f"multipliers_{number}", numbers.multipliers),
        w.declare("int8_t", f"shifts_{number}", numbers.shifts),
        w.signs(number, step),
        w.table(number, step),
    ]
    listed = f"{', '.join(map(str, values))},\n    {', '.join(names)}"
    name = f"conv_{number}"
    w.constants.append(f"static const struct convolution {name} = {{\n    {listed}}};\n")
    w.declared.append(name)
    w.convolutions += 1
    return f"convolve(&{name}, {w.at(step.inputs[0])}, {w.at(step.name)});"


def _add(w: _Writing, number: int, step: Step) -> str:
    read = ", ".join(w.at(name) for name in step.inputs)
    shift = w.model.numbers[step.name].shifts[0]
    summands, table = w.summands(number, step), w.table(number, step)
    return (
        f"add((const int8_t *const[]){{{read}}}, {summands}, {len(step.inputs)}, "
        f"{w.at(step.name)},\n        {step.size}, {shift}, {w.zero_out(step)}, {table});"
    )


def _concat(w: _Writing, number: int, step: Step) -> str:
    summands, shift = w.summands(number, step), w.model.numbers[step.name].shifts[0]
    shapes = dict(zip(step.inputs, step.node.input_shapes, strict=True))
    pixels, start, calls = step.shape[1] * step.shape[2], 0, list[str]()
    for place, name in enumerate(step.inputs):
        channels = shapes[name][0]
        calls.append(
            f"place({w.at(name)}, {summands} + {place}, {pixels}, {channels}, "
            f"{w.at(step.name)} + {start}, {step.shape[0]}, {shift}, {w.zero_out(step)});"
        )
        start += channels
    return "\n    ".join(calls)


def _act(w: _Writing, number: int, step: Step) -> str:
    table, zero = w.table(number, step), w.zero_in(step)
    return f"activate({w.at(step.inputs[0])}, {w.at(step.name)}, {step.size}, {zero}, {table});"


def _max_pool(w: _Writing, number: int, step: Step) -> str:
    return f"max_pool({_windows(w, step)}, {w.signs(number, step)});"


def _average_pool(w: _Writing, number: int, step: Step) -> str:
    return f"average_pool({_windows(w, step)}, {w.zero_in(step)});"


def _windows(w: _Writing, step: Step) -> str:
    channels, height, width = step.input_shape
    return (
        f"{w.at(step.inputs[0])}, {height}, {width}, {channels}, {w.at(step.name)}, "
        f"{step.shape[1]}, {step.shape[2]}, {step.node.kernel}, {step.node.stride}"
    )


def _mean(w: _Writing, number: int, step: Step) -> str:
    numbers = w.model.numbers[step.name]
    factor = f"{numbers.multipliers[0]}, {numbers.shifts[0]}"
    zeros = w.zero_in(step), w.zero_out(step)
    return f"mean({_pixels(w, step)}, {w.at(step.name)}, {zeros[0]}, {factor}, {zeros[1]});"


def _largest(w: _Writing, number: int, step: Step) -> str:
    return f"largest({_pixels(w, step)}, {w.at(step.name)});"


def _slice(w: _Writing, number: int, step: Step) -> str:
    start, count = int(step.node["start"]), step.shape[0]
    return f"slice({_pixels(w, step)}, {start}, {count}, {w.at(step.name)});"


def _pixels(w: _Writing, step: Step) -> str:
    channels, height, width = step.input_shape
    return f"{w.at(step.inputs[0])}, {height * width}, {channels}"


def _fold(w: _Writing, number: int, step: Step) -> str:
    channels, height, width = step.input_shape
    return (
        f"fold({w.at(step.inputs[0])}, {height}, {width}, {channels}, {w.at(step.name)}, "
        f"{step.node.stride}, {w.zero_in(step)});"
    )


def _fill(w: _Writing, number: int, step: Step) -> str:
    return f"fill({w.at(step.name)}, {step.size}, {w.zero_out(step)});"


_NEEDS = {  # what kernels need before them
    "conv": ("convolution", "maxpool", "cmsis_nn"),  # it pools what CMSIS-NN computes
    "add": ("summand",),
    "concat": ("summand",),
}
_CALLS: dict[str, Callable[[_Writing, int, Step], str]] = {
    "conv": _conv,
    "add": _add,
    "concat": _concat,
    "act": _act,
    "maxpool": _max_pool,
    "avgpool": _average_pool,
    "globalpool": _mean,
    "globalmaxpool": _largest,
    "slice": _slice,
    "space_to_depth": _fold,
    "zero": _fill,
}


# --- text -----------------------------------------------------------------------------------------


def _array(kind: str, name: str, values: Iterable[Any]) -> str:
    """Numbers as a constant array, in lines."""
    lines, line = list[str](), "   "
    for value in values:
        word = f" {int(value)},"
        if len(line) + len(word) > _LINE:
            lines.append(line)
            line = "   "
        line += word
    return f"static const {kind} {name}[] = {{\n" + "\n".join([*lines, line]) + "\n};\n"


def _shape(shape: Sequence[int]) -> str:
    channels, height, width = shape
    return f"{channels} x {height} x {width}"


def _signed(number: int) -> str:
    return f"({number})" if number < 0 else str(number)


def _string(text: str) -> str:
    """A text as a string of C: what is no plain letter, digit or space as bytes in octal."""
    plain = re.compile(rb"[A-Za-z0-9 _.,+()-]")
    data = text.encode("utf-8", errors="replace")
    parts = (bytes([byte]) for byte in data)
    return (
        '"'
        + "".join(
            part.decode("ascii") if plain.fullmatch(part) else f"\\{part[0]:03o}" for part in parts
        )
        + '"'
    )
