"""What is wrong with a table, if anything. Each rule is a pure function; checks and publication share them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa

from frnr_assets.corpus.schema import FEATURE_MEANS, FEATURE_STDS, MIXED_ROW_SCHEMA, ROW_SCHEMA
from frnr_assets.vocabulary import CANONICAL6_FEATURES, FEATURE_LIMITS, FULL_CLIP, UHD_LINES

_EXAMPLES = 10

# What a row is one of: two of the same are one too many.
CELL: Final = ("src_sha256", "encoder", "preset", "crf")
# What recipes_mixed looks at.
MADE_WITH: Final = (
    "encoder",
    "preset",
    "encoder_version",
    "extra_params",
    "ffmpeg_version",
    "vmaf_model",
    "vmaf_binary_version",
    "clip_mode",
    "duration_s",
    "height",
)
_SCORES = ("vmaf_score", *FEATURE_MEANS, *FEATURE_STDS)
_OTHER_VALUES = tuple(
    field.name for field in ROW_SCHEMA if pa.types.is_floating(field.type) and field.name not in {*_SCORES, "nr_mos"}
)
# What values_implausible looks at.
JUDGED_VALUES: Final = (*_SCORES, *_OTHER_VALUES, "exit_status")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        problem: one sentence.
        clips: keys of the clips concerned, the first of them when there are many.
        count: how many rows or clips are concerned.
    """

    problem: str
    clips: tuple[str, ...]
    count: int

    def __str__(self) -> str:
        if not self.clips:
            return self.problem
        more = " ..." if self.count > len(self.clips) else ""
        return f"{self.problem} ({self.count}): {', '.join(self.clips)}{more}"


def merged(found: Iterable[Finding]) -> list[Finding]:
    """Put the findings of several files together, those of one problem into one."""
    by_problem: dict[str, list[Finding]] = {}
    for finding in found:
        by_problem.setdefault(finding.problem, []).append(finding)
    return [
        Finding(
            problem, tuple(clip for each in same for clip in each.clips)[:_EXAMPLES], sum(each.count for each in same)
        )
        for problem, same in by_problem.items()
    ]


def _concerning(problem: str, clips: Iterable[str]) -> list[Finding]:
    keys = list(clips)
    return [Finding(problem, tuple(keys[:_EXAMPLES]), len(keys))] if keys else []


def _where(frame: pl.DataFrame, condition: pl.Expr, problem: str, label: str = "clip") -> list[Finding]:
    return _concerning(problem, frame.filter(condition)[label].to_list())


def _unless(frame: pl.DataFrame, fine: pl.Expr, problem: str, label: str = "clip") -> list[Finding]:
    """Find the rows of which a condition is not known to be true: a null is never fine."""
    return _where(frame, ~fine.fill_null(value=False), problem, label)


def schema_differs(found: pa.Schema, expected: pa.Schema) -> list[Finding]:
    """Compare names, order, types and nullability; metadata may differ."""
    if found.equals(expected, check_metadata=False):
        return []
    problems = [f"column {name} is missing" for name in expected.names if name not in found.names]
    problems += [f"column {name} is not in the schema" for name in found.names if name not in expected.names]
    for name in set(found.names) & set(expected.names):
        if len(found.get_all_field_indices(name)) > 1:
            problems.append(f"column {name} is there more than once")
            continue
        is_, should = found.field(name), expected.field(name)
        if (is_.type, is_.nullable) != (should.type, should.nullable):
            problems.append(f"column {name} is {_describe(is_)}, not {_describe(should)}")
    return [Finding(problem, (), 1) for problem in sorted(problems) or ["the columns are in another order"]]


def _describe(field: "pa.Field[pa.DataType]") -> str:
    return f"{field.type}{'' if field.nullable else ' not null'}"


def duplicate_keys(manifest: pl.DataFrame) -> list[Finding]:
    """Two manifest rows that would be the same partition."""
    repeated = manifest.filter(pl.col("clip").is_duplicated())
    return _concerning("clip key used twice", repeated["clip"].unique(maintain_order=True).to_list())


