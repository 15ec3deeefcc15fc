"""Figures: plotly for the page, matplotlib for PNG, SVG for architectures."""
