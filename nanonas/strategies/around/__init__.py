"""Strategies around another: a predictor, a scored pool, inheritance, successive halving."""
