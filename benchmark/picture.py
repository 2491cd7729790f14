"""Results as one picture: a panel for each part that was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.images import HD
from benchmark.results import Report, Result, select, spread

OURS, THEIRS = "tab:blue", "tab:gray"
STAGES = ("take (ms)", "read (ms)", "encode (ms)", "decode (ms)", "publish (ms)")
PANEL_INCHES = (7.0, 4.2)
DPI = 80


def draw(report: Report, path: Path) -> None:
    """Write a PNG with a panel for each part that has results, two in a row."""
    parts = [part for part in PANELS if select(report.results, part)]
    if not parts:
        return
    columns = min(2, len(parts))
    rows = -(-len(parts) // columns)
    figure = Figure((PANEL_INCHES[0] * columns, PANEL_INCHES[1] * rows), layout="constrained")
    for index, part in enumerate(parts):
        PANELS[part](figure.add_subplot(rows, columns, index + 1), select(report.results, part))
    figure.suptitle(f"{report.machine['CPU']}, {report.machine['device']}")
    figure.savefig(path, dpi=DPI)


def _draw_bars(axes: Axes, results: Sequence[Result], title: str) -> None:
    """Median and quartiles of both sides, from a tenth of the shortest on, and the ratios."""
    for row, result in enumerate(results):
        _draw_bar(axes, row - 0.2, result.ours_sec, OURS)
        if result.theirs_sec:
            _draw_bar(axes, row + 0.2, result.theirs_sec, THEIRS)
        if result.ratio is not None:
            longest = max(spread(side).upper for side in (result.ours_sec, result.theirs_sec))
            axes.text(1050 * longest, row, f"{result.ratio:.3g}x", va="center", fontsize=8)
    labels = [", ".join(value for value in result.case.values() if value) for result in results]
    axes.set_yticks(range(len(results)), labels, fontsize=7)
    axes.invert_yaxis()
    medians = [1000 * spread(s).median for r in results for s in (r.ours_sec, r.theirs_sec) if s]
    axes.set_xscale("log")
    axes.set_xlim(min(medians) / 10, max(medians) * 4)
    axes.set_xlabel("ms")
    axes.set_title(f"{title}: sam_ros blue, the other grey", fontsize=9)


def _draw_bar(axes: Axes, y: float, seconds: Sequence[float], color: str) -> None:
    found = spread(seconds)
    median = 1000 * found.median
    quartiles = [[median - 1000 * found.lower], [1000 * found.upper - median]]
    axes.barh(y, median, 0.38, color=color, xerr=quartiles, error_kw={"elinewidth": 1})


def _draw_prompts(axes: Axes, results: Sequence[Result]) -> None:
    """How the cost grows with the number of prompts."""
    lines = dict.fromkeys((r.case["model"], r.case["precision"]) for r in results)
    for index, (model, precision) in enumerate(lines):
        some = select(results, "prompts", model=model, precision=precision)
        counts = [int(result.case["prompts"]) for result in some]
        ours = [1000 * spread(result.ours_sec).median for result in some]
        theirs = [1000 * spread(result.theirs_sec).median for result in some]
        color = f"C{index}"
        axes.plot(counts, ours, "o-", color=color, label=f"{model} {precision}")
        axes.plot(counts, theirs, "--", color=color, alpha=0.5, label=f"{model}, loop of predict")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("prompts")
    axes.set_ylabel("ms")
    axes.legend(fontsize=7)
    axes.set_title("mixed prompts", fontsize=9)


def _draw_messages(axes: Axes, results: Sequence[Result]) -> None:
    _draw_bars(axes, select(results, "messages", image=HD), f"messages, {HD}")


def _draw_node(axes: Axes, results: Sequence[Result]) -> None:
    """The stages that the node reports, stacked, and the time from click to mask."""
    labels = [", ".join(result.case.values()) for result in results]
    left = [0.0] * len(results)
    for stage in STAGES:
        widths = [result.figures.get(stage, 0.0) for result in results]
        if any(widths):
            axes.barh(labels, widths, left=left, label=stage.removesuffix(" (ms)"))
        left = [start + width for start, width in zip(left, widths, strict=True)]
    clicks = [1000 * spread(result.ours_sec).median for result in results]
    axes.plot(clicks, range(len(results)), "k|", markersize=14, label="click to mask")
    axes.tick_params("y", labelsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("ms")
    axes.legend(fontsize=7)
    axes.set_title("the node: stages by its diagnostics; encoding runs beside the others", fontsize=9)


PANELS: dict[str, Callable[[Axes, Sequence[Result]], None]] = {
    "encode": lambda axes, results: _draw_bars(axes, results, "encode"),
    "click": lambda axes, results: _draw_bars(axes, results, "one click"),
    "prompts": _draw_prompts,
    "everything": lambda axes, results: _draw_bars(axes, results, "everything from 16 x 16 points"),
    "following": lambda axes, results: _draw_bars(axes, results, "carrying objects on, and decoding them"),
    "preprocess": lambda axes, results: _draw_bars(axes, results, "pre-processing"),
    "messages": _draw_messages,
    "node": _draw_node,
}
