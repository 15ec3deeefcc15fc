from .network import Draft as Draft
from .network import Network as Network
from .network import classifier as classifier
from .network import conv_norm as conv_norm
from .network import depthwise as depthwise
from .network import relu as relu
from .ops import OPS as OPS
from .ops import Node as Node
from .ops import Op as Op
from .ops import Tensor as Tensor
from .ops import same_shape as same_shape
from .ops import window_shape as window_shape
from .reference import REFERENCES as REFERENCES

__all__ = [
    "OPS",
    "REFERENCES",
    "Draft",
    "Network",
    "Node",
    "Op",
    "Tensor",
    "classifier",
    "conv_norm",
    "depthwise",
    "relu",
    "same_shape",
    "window_shape",
]
