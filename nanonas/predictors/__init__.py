"""Guessing how good a network would be: what learns from trained networks, behind one contract,
`core.Predictor`.
"""
