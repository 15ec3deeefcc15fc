"""Accidents: a search is killed, cut off and starved in hundreds of ways, and resumed each time."""
