"""nanonas from Python: the same searches as the command line's, with modules as results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanonas.config.files import halves, validated
from nanonas.config.parts import SPACES, make_space
from nanonas.core import Shape
from nanonas.errors import ConfigError, GenomeError

if TYPE_CHECKING:
    from nanonas.training.modules import NetworkModule


def nano_nas(
    strategy: str = "evolution",
    *,
    population_size: int = 10,
    generations: int = 5,
    space: str = "nano",
    data: str | Path = "cifar10",
    epochs: int = 3,
    train_images: int | None = 10_000,
    seed: int = 0,
    device: str = "auto",
    out: str | Path = "outputs",
    quiet: bool = False,
    **settings: Any,
) -> NetworkModule:
    """Searches for an architecture and returns the best module, with the weights it was evaluated
    with.

    Works from a script without a main guard, a REPL, a notebook or standard input: workers never
    run the caller again.

    >>> model = nano_nas("evolution", population_size=10, generations=5)  # doctest: +SKIP

    Args:
        strategy: "evolution", "aging", "local", "screened", "random", or "nsga2" for the best
            trade-offs of accuracy and size.
        population_size: networks in a generation, 2 or more.
        generations: 1 or more.
        space: "nano", "layers" or "nasbench201".
        epochs: passes over the training images for each network.
        train_images: how many images, evenly over the classes, an epoch has at most; None for all.
        data: "digits", "cifar10", "cifar100", a folder of images, an .npz, or parquet.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        out: the folder that the run's own folder is made in.
        quiet: show nothing.
        settings: any other value of the configuration: `max_params=250_000`, `time="10m"`,
            `batch_size=64`, …

    Returns:
        On the CPU, in eval mode; `(B, C, H, W) -> (B, classes)`. Its architecture is
        `model.network`.

    Raises:
        ConfigError: an unknown setting, or a value that cannot be used.
        NanonasError: anything else that a search can say; see `nanonas.errors`.
    """
    from rich.console import Console

    from nanonas.runs.models import best_module
    from nanonas.session.start import begin
    from nanonas.terminal.live import live

    chosen = {
        "strategy": strategy,
        "population": population_size,
        "generations": generations,
        "space": space,
        "data": data,
        "epochs": epochs,
        "train_images": train_images,
        "seed": seed,
        "device": device,
        "out": str(out),
        **settings,
    }
    config = validated(halves(chosen), "nano_nas")
    listener = live(Console(quiet=quiet), explain=config.run.explain)
    return best_module(begin(config, listener, final=False).folder)


def build(
    genome: Sequence[int],
    space: str = "nano",
    *,
    input_shape: Shape = (3, 32, 32),
    classes: int = 10,
    seed: int | None = None,
    **options: int,
) -> NetworkModule:
    """The module of a hand-written genome, with fresh weights.

    >>> build([0, 1, 2, 3], space="nano", channels=128)  # doctest: +SKIP

    Args:
        input_shape: (channels, height, width) of the images.
        seed: of the weights; None draws from torch's global generator.
        options: of the space: `channels` for "nano".

    Returns:
        `(B, *input_shape) -> (B, classes)`, logits.

    Raises:
        GenomeError: not a genome of the space.
        ConfigError: no such space or option, or a value that cannot be used.
    """
    from nanonas.training.modules import build_module

    allowed = SPACES[space].options if space in SPACES else tuple(options)
    for name in options:
        if name not in allowed:
            raise ConfigError(
                f"build: the space {space!r} has no option {name!r}; it has "
                f"{', '.join(allowed) or 'none'}"
            )
    config = validated({"search": {"space": space, **options}}, "build")
    try:
        numbers = tuple(genome)
    except TypeError:
        raise GenomeError(f"a genome must be a list of whole numbers, but is {genome!r}") from None
    return build_module(make_space(config.search.space, input_shape, classes).decode(numbers), seed)


def load(source: str | Path) -> NetworkModule:
    """The trained network of a run, in eval mode, on the CPU.

    Args:
        source: a run's folder, a folder of runs (its newest), or what `train --out` wrote. The
            finally trained weights where there are some, those of the best candidate's evaluation
            otherwise.

    Returns:
        `(B, C, H, W) -> (B, classes)`. `model.preprocessing` knows how to prepare images for it:
        `model.preprocessing.batch(["owl.jpg"])` is what it takes, as a numpy array. None for runs
        of versions that did not keep that.

    Raises:
        RunError: no run there, or nothing in it yet.
    """
    from nanonas.runs.models import trained_module

    return trained_module(Path(source))
