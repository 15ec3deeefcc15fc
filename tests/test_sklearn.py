"""scikit-learn's interface: its conventions, and the numbers of the network itself."""

from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

from nanonas import NASClassifier
from nanonas.data import load
from nanonas.deploy import bundle
from nanonas.deploy.classifying import classifier
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.errors import ConfigError, DataError
from nanonas.session.session import Session
from nanonas.training.trial import Trial

SHORT: dict[str, Any] = {
    "time": None,
    "max_params": 5_000,
    "settings": {
        "evaluations": 1,
        "epochs": 1,
        "final_epochs": 10,
        "batch_size": 32,
        "workers": 1,
        "device": "cpu",
        "precision": "float32",
    },
}


pytestmark = pytest.mark.usefixtures("quick_measurements")


@pytest.fixture(scope="module", autouse=True)
def _in_this_process() -> Iterator[None]:
    """Worker processes take seconds to begin; these tests are about what comes after."""

    def serial(session: Session, trials: list[Trial]) -> contextlib.closing[SerialEvaluator]:
        return contextlib.closing(SerialEvaluator(trials[0]))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Session, "_evaluator", serial)
        yield


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Flat rows of 0 to 16, as scikit-learn has them, and words as labels."""
    images = load("digits")
    names = np.array(["zero", "one", "two"])
    chosen = np.flatnonzero(images.y_train < 3)[:240]
    rows = np.asarray(images.x_train[chosen], np.float64).reshape(len(chosen), -1) / 255 * 16
    return rows, names[images.y_train[chosen]]


@pytest.fixture(scope="module")
def fitted(digits: tuple[np.ndarray, np.ndarray]) -> NASClassifier:
    return NASClassifier(image_shape=(8, 8), **SHORT).fit(*digits)


def temperature(model: NASClassifier) -> float:
    """What its logits are divided by."""
    found: float | None = json.loads(model._files["result.json"])["temperature"]
    return found or 1.0


def test_a_fitted_classifier_answers_as_its_network(
    fitted: NASClassifier, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    x, y = digits
    probabilities = fitted.predict_proba(x)
    rule = fitted.module_.preprocessing
    assert rule is not None
    pixels = np.rint(x / 16 * 255).reshape(-1, 1, 8, 8) / 255
    with torch.no_grad():
        batch = torch.tensor((pixels - rule.mean[0]) / rule.std[0], dtype=torch.float32)
        logits = fitted.module_(batch).double() / temperature(fitted)
        expected = torch.softmax(logits, dim=1).numpy()
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert list(fitted.classes_) == ["one", "two", "zero"]
    answers = fitted.predict(x)
    np.testing.assert_array_equal(answers, fitted.classes_[expected.argmax(axis=1)])
    assert fitted.score(x, y) == np.mean(answers == y) > 0.8
    assert 0 <= fitted.test_accuracy_ <= 1
    assert fitted.n_features_in_ == 64
    assert fitted.module_.network.params <= 5_000
    assert fitted.run_ is None


def test_a_fitted_classifier_can_be_pickled_and_a_clone_is_not_fitted(
    fitted: NASClassifier, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    x, _ = digits
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(x), fitted.predict_proba(x))
    result = {**json.loads(again._files["result.json"]), "temperature": 2.0}
    again._files["result.json"] = json.dumps(result).encode()
    powers = fitted.predict_proba(x) ** (temperature(fitted) / 2)
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(again.predict_proba(x), expected, atol=1e-6)
    other = clone(fitted)
    assert other.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        other.predict(x)


def test_it_works_in_pipelines_and_searches_over_parameters(
    digits: tuple[np.ndarray, np.ndarray],
) -> None:
    x, y = digits
    scaled = make_pipeline(
        FunctionTransformer(lambda rows: rows / 16), NASClassifier(image_shape=(8, 8), **SHORT)
    )
    search = GridSearchCV(scaled, {"nasclassifier__max_params": [2_000, 3_000]}, cv=2)
    search.fit(x, y)
    assert search.best_score_ > 0.6
    best = search.best_estimator_[-1]
    assert best.module_.network.params <= best.max_params
    model = NASClassifier(image_shape=(8, 8), **SHORT)
    scores = cross_val_score(model, x, y, cv=2)
    assert scores.shape == (2,)
    assert scores.mean() > 0.6


def test_files_are_images_too_and_a_run_is_kept_where_it_is_wanted(tmp_path: Path) -> None:
    paths, labels = [], []
    for number in range(40):
        image = np.zeros((10, 12), np.uint8)
        image[:5] = 200 * (number % 2)
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(image + np.uint8(number)).save(paths[-1])
        labels.append(number % 2 == 1)
    model = NASClassifier(image_size=8, out=tmp_path / "runs", **SHORT).fit(paths, labels)
    assert model.run_ is not None
    assert model.run_.parent == tmp_path / "runs"
    assert (model.run_ / "study.db").exists()
    assert model.predict(paths).dtype == bool
    assert model.score(paths, labels) == 1
    assert model.score(np.array(paths), labels) == 1


def test_what_cannot_be_used_is_said(digits: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = digits
    with pytest.raises(ConfigError, match="sample_weight cannot be used"):
        NASClassifier(image_shape=(8, 8)).fit(x, y, sample_weight=np.ones(len(x)))
    with pytest.raises(ConfigError, match="test_share must be between 0 and 1, but is 1"):
        NASClassifier(image_shape=(8, 8), test_share=1).fit(x, y)
    with pytest.raises(DataError, match="y has 1 class"):
        NASClassifier(image_shape=(8, 8)).fit(x, np.zeros(len(x), int))
    with pytest.raises(DataError, match="flat rows need image_shape"):
        NASClassifier().fit(x, y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        NASClassifier(image_shape=(8, 8)).fit(x, y[:-1])
    with pytest.raises(ConfigError, match="settings has 'time', which is a parameter"):
        NASClassifier(image_shape=(8, 8), settings={"time": "1h"}).fit(x, y)
    with pytest.raises(ConfigError, match="max_param"):
        NASClassifier(image_shape=(8, 8), settings={"max_param": 1}).fit(x, y)


@pytest.mark.parametrize(
    "check",
    [
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_get_params_invariance",
        "check_set_params",
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_estimators_unfitted",
        "check_valid_tag_types",
        "check_estimator_tags_renamed",
    ],
)
def test_scikit_learns_own_checks_that_hold_for_images(check: str) -> None:
    getattr(estimator_checks, check)("NASClassifier", NASClassifier(image_shape=(8, 8)))


def test_a_fitted_classifier_is_exported_without_its_images(
    fitted: NASClassifier,
    digits: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX needs onnx: pip install 'nanonas[onnx]'")
    monkeypatch.setattr(bundle, "Export", partial(bundle.Export, ["onnx"], seconds=0))
    folder = fitted.export(tmp_path / "bundle")
    assert {"model.onnx", "predict.py", "card.md"} <= {path.name for path in folder.iterdir()}
    x, _ = digits
    pixels = np.rint(x[:9] / 16 * 255).astype(np.uint8).reshape(-1, 8, 8)
    answers = classifier(folder).probabilities(list(pixels))
    np.testing.assert_allclose(answers, fitted.predict_proba(x[:9]), atol=1e-4)
