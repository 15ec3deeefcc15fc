"""C that leaves its convolutions to Arm's CMSIS-NN (https://github.com/ARM-software/CMSIS-NN). With
it, it is compiled for this machine and for emulated boards, where CMSIS_NN names a checkout of it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from toys.c_source import (
    ARM,
    BOARD,
    CHECKED,
    QEMU,
    STRICT,
    answers,
    needs_board,
    needs_gcc,
    written,
)
from toys.integers import SPACES, drawn, everything, pixels_of

pytestmark = pytest.mark.usefixtures("one_thread")
CMSIS_NN = Path(os.environ.get("CMSIS_NN", ""))
BOARDS = {"cortex-m3": "mps2-an385", "cortex-m4": "mps2-an386"}
WITH = ["-DMODEL_CMSIS_NN", "-DCMSIS_NN_USE_SINGLE_ROUNDING"]
SOURCES = ("Convolution", "NNSupport", "Transpose")

needs_cmsis_nn = pytest.mark.skipif(
    not (CMSIS_NN / "Include" / "arm_nnfunctions.h").is_file(),
    reason="CMSIS_NN names no checkout of CMSIS-NN",
)
# What CMSIS-NN declares, as far as the source uses it, and cannot do.
CANNOT = """
#include <stdint.h>
typedef enum { ARM_CMSIS_NN_SUCCESS = 0, ARM_CMSIS_NN_NO_IMPL_ERROR = -2 } arm_cmsis_nn_status;
typedef struct { int32_t w, h; } cmsis_nn_tile;
typedef struct { int32_t n, h, w, c; } cmsis_nn_dims;
typedef struct { int32_t min, max; } cmsis_nn_activation;
typedef struct { void *buf; int32_t size; } cmsis_nn_context;
typedef struct { int32_t *multiplier, *shift; } cmsis_nn_per_channel_quant_params;
typedef struct {
    int32_t input_offset, output_offset;
    cmsis_nn_tile stride, padding, dilation;
    cmsis_nn_activation activation;
} cmsis_nn_conv_params;
typedef struct {
    int32_t input_offset, output_offset, ch_mult;
    cmsis_nn_tile stride, padding, dilation;
    cmsis_nn_activation activation;
} cmsis_nn_dw_conv_params;
#define arm_convolve_s8_get_buffer_size(...) 0
#define arm_convolve_wrapper_s8_get_buffer_size(...) 0
#define arm_depthwise_conv_wrapper_s8_get_buffer_size(...) 0
static inline arm_cmsis_nn_status cannot(const void *a, const void *b, const void *c, const void *d)
{
    (void)a, (void)b, (void)c, (void)d;
    return ARM_CMSIS_NN_NO_IMPL_ERROR;
}
#define arm_convolve_s8(a, b, c, d, e, f, g, h, i, j, k, l) \\
    (cannot(a, b, c, d), cannot(f, h, k, l))
#define arm_convolve_wrapper_s8(a, b, c, d, e, f, g, h, i, j, k) \\
    (cannot(a, b, c, d), cannot(f, h, j, k))
#define arm_depthwise_conv_wrapper_s8 arm_convolve_wrapper_s8
"""


@needs_gcc
def test_what_cmsis_nn_cannot_is_computed_all_the_same(tmp_path: Path) -> None:
    network = everything()
    made = written(network, tmp_path)
    (tmp_path / "arm_nnfunctions.h").write_text(CANNOT)
    command = ["gcc", *STRICT, "-isystem", ".", *CHECKED, *WITH, "-DMODEL_STDIN"]
    subprocess.run([*command, "model.c", "main.c", "-o", "model"], cwd=tmp_path, check=True)
    pixels = pixels_of(network, 4, seed=1)
    got = answers(tmp_path / "model", pixels, network.classes)
    assert (got == made.model.logits(pixels)).all()


@needs_gcc
def test_another_rounding_is_refused_by_the_compiler(tmp_path: Path) -> None:
    written(everything(), tmp_path)
    (tmp_path / "arm_nnfunctions.h").write_text(CANNOT)
    command = ["gcc", *STRICT, "-isystem", ".", WITH[0], "-fsyntax-only", "model.c"]
    failed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "with -DCMSIS_NN_USE_SINGLE_ROUNDING, or it rounds in another way" in failed.stderr


# --- with CMSIS-NN itself -------------------------------------------------------------------------


def sources() -> list[str]:
    folders = [CMSIS_NN.resolve() / "Source" / f"{name}Functions" for name in SOURCES]
    found = [*(path for folder in folders for path in folder.glob("*s8*.c"))]
    return [str(path) for path in (*found, *folders[1].glob("*q7*.c"))]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CMSIS-NN, compiled for this machine."""
    folder = tmp_path_factory.mktemp("cmsis-nn")
    command = ["gcc", "-w", *CHECKED, WITH[1], f"-I{CMSIS_NN.resolve() / 'Include'}", "-c"]
    subprocess.run([*command, *sources()], cwd=folder, check=True)
    made = folder / "cmsis-nn.a"
    subprocess.run(["ar", "rcs", made, *folder.glob("*.o")], check=True)
    return made


def without_fallback(folder: Path) -> None:
    """Makes a step that CMSIS-NN is not given end the program, but lone norms."""
    source = (folder / "model.c").read_text()
    call = "    if (convolved_by_cmsis_nn(c, in, out))\n        return;\n"
    trap = "    if (!is_depthwise(c) || c->kernel > 1)\n        __builtin_trap();\n"
    assert call in source
    (folder / "model.c").write_text(source.replace(call, call + trap))


@needs_gcc
@needs_cmsis_nn
@pytest.mark.parametrize("name", ["everything", *SPACES])
def test_with_cmsis_nn_every_integer_is_that_of_the_reference(
    name: str, library: Path, tmp_path: Path
) -> None:
    network = everything() if name == "everything" else drawn(SPACES[name], 3)
    made = written(network, tmp_path)
    without_fallback(tmp_path)
    includes = ["-isystem", str(CMSIS_NN.resolve() / "Include")]
    command = ["gcc", *STRICT, *includes, *CHECKED, *WITH, "-DMODEL_STDIN", "model.c", "main.c"]
    subprocess.run([*command, str(library), "-o", "model"], cwd=tmp_path, check=True)
    pixels = pixels_of(network, 4, seed=1)
    got = answers(tmp_path / "model", pixels, network.classes)
    assert (got == made.model.logits(pixels)).all()


@needs_cmsis_nn
@pytest.mark.parametrize("core", BOARDS)
@needs_board
def test_a_cortex_m_with_cmsis_nn_computes_the_integers_of_the_reference(
    core: str, tmp_path: Path
) -> None:
    made = written(everything(), tmp_path)
    without_fallback(tmp_path)
    command = [ARM, "-std=gnu11", "-w", "-Os", f"-mcpu={core}", "-mthumb", "--specs=rdimon.specs"]
    command += ["-ffunction-sections", "-Wl,--gc-sections", *WITH]
    command += [f"-I{CMSIS_NN.resolve() / 'Include'}", "-T", str(BOARD / "mps2.ld")]
    command += [str(BOARD / "vectors.c"), "model.c", "main.c", *sources(), "-o", "model.elf"]
    subprocess.run(command, cwd=tmp_path, check=True)
    board = [QEMU, "-M", BOARDS[core], "-nographic", "-semihosting", "-kernel", "model.elf"]
    done = subprocess.run(
        board, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert "0 logits differ from those of the reference" in done.stdout
    assert f"arena {made.ram} bytes, constants {made.flash} bytes, for CMSIS-NN " in done.stdout
