"""What a report says of a corpus, and of what is not there."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from string import ascii_uppercase

import polars as pl

from frnr_assets.report import draw
from frnr_assets.report.parts import Chapter, Picture, Report, Section, Table
from frnr_assets.report.summary import (
    CORRELATED,
    FEWEST_CORRELATED,
    Agreement,
    agreement_with_mos,
    correlations,
    durations,
    frame_rates,
    quantiles_by_crf,
    quarantine_reasons,
    rising_steps,
    sizes,
    spread,
)

# So few clips are all drawn, each on its own; beyond, as a band.
FEW_CLIPS = 8
_MOST_ROWS = 20
_MOST_DRAWN_DATASETS = 3
_LETTERS = (*ascii_uppercase,)[: draw.MOST_LINES]
MOST_SHOWN_CLIPS = len(_LETTERS)
_RECIPE = ("encoder", "preset")
_BAND = (
    "Black: the median; band: from 10 to 90 % of the clips' VMAF at each CRF, at their median bitrate; grey lines: "
    "from 10 to 90 % of their bitrates."
)
_CURVES = "Each curve with a letter is a clip, named below."
_HOW_TO_SEE_CURVES = "Clips named in the run's configuration (shown_clips) are drawn on top."
_MOS = (
    "A MOS rates the upload itself; VMAF compares an encode with that upload, whatever its quality. The reference is a "
    "re-decoded upload, not a master, so neither is a measure of the other, and a low correlation is no fault."
)
_CELL = "One value for each clip at each CRF."
_BOXES = (
    f"Box, from {draw.FEWEST_BOXED} clips on: their middle half, with the median; its lines: from 5 to 95 % of them. "
    "Beside it every clip as a dot, or how dense they are."
)


def report_of(rows: pl.DataFrame, quarantine: pl.DataFrame, shown_clips: Sequence[str], version: str) -> Report:
    """Make the report of a corpus.

    Args:
        rows: at least one row, with the columns of ``CORPUS_COLUMNS``, ``clip`` and ``dataset``.
        quarantine: ``clip`` and ``quarantine_reason`` of the clips that cannot be used.
        shown_clips: keys of the clips whose curves are drawn on their own, at most ``MOST_SHOWN_CLIPS``.
        version: name of the published version.
    """
    recipes = rows.partition_by(_RECIPE, maintain_order=True)
    recipes.sort(key=len, reverse=True)
    clips = rows.unique("src_sha256").sort("clip")
    facts = {
        "version": version,
        "rows": f"{len(rows):,}",
        "clips": f"{len(clips):,}",
        "clips with a MOS": f"{clips['nr_mos'].count():,}",
        "clips in quarantine": f"{len(quarantine):,}",
        "recipes": "; ".join(map(_recipe_name, recipes)),
        "CRFs": ", ".join(map(str, rows["crf"].unique().sort())),
        "VMAF models": ", ".join(rows["vmaf_model"].unique().sort()),
    }
    return Report(
        facts=Table(("corpus", ""), tuple(facts.items())),
        chapters=[
            *(Chapter(_recipe_name(recipe), _recipe_sections(recipe, shown_clips)) for recipe in recipes),
            Chapter("The clips", [_mix(clips), _quarantine(quarantine)]),
        ],
        numbers={
            "rows": len(rows),
            "clips": len(clips),
            "clips with a MOS": clips["nr_mos"].count(),
            "clips in quarantine": len(quarantine),
            "clips whose VMAF rises with CRF": len(
                {clip for recipe in recipes for clip in rising_steps(recipe)["clip"]}
            ),
            **{
                f"SROCC of VMAF and MOS, {name}, CRF {found.crf}": found.srocc
                for name, rated in _rated(recipes[0]).items()
                for found in agreement_with_mos(rated)
                if found.srocc is not None
            },
        },
    )


def _recipe_name(recipe: pl.DataFrame) -> str:
    return " ".join(recipe.select(_RECIPE).row(0))


def _recipe_sections(rows: pl.DataFrame, shown_clips: Sequence[str]) -> list[Section]:
    return [
        _rate_quality(rows, shown_clips),
        _vmaf(rows),
        _features(rows),
        _correlations(rows),
        _mos(rows),
        _rising(rows),
    ]


def _rate_quality(rows: pl.DataFrame, shown_clips: Sequence[str]) -> Section:
    title = "VMAF over bitrate"
    if rows["crf"].n_unique() == 1:
        return Section(title, [f"All rows have CRF {rows['crf'][0]}: there are no curves to draw."])
    clips = rows["clip"].unique().sort()
    few = len(clips) <= FEW_CLIPS
    drawn = [clip for clip in shown_clips if clip in clips] or (list(clips) if few else [])
    by_clip = rows.filter(pl.col("clip").is_in(drawn)).partition_by("clip", as_dict=True)
    lines = {letter: by_clip[clip,] for letter, clip in zip(_LETTERS, drawn, strict=False)}
    caption = _CURVES if lines else _HOW_TO_SEE_CURVES
    if not few:
        caption = f"{_BAND} {caption}"
    picture = Picture(partial(draw.rate_quality, rows, lines, band=not few), title, caption)
    return Section(title, pictures=[picture], tables=[_named(lines)] if lines else [])


def _named(lines: Mapping[str, pl.DataFrame]) -> Table:
    named = []
    for letter, line in lines.items():
        measured = (line["bitrate_kbps"], line["vmaf_score"])
        spans = (f"{_rounded(min(values))} to {_rounded(max(values))}" for values in measured)
        named.append((letter, line["clip"][0], *spans))
    return Table(("curve", "clip", "kbit/s", "VMAF"), named)


def _vmaf(rows: pl.DataFrame) -> Section:
    rate, quality = quantiles_by_crf(rows, "bitrate_kbps"), quantiles_by_crf(rows, "vmaf_score")
    levels = rate.select("crf", "clips", rate="q50").join(quality.select("crf", "q10", "q50", "q90"), on="crf")
    cells = [(str(crf), f"{clips:,}", *map(_rounded, values)) for crf, clips, *values in levels.sort("crf").iter_rows()]
    several = rows["clip"].n_unique() > 1
    picture = Picture(partial(draw.vmaf_by_crf, rows), "how VMAF is distributed at each CRF", f"{_CELL} {_BOXES}")
    return Section(
        "VMAF at each CRF",
        [] if several else ["One clip only: there is no distribution to draw."],
        [picture] if several else [],
        [Table(("CRF", "clips", "median kbit/s", "VMAF: 10 %", "median", "90 %"), cells)],
    )


def _features(rows: pl.DataFrame) -> Section:
    title = "Canonical-6 features"
    if rows["clip"].n_unique() == 1:
        return Section(title, ["One clip only: there is no distribution to draw."])
    picture = Picture(partial(draw.features_by_crf, rows), "how each feature is distributed at each CRF", _BOXES)
    return Section(title, pictures=[picture])


def _correlations(rows: pl.DataFrame) -> Section:
    title = "Correlations of VMAF and features"
    matrix = correlations(rows)
    if matrix is None:
        return Section(title, [f"There are fewer than {FEWEST_CORRELATED} rows: nothing to correlate."])
    constant = [name for name in CORRELATED if rows[name].n_unique() == 1]
    words = [f"The same in all rows, so that it correlates with nothing: {', '.join(constant)}."] if constant else []
    if len(constant) >= len(CORRELATED) - 1:
        return Section(title, words)
    caption = (
        "Rank correlations (Spearman) over all clips and CRFs together, so that much of them is what CRF does to both."
    )
    drawing = partial(draw.correlation_map, matrix)
    return Section(title, words, [Picture(drawing, "correlations of VMAF and features", caption)])


def _mos(rows: pl.DataFrame) -> Section:
    title = "MOS and VMAF"
    datasets = _rated(rows)
    if not datasets:
        return Section(title, ["No clip has a MOS: there is nothing to compare VMAF with."])
    found = {name: agreement_with_mos(rated) for name, rated in datasets.items()}
    cells = [
        (name, str(at.crf), f"{at.clips:,}", _correlation(at.srocc), _correlation(at.plcc))
        for name, agreements in found.items()
        for at in agreements
    ]
    numbers = Table(("dataset", "CRF", "clips with a MOS", "SROCC", "PLCC"), cells)
    enough = [name for name in found if max(at.clips for at in found[name]) >= FEWEST_CORRELATED]
    if not enough:
        too_few = f"No dataset has {FEWEST_CORRELATED} clips with a MOS or more: nothing to correlate."
        return Section(title, [too_few], [], [numbers])
    pictures = [
        Picture(
            partial(draw.mos_against_vmaf, datasets[name], _some_crfs(found[name])),
            "MOS over VMAF at each CRF",
            f"Dataset {name}. {_MOS}",
        )
        for name in enough[:_MOST_DRAWN_DATASETS]
    ]
    words = (
        [] if len(enough) == len(pictures) else [f"Drawn are the {len(pictures)} largest of {len(enough)} datasets."]
    )
    return Section(title, words, pictures, [numbers])


def _rated(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Return the rows that have a MOS by dataset, for each has a scale of its own; the one with the most rows first."""
    datasets = rows.filter(pl.col("nr_mos").is_not_null()).sort("dataset").partition_by("dataset", maintain_order=True)
    return {rated["dataset"][0]: rated for rated in sorted(datasets, key=len, reverse=True)}


