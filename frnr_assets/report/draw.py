"""Drawing the pictures of a report.

No text from outside is drawn, for fonts lack the letters of many languages: clips have letters, which a table explains.
"""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib import colormaps, style
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from PIL import Image

from frnr_assets.report.summary import Agreement, Count, quantiles_by_crf
from frnr_assets.vocabulary import CANONICAL6_FEATURES

# Okabe and Ito's colours, which colour-blind readers can tell apart.
_BLUE, _ORANGE, _BLACK, _GREY = "#0072B2", "#D55E00", "#000000", "#666666"
# Black is for what concerns all clips.
_CLIP_COLOURS = (_BLUE, _ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_LINE_STYLES = ("-", "--", ":")
MOST_LINES = len(_CLIP_COLOURS) * len(_LINE_STYLES)
MOST_PANELS = 6
# Fewer values have no quartiles worth a box.
FEWEST_BOXED = 5
# Up to so many values each is drawn; beyond, their density.
_MOST_POINTS = 50
_MOST_DOTS = 1000
# Beyond so many CRFs, not each has room for its number.
_MOST_LABELS = 8
_WIDTH_IN, _DPI, _COLOURS = 7.0, 120, 128
_STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}
_VMAF = "VMAF (0 to 100)"
_BITRATE = "bitrate (kbit/s, logarithmic)"


@dataclass
class Canvas:
    """A figure that is being drawn.

    Attributes:
        figure: the figure.
        png: its file, once it was drawn.
    """

    figure: Figure
    png: bytes = b""


@contextmanager
def _canvas(height_in: float) -> Iterator[Canvas]:
    """Lend a figure in the style of the report, whatever style this machine's user has chosen."""
    with style.context(["default", _STYLE]):
        canvas = Canvas(Figure(figsize=(_WIDTH_IN, height_in), dpi=_DPI, layout="constrained"))
        yield canvas
        file = io.BytesIO()
        canvas.figure.savefig(file, format="png")
        canvas.png = _made_small(file)


def _made_small(png: io.BytesIO) -> bytes:
    """Return a PNG of a third of the size that it has with all its colours, most of which are blurred edges."""
    small = io.BytesIO()
    with Image.open(png) as image:
        image.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()


