"""Strategies around another: a predictor, inheritance, successive halving."""