def mos_implausible(
    frame: pl.DataFrame, scale: tuple[float, float], column: str = "mos", label: str = "clip"
) -> list[Finding]:
    """MOS that are not finite or not within a scale (both ends included). Null is fine."""
    mos = pl.col(column)
    outside = f"MOS is not within the declared scale {scale[0]:g} to {scale[1]:g}"
    return [
        *_where(frame, mos.is_not_null() & ~mos.is_finite(), "MOS is not finite", label),
        *_where(frame, mos.is_finite() & ~mos.is_between(*scale), outside, label),
    ]


def rows_rejected(rejects: pl.DataFrame) -> list[Finding]:
    """Rows of the manifests that are no clips, by kind of reason, the most frequent first, with the first reason."""
    kinds = (
        rejects.group_by("kind", maintain_order=True)
        .agg(pl.col("manifest", "line", "reason").first(), pl.len())
        .sort("len", descending=True)
    )
    return [
        Finding(f"{number} rows rejected, {kind}; first {manifest}, line {line}: {reason}", (), number)
        for kind, manifest, line, reason, number in kinds.iter_rows()
    ]


def clip_count_differs(clips: pl.DataFrame, rejects: pl.DataFrame, expected: Mapping[str, int | None]) -> list[Finding]:
    """Datasets whose manifests have another number of rows than they were declared to have clips."""
    # A clip that keeps its values although its row is rejected now is in both.
    place = ("dataset", "manifest", "line")
    rows = Counter(pl.concat([clips.select(place), rejects.select(place)]).unique()["dataset"])
    return [
        Finding(f"{dataset} has {rows[dataset]} rows where {number} are expected; is it another dataset?", (), 1)
        for dataset, number in expected.items()
        if number is not None and rows[dataset] != number
    ]


def downloads_failing(downloads: pl.DataFrame, limit: float) -> list[Finding]:
    """More downloads that failed than a fraction of all allows."""
    failed = downloads.filter(pl.col("failure").is_not_null())
    if len(failed) <= limit * len(downloads):
        return []
    share = f"{len(failed)} of {len(downloads)} downloads failed, more than {limit:.0%}"
    first = failed.row(0, named=True)
    return [Finding(f"{share}; first {first['url']}: {first['failure']}", (), len(failed))]


def sources_missing(manifest: pl.DataFrame) -> list[Finding]:
    """Sources that are not regular files."""
    rows = manifest.select("clip", "src").iter_rows()
    return _concerning("source is not a file", (clip for clip, src in rows if not Path(src).is_file()))


def reference_implausible(references: pl.DataFrame) -> list[Finding]:
    """Facts that contradict each other, among the clips that are not in quarantine."""
    usable = references.filter(pl.col("quarantine_reason").is_null())
    rate = pl.col("rate_num") / pl.col("rate_den")
    return [
        *_unless(usable, pl.col("frames") > 0, "reference has no frame"),
        *_unless(usable, rate.is_between(1, 240), "frame rate is not within 1 to 240 per second"),
        *_unless(
            usable,
            (pl.col("source_width") - pl.col("width")).is_between(0, 1)
            & (pl.col("source_height") - pl.col("height")).is_between(0, 1),
            "working size is not the source's size cropped by at most one pixel",
        ),
        *_unless(usable, pl.col("src_sha256").str.contains("^[0-9a-f]{64}$"), "SHA-256 is not one"),
    ]


def not_from_nr(rows: pl.DataFrame, label: str = "clip") -> list[Finding]:
    """Rows whose fr_from_nr is not true."""
    return _unless(rows, pl.col("fr_from_nr"), "fr_from_nr is not true", label)


def sources_inconsistent(rows: pl.DataFrame, label: str = "clip") -> list[Finding]:
    """Rows whose nr_source is not their src."""
    return _unless(rows, pl.col("src") == pl.col("nr_source"), "nr_source is not src", label)


