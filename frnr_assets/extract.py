"""A manifest in, one file of rows out, without Dagster: resumable, on all cores."""

import os
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TextIO

import polars as pl
from tqdm import tqdm

from frnr_assets.corpus.backlog import Backlog, backlog
from frnr_assets.corpus.dataset import Dataset
from frnr_assets.corpus.export import export, export_frame_scores, write_json_lines
from frnr_assets.corpus.ingest import ingest
from frnr_assets.corpus.keys import source_key
from frnr_assets.corpus.locks import locked
from frnr_assets.corpus.store import write_parquet
from frnr_assets.corpus.tables import Tables
from frnr_assets.engine.batch import Engine
from frnr_assets.engine.clips import measure_clips
from frnr_assets.engine.outcomes import CellDone, CellOutcome, CellQuarantined, Clip, ReferenceDone, ReferenceFailed
from frnr_assets.engine.rows import current_identities
from frnr_assets.engine.workshop import compute_on, open_engine
from frnr_assets.media.sweep import CellFailed
from frnr_assets.settings import Settings
from frnr_assets.vocabulary import extra_columns

# Those of the K150K runbook, when neither frnr.toml nor a flag says otherwise.
SCRATCH_DIR, ENCODE_DIR = Path(".workingdir2/k150k-scratch"), Path(".workingdir2/k150k-encodes")

# Seconds between two looks of the progress bar: on a terminal, and in a log file.
_TERMINAL_INTERVAL_S, _LOG_INTERVAL_S = 0.5, 30.0
# tqdm's own, with rows per second also where that is less than one.
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"


@dataclass(frozen=True)
class Extraction:
    """What an extraction has come to.

    Attributes:
        rows: rows in the output.
        rows_with_mos: those of them whose clip has a MOS.
        failures: rows of the manifest, clips and cells that came to nothing.
        set_aside: clips among them that an earlier run found unusable, and that were not tried again.
        damaged: clips with rows whose damage was concealed.
        interrupted: whether it was stopped before its end.
        output: the file of rows.
        failures_file: the file of failures; there is none without a failure.
    """

    rows: int
    rows_with_mos: int
    failures: int
    set_aside: int
    damaged: tuple[str, ...]
    interrupted: bool
    output: Path
    failures_file: Path


def extract(dataset: Dataset, output: Path, settings: Settings, *, retry_quarantined: bool = False) -> Extraction:
    """Make the rows of all clips of a dataset, and write them to one file, in the order of the manifest and sweep.

    Rows are durable in tables under the data root as soon as they are measured. The same call again goes on from
    there, after whatever ended it: nothing is measured twice. The output is written at the end, and on interruption.

    Args:
        dataset: the dataset.
        output: the file; its suffix chooses between JSON Lines and Parquet.
        settings: everything else.
        retry_quarantined: also try clips again that could not be used, although their files have not changed.

    Raises:
        ManifestError: the manifest cannot be read, or none of its rows can be used.
        ToolError: a tool, an encoder or a model is missing.
        Busy: another process extracts from the same manifest.
        CorpusInvalid: the rows must not be used, which is a defect.
        OSError: the disk is full or a folder is not writable.
    """
    # Whatever frnr.toml calls it, its clips are known by the same names.
    dataset = dataset.model_copy(update={"name": dataset.manifest.stem})
    tables = tables_of(dataset, settings)
    tools = settings.tools([dataset])
    compute = compute_on(settings.scheduler, cores=settings.cores, memory_gib=settings.memory_gib)
    failed: list[dict[str, Any]] = []
    interrupted, set_aside = False, frozenset[str]()
    with locked(tables.root / ".extraction.lock", wait=False):
        output.parent.mkdir(parents=True, exist_ok=True)
        ingest([dataset], tables, settings.allowed_roots)
        with open_engine(
            tables,
            tools,
            compute,
            keep_encodes=settings.keep_encodes,
            keep_reference=settings.keep_reference,
            per_frame_scores=settings.per_frame_scores,
        ) as engine:
            try:
                todo = backlog(tables, settings.recipe())
                set_aside = frozenset[str]() if retry_quarantined else todo.quarantined
                _measure(engine, settings, failed, todo, set_aside)
            except KeyboardInterrupt:
                interrupted = True
        rows = _rows(engine, settings)
        failures = [*_set_aside(tables), *failed]
        if not interrupted:
            failures += _lost(tables, rows, failures)
        _write(rows, failures, tables, output, settings, dataset.mos_scale)
    rated = len(rows) - rows["nr_mos"].null_count()
    references = tables.references.read(
        pl.col("clip").is_in(rows["clip"].unique().to_list()), columns=["src", "decode_errors"]
    )
    damaged = references.filter(pl.col("decode_errors").list.len() > 0)["src"].to_list()
    return Extraction(
        len(rows), rated, len(failures), len(set_aside), tuple(damaged), interrupted, output, failures_of(output)
    )


