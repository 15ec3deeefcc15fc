"""A network that was trained on other images, as the beginning of another training.

Its body comes along: whatever of the new network has a counterpart in it, see `inheritance`. Its
classifier comes along where the classes are the same; else the new one stays as it was drawn. What
reads the image is brought to its channels: for grey, the channels of a filter are added up; for
colour, a grey filter is there three times, a third each. So both answer a grey image as before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanonas.networks.network import Network
from nanonas.training.inheritance.inherit import inherit
from nanonas.training.inheritance.parents import Parent, check_parent
from nanonas.training.modules import NetworkModule, build_module
from nanonas.training.weights import digest_of


@dataclass(frozen=True)
class Begun:
    """What a module has of a pretrained network."""

    body: frozenset[str]  # the submodules that are all of that network
    share: float  # of the module's parameters, in [0, 1], that are in these
    of_body: float = 0.0  # likewise, of those without the classifier's


NOTHING = Begun(frozenset(), 0.0)


@dataclass(frozen=True)
class Pretrained:
    """A trained network that another training begins with.

    Args:
        parent: it, brought to the channels of the new images, see `with_channels`.
        name: what people call it.
        same_classes: whether it was trained for the classes that it is going to be trained for.
        unmeasured: its norms whose statistics nobody kept, as of a bundle whose norms were folded.
    """

    parent: Parent
    name: str
    same_classes: bool
    unmeasured: frozenset[str] = frozenset()

    @cached_property
    def digest(self) -> str:
        """Equal for equal networks with equal weights, and the same part that is taken of them."""
        return digest_of(self.parent.tensors, f"{self.parent.network.key} {self.same_classes}")

    def begin(self, module: NetworkModule, images: Tensor) -> Begun:
        """Writes its weights into a freshly initialised module, as far as they fit.

        Args:
            module: on the CPU.
            images: as of `inherit`.

        Raises:
            RunError: tensors are missing, or do not fit its network.
        """
        head = classifier_of(module.network)
        fresh = {
            name: tensor.clone() for name, tensor in module.get_submodule(head).state_dict().items()
        }
        parent = _measured(self.parent, self.unmeasured, images)
        body = inherit(module, [parent], images).nodes
        if not self.same_classes:
            module.get_submodule(head).load_state_dict(fresh)
            body -= {head}
        own, whole = _params(module.get_submodule(head)), _params(module)
        taken = sum(_params(module.get_submodule(name)) for name in body)
        without_head = taken - own if head in body else taken
        return Begun(body, taken / whole, without_head / max(1, whole - own))

    def share(self, network: Network) -> float:
        """Of a network's parameters, in [0, 1], those in submodules that begin as all of its."""
        images = torch.zeros(2, *network.input_shape)  # of statistics, which do not matter here
        return self.begin(build_module(network, seed=0), images).share


def _params(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def classifier_of(network: Network) -> str:
    """The node that says which class an image is of: the last one with weights."""
    return next(node.name for node in reversed(network.nodes) if node.tensors)


def with_channels(network: Network, tensors: Mapping[str, Tensor], remade: Network) -> Parent:
    """A trained network for images with other channels.

    Args:
        network: as it was trained.
        tensors: of it, by name.
        remade: the same for other channels. Nodes that fit neither as they are nor with channels
            added up or repeated have fresh weights.
    """
    if network == remade:
        return Parent(network, tensors)
    drawn = build_module(remade, seed=0).state_dict()
    made: dict[str, Tensor] = {}
    fresh: set[str] = set()
    for node in remade.nodes:
        for name in node.tensors:
            full = f"{node.name}.{name}"
            old = tensors.get(full)
            new = None if old is None else _fitting(old, tuple(drawn[full].shape))
            if new is None:
                fresh.add(node.name)
            made[full] = drawn[full] if new is None else new
    return Parent(remade, made, frozenset(fresh))


def _fitting(old: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """A tensor in a shape with a third or three times as many input channels, (o, i, k, k); None
    where that is not what the shapes differ in.
    """
    if tuple(old.shape) == shape:
        return old
    if len(shape) != 4 or old.ndim != 4 or (old.shape[0], *old.shape[2:]) != (shape[0], *shape[2:]):
        return None
    # pixels of a block, if it is blocks that are read, stand behind each other, channel by channel
    if old.shape[1] == 3 * shape[1]:
        return old.view(len(old), 3, shape[1], *shape[2:]).sum(dim=1)
    if 3 * old.shape[1] == shape[1]:
        return old.repeat(1, 3, 1, 1) / 3
    return None


@torch.no_grad()
def _measured(parent: Parent, norms: Collection[str], images: Tensor) -> Parent:
    """A parent whose norms have the statistics of what they read of some images, and compute what
    they computed in eval mode: so they do nearly the same in training.

    Args:
        images: normalised, (B, C, H, W); scaled to the parent's size.
    """
    if not norms:
        return parent
    check_parent(parent, "the network to begin with")
    module = build_module(parent.network, seed=0).eval()
    module.load_state_dict({name: parent.tensors[name] for name in module.state_dict()})

    def measure(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d))
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * scale
        x = inputs[0].transpose(0, 1).flatten(1).float()  # (C, B·H·W)
        norm.running_mean.copy_(x.mean(1))
        norm.running_var.copy_(x.var(1, unbiased=False))
        norm.weight.copy_(scale * torch.sqrt(norm.running_var + norm.eps))
        norm.bias.copy_(shift + norm.running_mean * scale)

    for name in norms:
        module.get_submodule(name).register_forward_pre_hook(measure)
    module(F.interpolate(images, parent.network.input_shape[1:], mode="bilinear", antialias=True))
    return replace(parent, tensors=module.state_dict())
