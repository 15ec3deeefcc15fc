"""Networks as C: floating point as PyTorch has it, integers as C has them."""

from __future__ import annotations

import math
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
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
from toys.integers import (
    SPACES,
    drawn,
    everything,
    fit,
    module_of,
    pixels_of,
    preprocessing_of,
    small_network,
    tensors_of,
)

from nanonas.data.images import load
from nanonas.data.preprocessing import Preprocessing
from nanonas.deploy.c.fixed import fixed, fixed_together, rescaled, scale_of
from nanonas.deploy.c.folded import FloatNetwork
from nanonas.deploy.c.quantised import quantised
from nanonas.deploy.c.writing import write_c
from nanonas.errors import InvalidInput
from nanonas.networks.arena import plan
from nanonas.networks.network import Draft, Network, classifier, conv_norm
from nanonas.training.modules import build_module

pytestmark = pytest.mark.usefixtures("one_thread")


# --- floating point -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPACES)
def test_folded_networks_compute_what_pytorch_computes(name: str) -> None:
    for seed in range(6):
        network = drawn(SPACES[name], seed)
        module = module_of(network, seed)
        x = torch.randn(3, *network.input_shape, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            expected = module(x).numpy()
        folded = FloatNetwork(plan(network).steps, tensors_of(module))
        got = folded.logits(np.ascontiguousarray(x.numpy().transpose(0, 2, 3, 1)))
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


# --- integers -------------------------------------------------------------------------------------


@given(st.floats(1e-12, 1e8), st.integers(-(2**31), 2**31 - 1))
@example(1.0, -1)
@example(0.5, -1)
@example(0.5, 1)
def test_fixed_factors_are_near_and_halves_go_up(factor: float, sum_: int) -> None:
    multiplier, shift = fixed(factor)
    assert 1 <= shift <= 62
    assert multiplier < 2**31
    exact = Fraction(multiplier, 2**shift)
    assert abs(exact / Fraction(factor) - 1) < 2**-22
    got = int(rescaled(np.array([sum_]), multiplier, shift)[0])
    assert got == math.floor(sum_ * exact + Fraction(1, 2))


@given(st.lists(st.floats(1e-6, 4096.0), min_size=1, max_size=9))
def test_sums_of_fixed_factors_fit_32_bits(factors: list[float]) -> None:
    multipliers, shift = fixed_together(factors)
    assert 255 * sum(multipliers) + 2 ** (shift - 1) < 2**31
    largest = max(factors)
    for factor, multiplier in zip(factors, multipliers, strict=True):
        assert abs(multiplier / 2**shift - factor) <= largest * 2**-16 + 2**-31


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_scales_hold_zero_exactly_and_reach_both_ends(a: float, b: float) -> None:
    low, high = sorted((a, b))
    scale = scale_of(low, high)
    assert scale.integers(np.zeros(1))[0] == scale.zero
    for end in (low, high):
        back = scale.real(scale.integers(np.array([end])))[0]
        assert abs(back - end) <= 1.01 * scale.scale


def test_sums_of_too_many_products_are_refused() -> None:
    draft = Draft((1100, 2, 2), 2)
    x = draft.add("conv", "input", filters=1, kernel=7, stride=1, groups=1, bias=False)
    network = classifier(draft, x)
    tensors = tensors_of(module_of(network, 0))
    with pytest.raises(InvalidInput, match="conv1 adds up 53,900 products, but 32 bits hold 49,"):
        quantised(network, tensors, _wide(network), pixels_of(network, 1))


def _wide(network: Network) -> Preprocessing:
    channels = network.input_shape[0]
    return Preprocessing(network.input_shape, (0.5,) * channels, (0.25,) * channels, ("a", "b"))


def test_a_trained_network_loses_less_than_a_point() -> None:
    images = load("digits")
    network = small_network(images.input_shape, images.classes)
    preprocessing = Preprocessing(network.input_shape, (0.3,), (0.37,), images.class_names)
    train, test = np.asarray(images.x_train), np.asarray(images.x_test)
    module = build_module(network, seed=2)
    fit(module, preprocessing.batch(list(train)), np.asarray(images.y_train))
    with torch.no_grad():
        floats = module.eval()(torch.from_numpy(preprocessing.batch(list(test)))).numpy()
    labels = np.asarray(images.y_test)
    accuracy = float(np.mean(floats.argmax(axis=1) == labels))
    model = quantised(network, tensors_of(module), preprocessing, train[:256])
    integers = float(np.mean(model.logits(test).argmax(axis=1) == labels))
    assert accuracy > 0.95
    assert integers > accuracy - 0.01


# --- C --------------------------------------------------------------------------------------------


def compiled(folder: Path, *options: str) -> Path:
    program = folder / "model"
    command = ["gcc", *STRICT, *options, "model.c", "main.c", "-o", str(program)]
    subprocess.run(command, cwd=folder, check=True)
    return program


@needs_gcc
@pytest.mark.parametrize("name", SPACES)
def test_c_computes_the_integers_of_the_reference(name: str, tmp_path: Path) -> None:
    """No byte differs; and the compiler finds arena and constants as large as they were planned."""
    network = drawn(SPACES[name], seed=3)
    made = written(network, tmp_path)
    pixels = pixels_of(network, 16, seed=1)
    program = compiled(tmp_path, *CHECKED, "-DMODEL_STDIN")
    expected = made.model.logits(pixels)
    assert (answers(program, pixels, network.classes) == expected).all()
    assert len(np.unique(expected)) > 5


@needs_gcc
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SPACES)
def test_c_computes_the_integers_of_the_reference_for_many(name: str, tmp_path: Path) -> None:
    for seed in range(100, 130):
        network = drawn(SPACES[name], seed)
        made = written(network, tmp_path, seed)
        pixels = pixels_of(network, 4, seed)
        program = compiled(tmp_path, *CHECKED, "-DMODEL_STDIN")
        expected = made.model.logits(pixels)
        assert (answers(program, pixels, network.classes) == expected).all(), seed


