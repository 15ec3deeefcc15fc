"""Toys that tests share: small searches, runs, strategies and spaces."""
