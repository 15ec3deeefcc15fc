"""A search as an estimator of scikit-learn: `fit` searches and trains, `predict` asks the network.

Needs scikit-learn: pip install 'nanonas[sklearn]'.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nanonas.core import Floats
from nanonas.data.in_memory import Scaling, are_paths, held_out, link_files, write_images
from nanonas.errors import ConfigError, DataError

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_consistent_length, check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted
except ImportError:
    raise ConfigError("NASClassifier needs scikit-learn: pip install 'nanonas[sklearn]'") from None

if TYPE_CHECKING:
    from nanonas.training.modules import NetworkModule


class NASClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Finds and trains a small CNN for images within a time.

    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> model = NASClassifier("1m", image_shape=(8, 8)).fit(X, y)  # doctest: +SKIP
    >>> model.predict(X[:3])  # doctest: +SKIP
    array([0, 1, 2])

    `fit` sets a part of its images apart (`test_share`), tests the network that it found with them,
    once, and keeps the accuracy as `test_accuracy_`.

    Args:
        time: for all of a fit, such as "10m", "1h" or seconds.
        max_params: the most parameters that the network may have; None: as many as it likes.
        max_macs: likewise, multiply-accumulates for an image.
        image_shape: (height, width) or (height, width, channels), where X holds flat rows.
        image_size: pixels a side that images are scaled to; None: as they are, and files of several
            sizes to 32 or 64.
        test_share: of each class's images, in (0, 1), that the network is tested with.
        settings: any other value of the configuration, by name: `{"strategy": "aging"}`.
        out: the folder to keep the run in; None: it is not kept.
        random_state: an int gives the same candidates again; else as of
            `sklearn.utils.check_random_state`.
        verbose: whether to show what happens.

    Attributes:
        classes_: (classes,), the labels, sorted.
        test_accuracy_: in [0, 1].
        run_: the run's folder; None where it was not kept.
        n_features_in_: of flat rows; missing for images.
    """

    def __init__(
        self,
        time: str | float = "10m",
        *,
        max_params: int | None = None,
        max_macs: int | None = None,
        image_shape: Sequence[int] | None = None,
        image_size: int | None = None,
        test_share: float = 0.1,
        settings: Mapping[str, Any] | None = None,
        out: str | Path | None = None,
        random_state: Any = 0,
        verbose: bool = False,
    ) -> None:
        self.time = time
        self.max_params = max_params
        self.max_macs = max_macs
        self.image_shape = image_shape
        self.image_size = image_size
        self.test_share = test_share
        self.settings = settings
        self.out = out
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NASClassifier:  # noqa: N803
        """Searches, trains the network that was found, and tests it once.

        Args:
            X: images of one shape, (N, H, W) or (N, H, W, C) with 1 or 3 channels; flat rows,
                (N, features), with `image_shape`; or a list of the paths of N files. uint8 is taken
                as it is, other numbers from 0 are scaled so that the highest becomes white (1,
                where none is higher).
            y: (N,) labels of at least two classes.
            sample_weight: must be None.

        Raises:
            ConfigError: a parameter cannot be used, or `sample_weight` is given.
            DataError: X or y cannot be used.
            NanonasError: what else a search can say.
        """
        if sample_weight is not None:
            raise ConfigError(
                "sample_weight cannot be used: every image counts alike; leave it out, or repeat "
                "the images that count for more"
            )
        if not 0 < self.test_share < 1:
            raise ConfigError(f"test_share must be between 0 and 1, but is {self.test_share}")
        check_consistent_length(X, y)
        check_classification_targets(y)
        self.classes_, labels = np.unique(np.asarray(y), return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError(f"y has {len(self.classes_)} class, but 2 are the least")
        seed = _seed(self.random_state)
        with _kept_in(self.out) as folder:
            source = self._written(folder, X, labels.astype(np.int64), seed)
            self._search(source, folder, seed)
        return self

    def _written(self, folder: Path, x: Any, labels: NDArray[np.int64], seed: int) -> Path:
        """The images where a search can read them."""
        names = [str(label) for label in self.classes_]
        test = held_out(labels, self.test_share, seed)
        path = Path(tempfile.mkdtemp(prefix="images-", dir=folder))
        if are_paths(x):
            self._scaling = Scaling(None, self.image_shape)
            link_files(path, x, labels, len(names), test)
            return path
        self._scaling = Scaling.of(x, self.image_shape)
        if self.image_shape is not None:
            self.n_features_in_ = int(np.prod(self.image_shape))
        write_images(path / "images.npz", self._scaling.pixels(x), labels, names, test)
        return path / "images.npz"

    def _search(self, source: Path, folder: Path, seed: int) -> None:
        from rich.console import Console

        from nanonas.config.files import configure
        from nanonas.session.start import begin
        from nanonas.terminal.live import live

        given: dict[str, Any] = {
            "time": self.time,
            "max_params": self.max_params,
            "max_macs": self.max_macs,
            "image_size": self.image_size,
            "seed": seed,
            "data": str(source),
            "out": str(folder),
        }
        overlap = sorted(given.keys() & (self.settings or {}).keys())
        if overlap:
            raise ConfigError(
                f"settings has {overlap[0]!r}, which is a parameter of NASClassifier or made by "
                "it; set that instead"
            )
        config = configure(**given, **(self.settings or {}))
        outcome = begin(config, live(Console(quiet=not self.verbose)))
        if outcome.final is None:
            raise ConfigError(
                "settings must not switch the final training off, for predict needs its weights; "
                "leave final_share and final_epochs out"
            )
        self.run_: Path | None = None if self.out is None else outcome.folder.path
        self.test_accuracy_ = outcome.final.test_accuracy
        names = ("model.safetensors", "genome.json", "result.json")
        self._files = {name: (outcome.folder.final / name).read_bytes() for name in names}
        if (backbone := outcome.folder.backbone).exists():
            self._files[backbone.name] = backbone.read_bytes()
        self.__dict__.pop("_loaded", None)

    @property
    def module_(self) -> NetworkModule:
        """The trained network, in eval mode, on the CPU: (B, C, H, W) -> (B, classes), logits."""
        from nanonas.runs.models import trained_module

        check_is_fitted(self)
        if "_loaded" not in self.__dict__:
            with self._on_disk() as folder:
                self._loaded: NetworkModule = trained_module(folder)
        return self._loaded

    @contextlib.contextmanager
    def _on_disk(self) -> Iterator[Path]:
        """A folder with what the final training wrote, for a moment."""
        with tempfile.TemporaryDirectory() as name:
            for file, content in self._files.items():
                (Path(name) / file).write_bytes(content)
            yield Path(name)

    def export(self, to: str | Path) -> Path:
        """Writes the network as files that work without nanonas, each of them checked: PyTorch
        source, ONNX, `torch.export`; see `nanonas export`. Of a run that was kept, export that: it
        has its images, for int8 and for the accuracy of each file.

        Returns:
            the folder.

        Raises:
            NanonasError: as `nanonas export`; also where a file does not do what the network does.
        """
        from nanonas.deploy.bundle import exported
        from nanonas.deploy.subject import subject_at

        check_is_fitted(self)
        with self._on_disk() as folder:
            return exported(subject_at(folder), Path(to))

    def predict_proba(self, X: Any) -> Floats:  # noqa: N803
        """The probability of each class, (N, classes), in the order of `classes_`; calibrated where
        the test images set apart by `fit` have shown that this is worth it.

        Args:
            X: images as of `fit`, as an array or as paths, whichever `fit` had.
        """
        from nanonas.deploy.classifying import of_module
        from nanonas.runs.backbones import backbone_of
        from nanonas.runs.models import temperature_of

        check_is_fitted(self)
        rule = self.module_.preprocessing
        assert rule is not None  # this version trained it
        temperature = temperature_of(json.loads(self._files["result.json"]), "result.json")
        with self._on_disk() as folder:
            backbone = backbone_of(rule, folder)
        network = of_module(self.module_, rule, temperature, backbone)
        if are_paths(X):
            return network.probabilities([str(path) for path in X])
        return network.probabilities(list(self._scaling.pixels(X)))

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """The most probable label of each image, (N,); X as of `predict_proba`."""
        probable = self.predict_proba(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[probable]
        return labels

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_loaded", None)  # made again from the files
        return state

    def __sklearn_is_fitted__(self) -> bool:
        return "_files" in self.__dict__

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.image_shape is not None
        tags.input_tags.three_d_array = self.image_shape is None
        tags.input_tags.string = True  # paths
        tags.input_tags.positive_only = True
        tags.non_deterministic = True  # a time decides how far a search gets
        return tags


def _seed(random_state: Any) -> int:
    """The seed that scikit-learn's word for it stands for; an int stands for itself."""
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


@contextlib.contextmanager
def _kept_in(out: str | Path | None) -> Iterator[Path]:
    """A folder for a run: the one that is named, or one that is removed afterwards."""
    if out is not None:
        folder = Path(out).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="nanonas-") as temporary:
        yield Path(temporary)