def failures_of(output: Path) -> Path:
    """Return the file of failures beside an output."""
    return output.with_suffix(".failures.jsonl")


def extras_of(output: Path) -> Path:
    """Return the file of extra features beside an output."""
    return output.with_suffix(".extra_features.parquet")


def frames_of(output: Path) -> Path:
    """Return the file of the scores of every frame beside an output."""
    return output.with_suffix(".frames.parquet")


def _write(
    rows: pl.DataFrame,
    failures: list[dict[str, Any]],
    tables: Tables,
    output: Path,
    settings: Settings,
    mos_scale: tuple[float, float],
) -> None:
    """Write the output and what stands beside it; what has nothing in it now does not stay from another time."""
    if failures:
        write_json_lines(failures, failures_of(output))
    else:
        failures_of(output).unlink(missing_ok=True)
    if rows.is_empty():
        return
    export(rows, output, sweep=settings.crf_sweep, mos_scale=mos_scale)
    if settings.extra_features:
        write_parquet(_extras(tables, rows, settings).to_arrow(), extras_of(output))
    else:
        extras_of(output).unlink(missing_ok=True)
    if settings.per_frame_scores:
        export_frame_scores(rows, tables.frame_scores, frames_of(output), sweep=settings.crf_sweep)
    else:
        frames_of(output).unlink(missing_ok=True)


def tables_of(dataset: Dataset, settings: Settings) -> Tables:
    """Return the tables that extractions of this manifest keep, apart from those of the assets."""
    # Seen from the data root: when both move together, nothing is measured again.
    manifest = Path(os.path.relpath(dataset.manifest, settings.data_root))
    return Tables(
        settings.data_root / "extract" / source_key(manifest),
        scratch_dir=settings.scratch_dir or SCRATCH_DIR.absolute(),
        # Another input may have clips of the same names.
        encode_dir=(settings.encode_dir or ENCODE_DIR.absolute()) / source_key(manifest),
    )


def _measure(
    engine: Engine, settings: Settings, failed: list[dict[str, Any]], todo: Backlog, set_aside: frozenset[str]
) -> None:
    """Measure what is missing; what fails, and may work another time, is added to ``failed``."""
    tables = engine.tables
    listed = _listed(tables).filter(pl.col("size_bytes").is_not_null())
    # The engine judges by all that a row is made from, the versions of the tools included.
    counted = _rows(engine, settings).group_by("clip").len().filter(pl.col("len") == len(settings.crf_sweep))
    complete = set(counted["clip"]) - todo.to_decode - todo.to_measure - todo.quarantined
    if settings.keep_reference:
        complete -= set(tables.references.read().filter(pl.col("kept_path").is_null())["clip"])
    missing = listed.filter(~pl.col("clip").is_in([*complete, *set_aside])).select("clip", "src", "mos")
    clips = [Clip(key, Path(src), mos) for key, src, mos in missing.iter_rows()]
    sources = {clip.key: str(clip.src) for clip in clips}
    hopeless = len(tables.rejects.read()) + len(set_aside)
    with _Progress(len(complete), len(clips), len(settings.crf_sweep), failures=hopeless) as progress:
        outcomes = measure_clips(engine, clips, settings.crf_sweep, run_id=uuid.uuid4().hex, waiting=progress.refresh)
        for outcome in outcomes:
            progress.count(outcome)
            match outcome:
                case ReferenceFailed():
                    failed.append(_failure(sources[outcome.clip], None, outcome.reason, outcome.detail))
                case CellFailed():
                    failed.append(_failure(sources[outcome.clip], outcome.crf, outcome.reason, outcome.detail))


def _listed(tables: Tables) -> pl.DataFrame:
    """Return the clips that the manifest lists, without those whose line is rejected now, whatever it was before."""
    place = ["manifest", "line"]
    return tables.listed_clips().join(tables.rejects.read().select(place), on=place, how="anti")


