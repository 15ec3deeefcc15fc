"""A model card: what a network is, how good, what for and how it was found; Markdown with YAML in
front, as the Hugging Face hub reads it, https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from nanonas.config.files import to_values
from nanonas.data.backbone import name_and_file
from nanonas.data.sources.groups import groups_file
from nanonas.deploy.subject import Subject
from nanonas.deploy.verdicts import Accuracy, Verdict
from nanonas.engine.controls import lasting
from nanonas.engine.storage.store import RunStore
from nanonas.machine import described
from nanonas.runs.folder import RunFolder, read_config, search_seconds
from nanonas.text import began_with, by_number, count, duration, milliseconds, number_of, percent

_LICENSE = "# license: yours to choose, such as apache-2.0; it depends on the images, too\n"
SEARCH = "search.yaml"
_MOST_NAMES = 100  # classes that are listed
# of the configuration's "run" half: what changes results
_RESULT_KEYS = ("time", "evaluations", "generations", "final_share", "final_epochs", "front")
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
    """On the test set: as it was checked here, or as its final training has it, which is on more
    images behind a backbone.
    """
    checked, result = own.accuracy, subject.result
    if result is None:
        return checked
    if checked is not None and (subject.backbone is None or not subject.untouched):
        return checked
    return Accuracy.of_share(result.test_accuracy, result.test_images)


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
    channels, height, width = subject.rule.seen.input_shape
    colour = "grey" if channels == 1 else "colour"
    listed = ", ".join(f"`{name}`".replace("\n", " ") for name in names[:_MOST_NAMES])
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    behind = "" if subject.rule.backbone is None else f", {subject.rule.backbone.behind},"
    return (
        f"A convolutional network of {count(network.params)} parameters and "
        f"{count(network.macs)} multiply-accumulates{behind} for {colour} images of "
        f"{width}×{height}, found and trained by nanonas on {_data(subject)}. Its {len(names)} "
        f"classes: {listed}{more}."
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
        f"**{percent(accuracy.share)}** of {number_of(accuracy.n, 'test image')}{apart} (95 % "
        f"interval {percent(accuracy.low)} to {percent(accuracy.high)}){each}. Its files were run "
        f"again "
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
    colour = "grey" if subject.rule.seen.input_shape[0] == 1 else "RGB"
    inside = " is" if subject.backbone is None else " and the backbone are"
    uses = {
        "predict.py": "`python predict.py owl.jpg` says what it sees (onnxruntime, numpy, Pillow).",
        "model.onnx": (
            f"`model.onnx` takes `image`, {colour} pixels, uint8 of (batch, height, width, "
            f"channels), and gives `logits`; normalisation{inside} inside."
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
    if subject.temperature != 1:
        lines.append(
            f"- `calibration.json`: logits divided by {subject.temperature:.3g} before the softmax "
            "give calibrated probabilities; `predict.py` does so, the graphs' `logits` are as they "
            "are."
        )
    lines.append(
        "- `preprocessing.json` says how any image becomes what it takes, `labels.json` what its "
        "classes are called."
    )
    return "\n".join(lines)


def _limits(subject: Subject) -> str:
    _, height, width = subject.rule.seen.input_shape
    calibrated = "are not calibrated"
    if subject.temperature != 1:
        calibrated = "were calibrated on the test images, and hold for such images"
    return (
        f"It knows its {len(subject.rule.class_names)} classes only, and names one of them "
        f"whatever it is shown; its probabilities {calibrated}. It was tested on images of the "
        "same source as those it was trained on: on others, such as another camera's, it may do "
        f"worse. It sees the middle of an image, scaled to {width}×{height} pixels."
    )


def _found(subject: Subject) -> str:
    lines, requests = [], False
    result, run = subject.result, subject.source.run
    if run is not None:
        with RunStore.read(run.store) as store:
            tried, requests = len(store.latest()), bool(lasting(store.events()))
        searched = duration(search_seconds(run))
        were = by_number(tried, "was", "were")
        lines.append(f"In a search of {searched} {number_of(tried, 'network')} {were} tried.")
    if result is not None:
        lines.append(
            f"This one was trained for {number_of(result.epochs, 'epoch', form='.4g')} of "
            f"{number_of(result.train_images, 'image')} in {duration(result.seconds)} on "
            f"{result.where}, seed {result.seed}, with PyTorch {result.torch}."
        )
        if result.began_with is not None:
            lines.append(f"It {began_with(result.began_with)}.")
    else:
        lines.append("It had no final training: its weights are those of its evaluation.")
    words = " ".join(lines)
    return words if run is None else f"{words}\n\n{_repeat(run, requests)}"


def _repeat(run: RunFolder, requests: bool) -> str:
    """How the search is repeated.

    Args:
        requests: whether anything was asked of it while it went on.
    """
    search = read_config(run).search
    data = Path(search.data.data)
    places = [f"`{data.name}` lies in"] if data.is_absolute() else []
    copies = (search.strategy.experience_from, search.fidelity.ancestor)  # a run has its own
    names = [f"`{Path(one).name}`" for one in copies if one is not None]
    if names:
        places.append(f"has {' and '.join(names)} of the run's folder")
    where = f", in a folder that {' and that '.join(places)}" if places else ""
    words = f"To repeat it{where}:\n\n```sh\nnanonas search --config {SEARCH}\n```"
    if requests:
        words += (
            "\n\nThat leaves out the bans and planted networks that were asked for while it went "
            "on: they lie with the run."
        )
    return words


def search_yaml(run: RunFolder) -> str:
    """The file search.yaml: what a run's result depends on, for `nanonas search --config`.

    Of the images, files of groups and of a backbone's weights, and what the run began with, it has
    the name alone: where they lay on a machine is nobody's business.
    """
    values = to_values(read_config(run))
    search, groups = values["search"], values["search"]["groups"]
    for key in ("data", "experience_from", "ancestor"):
        if search[key] is not None and Path(search[key]).is_absolute():
            search[key] = Path(search[key]).name
    if groups and (path := groups_file(groups)) is not None:
        search["groups"] = path.name
    if search["backbone"]:
        name, file = name_and_file(search["backbone"])
        search["backbone"] = name if file is None else f"{name}={file.name}"
    chosen = {key: values["run"][key] for key in _RESULT_KEYS}
    return yaml.safe_dump({"search": search, "run": chosen}, sort_keys=False)