def quarantined(quarantine: pl.DataFrame) -> list[Finding]:
    """Clips that cannot be used, by what stands before the colon of their reason, the most frequent first."""
    kinds = (
        quarantine.group_by(kind=pl.col("quarantine_reason").str.split(": ").list.first())
        .agg(pl.col("clip").sort(), pl.col("quarantine_reason").sort_by("clip"))
        .sort(pl.col("clip").list.len(), "kind", descending=[True, False])
    )
    return [
        finding
        for _, clips, reasons in kinds.iter_rows()
        for finding in _concerning(
            f"in quarantine, {'the first ' if len(set(reasons)) > 1 else ''}because {reasons[0]}", clips
        )
    ]


def row_count_differs(rows: pl.DataFrame, published: int) -> list[Finding]:
    """A corpus that does not have as many rows as were published."""
    return [] if len(rows) == published else [Finding(f"{len(rows)} rows are there, {published} were published", (), 1)]


def values_implausible(rows: pl.DataFrame, label: str = "clip") -> list[Finding]:
    """Scores that are missing, not finite or out of range."""
    vmaf = pl.col("vmaf_score")
    findings = _unless(rows, vmaf.is_finite() & vmaf.is_between(0, 100), "VMAF is not in 0..100", label)
    for mean, std, feature in zip(FEATURE_MEANS, FEATURE_STDS, CANONICAL6_FEATURES, strict=True):
        limit = FEATURE_LIMITS[feature]
        fine = [pl.col(name).is_finite() & pl.col(name).is_between(0, limit) for name in (mean, std)]
        findings += _unless(rows, fine[0] & fine[1], f"{feature} is not finite and within 0..{limit:g}", label)
    for name in _OTHER_VALUES:
        findings += _unless(rows, pl.col(name).is_finite(), f"{name} is not finite", label)
    return findings + _unless(rows, pl.col("exit_status") == 0, "exit_status is not 0", label)


def cells_repeated(rows: pl.DataFrame, label: str = "clip") -> list[Finding]:
    """More than one row for a source at one CRF, encoder and preset."""
    cell = pl.struct(CELL)
    return _concerning(
        "more than one row for a (src_sha256, encoder, preset, crf)",
        rows.filter(cell.is_duplicated())[label].unique(maintain_order=True).to_list(),
    )


def sweeps_incomplete(rows: pl.DataFrame, sweep: Sequence[int], label: str = "clip") -> list[Finding]:
    """Sources that lack some CRF of the sweep."""
    have = rows.group_by(label, "encoder", "preset").agg(pl.col("crf").unique())
    missing = have.filter(pl.lit(list(sweep)).list.set_difference(pl.col("crf")).list.len() > 0)
    return _concerning("sweep is not complete", missing[label].unique().sort().to_list())


def clips_without_rows(manifest: pl.DataFrame, references: pl.DataFrame, rows: pl.DataFrame) -> list[Finding]:
    """Clips of the manifest, those in quarantine left out, whose source has no row at all."""
    set_aside = references.filter(pl.col("quarantine_reason").is_not_null())
    wanted = manifest.join(set_aside, on="clip", how="anti").select("clip")
    decoded = wanted.join(references.select("clip", "src_sha256"), on="clip", how="left")
    without = decoded.join(rows.select("src_sha256").unique(), on="src_sha256", how="anti")
    return _concerning("clip has no row", without["clip"].sort().to_list())


def recipes_mixed(rows: pl.DataFrame) -> list[Finding]:
    """Rows of one encoder and preset that were made with different versions, models or parameters.

    That larger frames have another model, and that clips shorter than a sample are taken whole, is one recipe.
    """
    by = ("encoder", "preset")
    sample_s = pl.col("clip_mode").str.extract(r"^sample_(.+)s$").cast(pl.Float64).max().over(by)
    shorter = (pl.col("clip_mode") == FULL_CLIP) & (pl.col("duration_s") <= sample_s)
    is_uhd = pl.col("height") >= UHD_LINES
    made_with = {
        **{name: pl.col(name).n_unique() for name in ("encoder_version", "extra_params", "ffmpeg_version")},
        "vmaf_model": pl.max_horizontal(pl.col("vmaf_model").filter(size).n_unique() for size in (is_uhd, ~is_uhd)),
        "vmaf_binary_version": pl.col("vmaf_binary_version").n_unique(),
        "clip_mode": pl.col("clip_mode").filter(~pl.col("shorter").fill_null(value=False)).n_unique(),
    }
    varied = rows.with_columns(shorter=shorter).group_by(by).agg(**made_with)
    return [
        Finding(f"rows of {encoder} {preset} differ in {name}", (), number)
        for encoder, preset, *numbers in varied.sort(by).iter_rows()
        for name, number in zip(made_with, numbers, strict=True)
        if number > 1
    ]