def _rows(engine: Engine, settings: Settings) -> pl.DataFrame:
    """Return the rows that would come out the same now, in the order of the manifest and the sweep."""
    tables = engine.tables
    listed = _listed(tables).with_row_index("position")
    now = listed.select("clip", size="size_bytes", mtime="mtime_ns")
    # A file that is away is taken for what it was.
    is_same = (pl.col("size") == pl.col("size_bytes")) & (pl.col("mtime") == pl.col("mtime_ns"))
    references = tables.references.read().join(now, on="clip").filter(pl.col("size").is_null() | is_same)
    identities = current_identities(references, settings.crf_sweep, engine.toolchain)
    rows = tables.current_rows().join(identities, on=["clip", "identity"], how="semi")
    if settings.keep_encodes:
        rows = rows.filter(pl.col("encode_path").str.starts_with(f"{tables.kept_encodes}/"))
    return rows.join(listed.select("clip", "position"), on="clip").sort("position", "crf").drop("position")


def _extras(tables: Tables, rows: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Return the extra features of rows that are asked for, in the order of the rows."""
    order = rows.select("clip", "identity", "src").with_row_index("position")
    wanted = tables.extra_features.read().filter(pl.col("feature").is_in(extra_columns(settings.extra_features)))
    found = wanted.join(order, on=["clip", "identity"])
    return found.sort("position", "feature").select(
        "src", "src_sha256", "encoder", "preset", "crf", "feature", "mean", "std"
    )


def _set_aside(tables: Tables) -> list[dict[str, Any]]:
    """Return what the manifest has and the output cannot have, until something about it changes."""
    rejects = [
        _failure(row["src"], None, row["reason"], f"{row['manifest']}, line {row['line']}: {row['row']}")
        for row in tables.rejects.read().iter_rows(named=True)
    ]
    quarantine = tables.quarantine().iter_rows(named=True)
    return [*rejects, *(_failure(row["src"], None, row["quarantine_reason"], row["tool_output"]) for row in quarantine)]


def _lost(tables: Tables, rows: pl.DataFrame, failures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the listed clips of which there is neither a row nor a failure: their files have gone since they came."""
    known = [*rows["src"], *(failure["src"] for failure in failures)]
    lost = _listed(tables).filter(~pl.col("src").is_in(known))
    return [_failure(src, None, f"there is no file {src} any more", None) for src in lost["src"]]


def _failure(src: str | None, crf: int | None, reason: str, detail: str | None) -> dict[str, Any]:
    return {"src": src, "crf": crf, "reason": reason, "detail": detail}


class _Progress:
    """A bar of rows, with rate, remaining time and failures."""

    def __init__(self, complete: int, clips: int, sweep: int, *, failures: int):
        self._sweep = sweep
        self._failures = failures
        on_terminal = sys.stderr.isatty()
        interval = _TERMINAL_INTERVAL_S if on_terminal else _LOG_INTERVAL_S
        self._total = (complete + clips) * sweep
        self._bar = tqdm(
            desc="rows",
            unit="row",
            initial=complete * sweep,
            total=self._total,
            file=sys.stderr if on_terminal else _Lines(sys.stderr),
            mininterval=interval,
            maxinterval=interval,
            dynamic_ncols=on_terminal,
            ascii=not on_terminal,
            smoothing=0,
            bar_format=_BAR,
            postfix={"failures": failures},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def refresh(self) -> None:
        """Show that time goes on."""
        self._bar.update(0)

    def count(self, outcome: ReferenceDone | ReferenceFailed | CellOutcome) -> None:
        """Count a row, or what will not become one."""
        match outcome:
            case CellDone():
                self._bar.update()
            case ReferenceDone() if not outcome.quarantine_reason:
                self.refresh()
            case ReferenceDone() | ReferenceFailed():
                self._lose(self._sweep)
            case CellFailed() | CellQuarantined():
                self._lose(1)

    def _lose(self, rows: int) -> None:
        self._failures += 1
        self._total -= rows
        self._bar.total = self._total
        self._bar.set_postfix(failures=self._failures, refresh=False)
        self.refresh()


class _Lines:
    """Writes each state of the bar as a line, for a log file, where a carriage return would draw nothing over."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> None:
        """Write a state, if there is one."""
        if shown := text.strip():
            self._stream.write(f"{shown}\n")

    def flush(self) -> None:
        """Show it."""
        self._stream.flush()
