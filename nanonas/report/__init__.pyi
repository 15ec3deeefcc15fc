from .charts.architecture import svg as svg
from .charts.chart import Chart as Chart
from .charts.figures import all_charts as all_charts
from .charts.matplotlib import draw as draw
from .charts.plotly import figure as figure
from .page import render as render
from .rows.frames import frames as frames
from .rows.sheet import Sheet as Sheet
from .rows.tables import table as table
from .words.verdict import headline as headline
from .words.verdict import verdict as verdict

__all__ = [
    "Chart",
    "Sheet",
    "all_charts",
    "draw",
    "figure",
    "frames",
    "headline",
    "render",
    "svg",
    "table",
    "verdict",
]