def quality_rises(rows: pl.DataFrame, label: str = "clip") -> list[Finding]:
    """Sources whose VMAF is higher at a higher CRF."""
    ordered = rows.sort(label, "encoder", "preset", "crf")
    step = pl.col("vmaf_score").diff().over(label, "encoder", "preset")
    return _concerning("VMAF rises with CRF", ordered.filter(step > 0)[label].unique(maintain_order=True).to_list())


def row_errors(
    schema: pa.Schema, rows: pl.DataFrame, *, published: int, mos_scale: tuple[float, float]
) -> list[Finding]:
    """Everything that forbids the publication of a file of a corpus."""
    wrong_schema = schema_differs(schema, ROW_SCHEMA)
    if wrong_schema:
        return wrong_schema
    return [
        *row_count_differs(rows, published),
        *not_from_nr(rows, "src"),
        *sources_inconsistent(rows, "src"),
        *values_implausible(rows, "src"),
        *mos_implausible(rows, mos_scale, "nr_mos", "src"),
        *cells_repeated(rows, "src"),
    ]


def provenance_contradictory(rows: pl.DataFrame, label: str = "src") -> list[Finding]:
    """Rows that do not agree with themselves on whether they were made from an upload."""
    from_nr = pl.col("fr_from_nr")
    mastered = ~from_nr & pl.col("nr_source").is_null() & pl.col("nr_mos").is_null()
    problem = "nr_source and nr_mos do not fit fr_from_nr"
    return _unless(rows, (from_nr & (pl.col("src") == pl.col("nr_source"))) | mastered, problem, label)


def strata_missing(rows: pl.DataFrame) -> list[Finding]:
    """A mixed corpus without rows from uploads, or without rows of mastered sets."""
    found = set(rows["fr_from_nr"])
    return [
        Finding(f"there is no row whose fr_from_nr is {str(stratum).lower()}", (), 1)
        for stratum in (True, False)
        if stratum not in found
    ]


def sources_in_both(rows: pl.DataFrame) -> list[Finding]:
    """Sources, by path or content, that are an upload in some rows and a master in others."""
    strata = [
        rows.filter(pl.col(key) != "").filter(pl.col("fr_from_nr").n_unique().over(key) > 1)["src"]
        for key in ("src", "src_sha256")
    ]
    return _concerning("source is both an upload and a master", pl.concat(strata).unique().sort().to_list())


def sources_in_two_datasets(rows: pl.DataFrame) -> list[Finding]:
    """Paths of sources that rows of several datasets have."""
    several = rows.filter(pl.col("dataset").n_unique().over("src") > 1)
    return _concerning("src is in several datasets; give each source a path of its own", several["src"].unique().sort())


def mixed_errors(
    schema: pa.Schema, rows: pl.DataFrame, *, published: int, mos_scale: tuple[float, float]
) -> list[Finding]:
    """Everything that forbids the publication of a file of a mixed corpus."""
    wrong_schema = schema_differs(schema, MIXED_ROW_SCHEMA)
    if wrong_schema:
        return wrong_schema
    return [
        *row_count_differs(rows, published),
        *provenance_contradictory(rows),
        *values_implausible(rows, "src"),
        *mos_implausible(rows, mos_scale, "nr_mos", "src"),
        *cells_repeated(rows.filter("fr_from_nr"), "src"),
    ]


def mixed_errors_across(rows: pl.DataFrame) -> list[Finding]:
    """Everything about its sources that forbids the publication of a mixed corpus."""
    return [*strata_missing(rows), *sources_in_both(rows)]
