"""Measuring one candidate: images, modules, training, and their cost."""
