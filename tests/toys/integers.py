"""Networks that have a form in 8-bit integers, and what is needed to make it: tensors, a rule for
images, pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nanonas.data.preprocessing import Preprocessing
from nanonas.networks.integer import undeployable
from nanonas.networks.limits import Limits
from nanonas.networks.network import Draft, Network, classifier, conv_norm, depthwise, relu
from nanonas.networks.ops import ACTIVATIONS
from nanonas.spaces.base import Space
from nanonas.spaces.layers.space import LayersSpace
from nanonas.spaces.nano import NanoSpace
from nanonas.spaces.nasbench201 import NASBench201Space
from nanonas.spaces.stages.space import StagesSpace
from nanonas.training.modules import NetworkModule, build_module

SPACES: dict[str, Space] = {
    "stages": StagesSpace((3, 11, 13), 5, limits=Limits(max_params=6_000)),
    "layers": LayersSpace((1, 9, 9), 5, limits=Limits(max_params=8_000)),
    "nano": NanoSpace((3, 8, 8), 4, channels=6),
    "nasbench201": NASBench201Space((3, 8, 8), 4, channels=4, cells=1),
}


def drawn(space: Space, seed: int) -> Network:
    """A random network that has a form in integers."""
    rng = np.random.default_rng(seed)
    while undeployable(network := space.decode(space.sample(rng))):
        pass
    return network


def module_of(network: Network, seed: int) -> NetworkModule:
    """A module whose norms have statistics, scales and shifts of their own, negative scales too."""
    module = build_module(network, seed=seed).eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for layer in module.modules():
            if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
                layer.weight.normal_()
                layer.bias.normal_(std=0.3)
                layer.running_mean.normal_(std=0.3)  # type: ignore[union-attr]
                layer.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
    return module


def tensors_of(module: nn.Module) -> dict[str, NDArray[Any]]:
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def preprocessing_of(network: Network) -> Preprocessing:
    channels = network.input_shape[0]
    mean, std = (0.5, 0.4, 0.45)[:channels], (0.25, 0.2, 0.3)[:channels]
    names = tuple(f"class {n}" for n in range(network.classes))
    return Preprocessing(network.input_shape, mean, std, names)


def pixels_of(network: Network, number: int, seed: int = 0) -> NDArray[np.uint8]:
    channels, height, width = network.input_shape
    shape = (number, height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def everything() -> Network:
    """A network with every step that there is, at odd sizes."""
    draft = Draft((2, 9, 7), 3)
    x = draft.add("space_to_depth", "input", stride=2)
    x = draft.add("norm", x)
    for kind in ACTIVATIONS:
        x = draft.add("act", conv_norm(draft, x, 6, 3), kind=kind)
    y = draft.add("maxpool", x, kernel=3, stride=1)
    y = draft.add("conv", y, filters=6, kernel=5, stride=1, groups=3, bias=True)
    z = draft.add("act", draft.add("slice", x, start=1, stop=4), kind="relu")
    x = draft.add("concat", draft.add("add", x, y, x), z)
    x = draft.add("maxpool", draft.add("act", x, kind="silu"), kernel=3, stride=2)
    x = draft.add("norm", draft.add("avgpool", x, kernel=3, stride=1))
    x = draft.add("concat", draft.add("globalpool", x), draft.add("globalmaxpool", x))
    x = draft.add("norm", draft.add("dense", draft.add("dropout", x, rate=0.5), units=3))
    return draft.finish(draft.add("dense", relu(draft, x), units=3))


def small_network(shape: tuple[int, ...], classes: int) -> Network:
    """Residual, depthwise, with a table and both kinds of pool."""
    draft = Draft(shape, classes)
    x = draft.add("conv", "input", filters=12, kernel=3, stride=1, groups=1, bias=False)
    x = relu(draft, draft.add("norm", draft.add("maxpool", x, kernel=2, stride=2)))
    x = relu(draft, draft.add("add", x, conv_norm(draft, depthwise(draft, x, 3), 12, 1)))
    x = draft.add("act", conv_norm(draft, x, 24, 3), kind="gelu")
    return classifier(draft, draft.add("avgpool", x, kernel=2, stride=2))


def fit(module: NetworkModule, x: NDArray[np.float32], y: NDArray[Any]) -> None:
    """Ten epochs of Adam."""
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    images, labels = torch.from_numpy(x), torch.from_numpy(y.astype(np.int64))
    rng = np.random.default_rng(0)
    for _ in range(10):
        order = torch.from_numpy(rng.permutation(len(images)))
        for start in range(0, len(images), 64):
            chosen = order[start : start + 64]
            loss = nn.functional.cross_entropy(module(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def plant_outliers(module: NetworkModule, times: float) -> int:
    """Makes the first channel of maps so many times larger, and what reads it so many times smaller
    again: in floating point the network computes what it did; integers lose the other channels.
    Returns of how many maps.
    """
    network, planted = module.network, 0
    for node in network.nodes:
        chain = [node]
        while len(readers := network.readers[chain[-1].name]) == 1:
            chain.append(readers[0])
            if not (readers[0].op == "norm" or str(readers[0].values.get("kind")) == "relu"):
                break
        last = chain[-1]
        if node.op != "conv" or last is node or last.op not in ("conv", "dense"):
            continue
        scaled = next((one for one in chain if one.op == "norm"), node)
        weights = dict(module.get_submodule(scaled.name).named_parameters())
        reads = module.get_submodule(last.name).get_parameter("weight")
        with torch.no_grad():
            for name in {"weight", "bias"} & weights.keys():
                weights[name][0] *= times
            if last.groups == 1:
                reads[:, 0] /= times
            else:
                reads[: last.shape[0] // last.groups] /= times
        planted += 1
    return planted
