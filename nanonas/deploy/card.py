"""A model card: what a network is, how good, what for and how it was found; Markdown with YAML in
front, as the Hugging Face hub reads it, https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from nanonas.deploy.subject import Subject
from nanonas.deploy.verdicts import Accuracy, Verdict
from nanonas.engine.storage.store import RunStore
from nanonas.machine import described
from nanonas.runs.folder import search_seconds
from nanonas.runs.reading import read_record
from nanonas.text import count, duration, milliseconds, percent

_LICENSE = "# license: yours to choose, such as apache-2.0; it depends on the images, too\n"
_MOST_NAMES = 100  # classes that are listed
_ALIKE = 0.005  # that the same network's accuracy may differ by on another machine


def model_card(subject: Subject, own: Verdict, verdicts: Sequence[Verdict], images: str) -> str:
    """The file card.md.

    Args:
        own: of the network's own module.
        verdicts: of the files.
        images: what these were compared on.
    """
    front = yaml.safe_dump(_front(subject, own), sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{_LICENSE}{front}---",
        f"# {subject.name}",
        _what(subject),
        "## How good it is",
        _metrics(subject, own, images),
        _table([own, *(one for one in verdicts if one.passed)]),
        "## How to use it",
        _use([name for one in verdicts if one.passed for name in one.files], subject),
        "## Limits",
        _limits(subject),
        "## How it was found",
        _found(subject),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front(subject: Subject, own: Verdict) -> dict[str, Any]:
    """What stands in front, for programs."""
    front: dict[str, Any] = {
        "library_name": "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "onnx", "neural-architecture-search", "nanonas"],
        "metrics": ["accuracy"],
    }
    accuracy = _accuracy(subject, own)
    if accuracy is None:
        return front
    values = {"accuracy": accuracy.share}
    if (balanced := _balanced(subject, accuracy)) is not None:
        values["balanced_accuracy"] = balanced
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"name": _data(subject), "type": _data(subject), "split": "test"},
        "metrics": [
            {"type": name, "value": round(value, 6), "verified": False}
            for name, value in values.items()
        ],
    }
    front["metrics"] = list(values)
    return {**front, "model-index": [{"name": subject.name, "results": [result]}]}


def _data(subject: Subject) -> str:
    """What its images are called."""
    images = subject.source.images
    return images.name if images else subject.source.genome.data or "images"


def _accuracy(subject: Subject, own: Verdict) -> Accuracy | None:
    """On the test set: as it was checked here, or as its final training has it."""
    if own.accuracy is not None or subject.result is None:
        return own.accuracy
    return Accuracy.of_share(subject.result.test_accuracy, subject.result.test_images)


def _balanced(subject: Subject, accuracy: Accuracy) -> float | None:
    """The mean of the classes' own accuracies, as the final training has it; None where that is not
    known, or where its files were compared on other images than it was tested on.
    """
    result = subject.result
    if result is None or result.test_images != accuracy.n:
        return None
    alike = abs(result.test_accuracy - accuracy.share) < _ALIKE
    return result.balanced_accuracy if alike else None


def _what(subject: Subject) -> str:
    network, names = subject.module.network, subject.rule.class_names
    channels, height, width = network.input_shape
    colour = "grey" if channels == 1 else "colour"
    listed = ", ".join(f"`{name}`".replace("\n", " ") for name in names[:_MOST_NAMES])
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return (
        f"A convolutional network of {count(network.params)} parameters and "
        f"{count(network.macs)} multiply-accumulates for {colour} images of {width}×{height}, "
        f"found and trained by nanonas on {_data(subject)}. Its {len(names)} classes: "
        f"{listed}{more}."
    )


def _metrics(subject: Subject, own: Verdict, images: str) -> str:
    accuracy = _accuracy(subject, own)
    if accuracy is None:
        return f"Its accuracy is not known. Its files were compared on {images}."
    apart = ", on which nothing was trained" if subject.untouched else ""
    balanced, each = _balanced(subject, accuracy), ""
    if balanced is not None:
        each = f"; with each class counting the same, **{percent(balanced)}**"
        if subject.source.config.strategy.metric == "balanced_accuracy":
            each += ", by which it was chosen"
    return (
        f"**{percent(accuracy.share)}** of {accuracy.n:,} test images{apart} (95 % interval "
        f"{percent(accuracy.low)} to {percent(accuracy.high)}){each}. Its files were run again "
        f"without nanonas and compared with it on {images}; verification.json has all figures."
    )


def _table(verdicts: Sequence[Verdict]) -> str:
    rows = [
        "| | size | accuracy | same class | latency, median (95 % interval), 95th percentile |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in verdicts:
        if one.agreement is None:
            continue
        timing, times = one.timing, "–"
        if timing is not None:
            between = f"({timing.low:.2f} to {timing.high:.2f})"
            times = f"{milliseconds(timing.median)} {between}, {timing.p95:.2f}"
        cells = [
            ", ".join(one.files) if one.format != "nanonas" else "in nanonas",
            f"{one.bytes / 1e6:.2f} MB",
            "–" if one.accuracy is None else percent(one.accuracy.share),
            percent(one.agreement),
            times,
        ]
        rows.append(f"| {' | '.join(cells)} |")
    notes = "".join(f" {one.format}: {one.note}." for one in verdicts if one.note)
    return "\n".join(rows) + f"\n\nOne image, one thread, on {described()['hardware']}.{notes}"


def _use(files: Sequence[str], subject: Subject) -> str:
    colour = "grey" if subject.module.network.input_shape[0] == 1 else "RGB"
    uses = {
        "predict.py": "`python predict.py owl.jpg` says what it sees (onnxruntime, numpy, Pillow).",
        "model.onnx": (
            f"`model.onnx` takes `image`, {colour} pixels, uint8 of (batch, height, width, "
            "channels), and gives `logits`; normalisation is inside."
        ),
        "model.int8.onnx": "`model.int8.onnx` is the same in 8 bits.",
        "model.c": (
            "`model.h` and `model.c` are C11 in 8 bits for a microcontroller; `cc model.c main.c "
            "-o model && ./model` tries them."
        ),
        "model.pt2": "`model.pt2` is the same for `torch.export.load`.",
        "model.py": (
            "`model.py` and `model.safetensors` are PyTorch to read and to train further: `load()`."
        ),
    }
    lines = [f"- {words}" for name, words in uses.items() if name in files]
    lines.append(
        "- `preprocessing.json` says how any image becomes what it takes, `labels.json` what its "
        "classes are called."
    )
    return "\n".join(lines)


def _limits(subject: Subject) -> str:
    _, height, width = subject.module.network.input_shape
    return (
        f"It knows its {len(subject.rule.class_names)} classes only, and names one of them "
        "whatever it is shown; its probabilities are not calibrated. It was tested on images of "
        "the same source as those it was trained on: on others, such as another camera's, it may "
        f"do worse. It sees the middle of an image, scaled to {width}×{height} pixels."
    )


def _found(subject: Subject) -> str:
    lines = []
    result, run = subject.result, subject.source.run
    if run is not None:
        with RunStore.read(run.store) as store:
            tried = len(store.latest())
        searched = duration(search_seconds(run))
        tried_words = "one network was" if tried == 1 else f"{tried:,} networks were"
        lines.append(f"In a search of {searched} {tried_words} tried.")
    if result is not None:
        lines.append(
            f"This one was trained for {result.epochs:.4g} epochs of {result.train_images:,} "
            f"images in {duration(result.seconds)} on {result.where}, seed {result.seed}, with "
            f"PyTorch {result.torch}."
        )
    else:
        lines.append("It had no final training: its weights are those of its evaluation.")
    words = " ".join(lines)
    if run is not None:
        words += f"\n\n```sh\n{read_record(run).command}\n```"
    return words