def rate_quality(rows: pl.DataFrame, lines: Mapping[str, pl.DataFrame], *, band: bool) -> bytes:
    """Draw VMAF over bitrate: the band of all clips, and some clips' curves on top.

    Args:
        rows: of one recipe, at two CRFs or more.
        lines: by letter, the rows of a clip that is drawn on its own.
        band: whether the band is drawn.
    """
    with _canvas(4.2) as canvas:
        axes = canvas.figure.subplots()
        if band:
            _draw_band(axes, rows)
        for index, (letter, line) in enumerate(lines.items()):
            ordered = line.sort("crf")
            axes.plot(
                ordered["bitrate_kbps"].to_numpy(),
                ordered["vmaf_score"].to_numpy(),
                _LINE_STYLES[index // len(_CLIP_COLOURS)],
                color=_CLIP_COLOURS[index % len(_CLIP_COLOURS)],
                marker="o",
                markersize=3.5,
                linewidth=1.4,
                label=letter,
            )
        _logarithmic(axes)
        axes.set(xlabel=_BITRATE, ylabel=_VMAF)
        if lines:
            canvas.figure.legend(loc="outside right upper")
    return canvas.png


def _draw_band(axes: Axes, rows: pl.DataFrame) -> None:
    rate, quality = quantiles_by_crf(rows, "bitrate_kbps"), quantiles_by_crf(rows, "vmaf_score")
    # The band is a curve over bitrate, and bitrate rises as CRF falls.
    at = rate["q50"].to_numpy()
    axes.fill_between(at, quality["q10"].to_numpy(), quality["q90"].to_numpy(), color=_GREY, alpha=0.2, linewidth=0)
    axes.hlines(quality["q50"].to_numpy(), rate["q10"].to_numpy(), rate["q90"].to_numpy(), color=_GREY, linewidth=0.8)
    axes.plot(at, quality["q50"].to_numpy(), color=_BLACK, marker="o", linewidth=2, label="median")
    for index in _labelled(len(rate)):
        place = (at[index], quality["q50"][index])
        axes.annotate(f"CRF {rate['crf'][index]}", place, (5, -11), textcoords="offset points", fontsize=8)


def _labelled(number: int) -> range:
    """Return the positions of those of some CRFs whose numbers have room."""
    return range(0, number, math.ceil(number / _MOST_LABELS))


def _logarithmic(axes: Axes) -> None:
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    decades = math.log10(high / low)
    # Few enough numbers not to touch, and some even where no power of ten is near.
    subs = (1, 2, 5) if decades < 2 else (1, 3) if decades < 4 else (1,)
    axes.xaxis.set_major_locator(MaxNLocator(5) if decades < 0.7 else LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.7g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def vmaf_by_crf(rows: pl.DataFrame) -> bytes:
    """Draw how VMAF is distributed at each CRF."""
    with _canvas(3.6) as canvas:
        axes = canvas.figure.subplots()
        _draw_boxes(axes, rows, "vmaf_score")
        axes.set(xlabel="CRF", ylabel=_VMAF)
    return canvas.png


def features_by_crf(rows: pl.DataFrame) -> bytes:
    """Draw how each of the canonical-6 is distributed at each CRF."""
    with _canvas(4.4) as canvas:
        panels = canvas.figure.subplots(2, 3).flat
        for axes, feature in zip(panels, CANONICAL6_FEATURES, strict=True):
            _draw_boxes(axes, rows, f"{feature}_mean")
            axes.set_title(feature)
        canvas.figure.supxlabel("CRF", fontsize=9)
        canvas.figure.supylabel("mean over frames (no unit; motion2 in 8-bit steps)", fontsize=9)
    return canvas.png


def _draw_boxes(axes: Axes, rows: pl.DataFrame, column: str) -> None:
    levels = quantiles_by_crf(rows, column)
    values_by_crf = rows.select("crf", column).partition_by("crf", as_dict=True)
    for position, level in enumerate(levels.iter_rows(named=True)):
        values = values_by_crf[level["crf"],][column].to_numpy()
        has_box = len(values) >= FEWEST_BOXED
        if has_box:
            _draw_box(axes, position, level)
        if len(values) > _MOST_POINTS:
            _draw_density(axes, position + 0.22, values)
        else:
            at = np.full(len(values), position + 0.32 * has_box)
            axes.plot(at, values, "o", color=_ORANGE, markersize=3.5, alpha=0.6)
    labelled = _labelled(len(levels))
    axes.set_xticks(labelled, [str(levels["crf"][index]) for index in labelled])
    axes.set_xlim(-0.5, len(levels) - 0.3)
    axes.grid(visible=False, axis="x")


def _draw_box(axes: Axes, at: float, level: Mapping[str, float]) -> None:
    ends = {"whislo": "q5", "q1": "q25", "med": "q50", "q3": "q75", "whishi": "q95"}
    axes.bxp(
        [{part: level[quantile] for part, quantile in ends.items()}],
        positions=[at],
        widths=0.34,
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": "#cfe3f1", "edgecolor": _BLUE},
        medianprops={"color": _BLACK, "linewidth": 1.4},
        whiskerprops={"color": _BLUE},
        capprops={"color": _BLUE},
        manage_ticks=False,
    )


def _draw_density(axes: Axes, at: float, values: npt.NDArray[np.float64]) -> None:
    counts, edges = np.histogram(values, 60)
    axes.stairs(
        at + 0.42 * counts / counts.max(),
        edges,
        baseline=at,
        orientation="horizontal",
        fill=True,
        color=_ORANGE,
        alpha=0.5,
    )


def correlation_map(matrix: npt.NDArray[np.float64]) -> bytes:
    """Draw the correlations of VMAF and the canonical-6."""
    names = ("VMAF", *CANONICAL6_FEATURES)
    with _canvas(4.4) as canvas:
        axes = canvas.figure.subplots()
        shown = axes.imshow(matrix, cmap=colormaps["PuOr"], vmin=-1, vmax=1)
        axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        axes.grid(visible=False)
        for row, column in np.ndindex(*matrix.shape):
            value = matrix[row, column]
            axes.text(
                column,
                row,
                f"{value:.2f}" if math.isfinite(value) else "none",
                ha="center",
                va="center",
                color="white" if abs(value) > 0.6 else "black",
                fontsize=8,
            )
        canvas.figure.colorbar(shown, label="Spearman's correlation (-1 to 1)", shrink=0.9)
    return canvas.png


def mos_against_vmaf(rows: pl.DataFrame, agreements: Sequence[Agreement]) -> bytes:
    """Draw MOS over VMAF, one panel for each CRF.

    Args:
        rows: with a MOS each.
        agreements: of the CRFs to draw, at least one and at most ``MOST_PANELS``.
    """
    columns = min(3, len(agreements))
    lines = math.ceil(len(agreements) / columns)
    with _canvas(0.7 + 2.1 * lines) as canvas:
        panels = canvas.figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        norm = LogNorm(vmin=1, vmax=2)
        clouds = []
        for index, (axes, agreement) in enumerate(zip(panels.flat, agreements, strict=False)):
            cell = rows.filter(pl.col("crf") == agreement.crf)
            clouds += _draw_cloud(axes, cell, norm, within=rows)
            axes.tick_params(labelbottom=index + columns >= len(agreements))
            srocc = "no SROCC" if agreement.srocc is None else f"SROCC {agreement.srocc:.2f}"
            axes.set_title(f"CRF {agreement.crf}: {srocc}")
        for axes in panels.flat[len(agreements) :]:
            axes.set_axis_off()
        if clouds:
            norm.vmax = max(2, *(float(np.asarray(cloud.get_array()).max()) for cloud in clouds))
            plain = FuncFormatter(lambda value, _: f"{value:,.0f}")
            canvas.figure.colorbar(clouds[0], ax=panels, label="clips (logarithmic)", shrink=0.9, format=plain)
        canvas.figure.supxlabel(_VMAF, fontsize=9)
        canvas.figure.supylabel("MOS of the upload (its dataset's scale)", fontsize=9)
    return canvas.png


def _draw_cloud(axes: Axes, cell: pl.DataFrame, norm: LogNorm, *, within: pl.DataFrame) -> list[PolyCollection]:
    """Draw a dot for each clip, or hexagons that are as large in every panel when there are many."""
    vmaf, mos = cell["vmaf_score"].to_numpy(), cell["nr_mos"].to_numpy()
    if len(cell) <= _MOST_DOTS:
        size = 5 if len(cell) <= _MOST_POINTS else 3
        axes.plot(vmaf, mos, "o", color=_BLUE, markersize=size, alpha=0.6, markeredgewidth=0)
        return []
    low_vmaf, high_vmaf, low_mos, high_mos = within.select(
        *(bound for name in ("vmaf_score", "nr_mos") for bound in (pl.min(name), pl.max(name).alias(f"high {name}")))
    ).row(0)
    extent = (low_vmaf, max(high_vmaf, low_vmaf + 1), low_mos, max(high_mos, low_mos + 1))
    return [
        axes.hexbin(vmaf, mos, gridsize=(36, 22), extent=extent, mincnt=1, norm=norm, cmap="viridis", linewidths=0.1)
    ]


def bars(panels: Mapping[str, Sequence[Count]]) -> bytes:
    """Draw numbers of clips by kind, one panel for each title."""
    longest = max(map(len, panels.values()))
    with _canvas(1.2 + 0.24 * longest) as canvas:
        for axes, (title, counts) in zip(canvas.figure.subplots(1, len(panels)), panels.items(), strict=True):
            drawn = axes.barh(range(len(counts)), [count.clips for count in counts], color=_BLUE, height=0.7)
            axes.bar_label(drawn, [f"{count.clips:,}" for count in counts], padding=2, fontsize=8)
            axes.set_yticks(range(len(counts)), [count.kind for count in counts])
            # As high as the bars of the panel with the most of them.
            axes.set_ylim(longest - 0.4, -0.6)
            axes.set_title(title)
            axes.grid(visible=False, axis="y")
            axes.margins(x=0.3)
            axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.set_xlabel("clips")
    return canvas.png