@needs_gcc
def test_every_step_in_one_network_and_the_program_on_its_own_image(tmp_path: Path) -> None:
    network = everything()
    made = written(network, tmp_path)
    pixels = pixels_of(network, 16, seed=1)
    reference = made.model.logits(pixels)
    program = compiled(tmp_path, *CHECKED, "-DMODEL_STDIN")
    assert (answers(program, pixels, 3) == reference).all()
    alone = subprocess.run([compiled(tmp_path, "-O1")], capture_output=True, text=True, check=True)
    assert f"arena {made.ram} bytes, constants {made.flash} bytes" in alone.stdout
    assert "0 logits differ from those of the reference" in alone.stdout


@needs_gcc
def test_constants_are_as_large_as_planned_where_addresses_have_32_bits(tmp_path: Path) -> None:
    """The source asserts it, for the size of addresses that it is compiled for."""
    made = written(everything(), tmp_path)
    command = ["gcc", *STRICT, "-m32", "-ffreestanding", "-fsyntax-only", "model.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    source = (tmp_path / "model.c").read_text()
    broken = source.replace(f"== {made.flash} +", f"== {made.flash + 1} +")
    (tmp_path / "model.c").write_text(broken)
    failed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "the constants are as large as planned" in failed.stderr


@needs_board
def test_a_cortex_m_computes_the_integers_of_the_reference(tmp_path: Path) -> None:
    made = written(everything(), tmp_path)
    command = [ARM, *STRICT, "-Os", "-mcpu=cortex-m3", "-mthumb", "--specs=rdimon.specs"]
    command += ["-T", str(BOARD / "mps2.ld"), str(BOARD / "vectors.c"), "model.c", "main.c"]
    subprocess.run([*command, "-o", "model.elf"], cwd=tmp_path, check=True)
    board = [QEMU, "-M", "mps2-an385", "-nographic", "-semihosting", "-kernel", "model.elf"]
    done = subprocess.run(
        board, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert "0 logits differ from those of the reference" in done.stdout
    assert f"arena {made.ram} bytes, constants {made.flash} bytes" in done.stdout


def test_names_of_classes_cannot_leave_their_strings(tmp_path: Path) -> None:
    network = classifier(draft := Draft((1, 4, 4), 2), conv_norm(draft, "input", 2, 3))
    names = ('a"; system("x"); //', "\\??/\n*/ é7")
    preprocessing = Preprocessing(network.input_shape, (0.5,), (0.25,), names)
    tensors = tensors_of(module_of(network, 0))
    write_c(network, tensors, preprocessing, pixels_of(network, 1), tmp_path)
    (tmp_path / "show.c").write_text(
        '#include <stdio.h>\n#include "classes.h"\n'
        'int main(void) { printf("%s|%s", class_names[0], class_names[1]); return 0; }\n'
    )
    text = (tmp_path / "classes.h").read_text()
    assert text.isascii()
    assert text.count('"') == 4
    if shutil.which("gcc") is not None:
        subprocess.run(["gcc", *STRICT, "show.c", "-o", "show"], cwd=tmp_path, check=True)
        shown = subprocess.run([tmp_path / "show"], capture_output=True, check=True)
        assert shown.stdout.decode() == "|".join(names)


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    network = classifier(draft := Draft((1, 4, 4), 2), conv_norm(draft, "input", 2, 3))
    tensors, preprocessing = tensors_of(module_of(network, 0)), preprocessing_of(network)
    for pixels in (pixels_of(network, 0), pixels_of(network, 1)[:, :3]):
        with pytest.raises(InvalidInput, match=r"images of shape \(N, 4, 4, 1\) in uint8, but has"):
            write_c(network, tensors, preprocessing, pixels, tmp_path)
    other = Preprocessing((1, 4, 4), (0.5,), (0.25,), ("one",))
    with pytest.raises(InvalidInput, match="tells 2 classes apart, but 1 have names"):
        write_c(network, tensors, other, pixels_of(network, 1), tmp_path)
    gated = classifier(draft := Draft((1, 4, 4), 2), draft.add("squeeze_excite", "input", hidden=1))
    with pytest.raises(InvalidInput, match="the network has squeeze_excite, which have no form"):
        write_c(gated, {}, preprocessing, pixels_of(gated, 1), tmp_path)
    assert not list(tmp_path.iterdir())
