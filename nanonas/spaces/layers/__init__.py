"""Chains of layers with skip connections: Conv2D, pooling, BatchNorm, Dropout and Dense."""