def _some_crfs(agreements: Sequence[Agreement]) -> list[Agreement]:
    crfs = spread([found.crf for found in agreements], draw.MOST_PANELS)
    return [found for found in agreements if found.crf in crfs]


def _correlation(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def _rising(rows: pl.DataFrame) -> Section:
    title = "Curves that are not monotone"
    if rows["crf"].n_unique() == 1:
        return Section(title, [f"All rows have CRF {rows['crf'][0]}: there are no curves."])
    steps = rising_steps(rows)
    clips, of = steps["clip"].n_unique(), rows["clip"].n_unique()
    if not clips:
        return Section(title, [f"VMAF rises with CRF in none of {of:,} clips."])
    words = [f"VMAF rises with CRF in {clips:,} of {of:,} clips; it happens with static or very dark ones."]
    if len(steps) > _MOST_ROWS:
        words.append(f"The {_MOST_ROWS} highest of {len(steps):,} rises:")
    shown = [
        (clip, f"{before} to {crf}", f"+{rise:.3f}") for clip, before, crf, rise in steps.head(_MOST_ROWS).iter_rows()
    ]
    return Section(title, words, [], [Table(("clip", "CRF", "VMAF"), shown)])


def _mix(clips: pl.DataFrame) -> Section:
    title = "Sizes, frame rates and durations"
    size, rate, duration = sizes(clips), frame_rates(clips), durations(clips)
    if len(clips) == 1:
        words = f"One clip: {size[0].kind} pixels, {rate[0].kind} frames/s, {clips['duration_s'][0]:.2f} s."
        return Section(title, [words])
    panels = {"working size (pixels)": size, "frame rate (frames/s)": rate, "duration (s)": duration}
    drawing = partial(draw.bars, panels)
    return Section(title, [], [Picture(drawing, "clips by size, frame rate and duration", "Each clip once.")])


def _quarantine(quarantine: pl.DataFrame) -> Section:
    title = "Quarantine"
    if quarantine.is_empty():
        return Section(title, ["No clip is in quarantine."])
    reasons = quarantine_reasons(quarantine)
    words = [f"Not usable: {len(quarantine):,}. Numbers in reasons are written as N: like ones count together."]
    if len(reasons) > _MOST_ROWS:
        words.append(f"The {_MOST_ROWS} most frequent of {len(reasons):,} reasons:")
    frequent = reasons.head(_MOST_ROWS)
    shown = [(reason, clip, f"{clips:,}") for reason, clips, clip in frequent.iter_rows()]
    shares = (frequent["clips"] / reasons["clips"].max()).to_list()
    return Section(title, words, [], [Table(("reason", "first clip", "clips"), shown, shares)])


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if math.fabs(value) >= 1000 else f"{value:,.1f}"
