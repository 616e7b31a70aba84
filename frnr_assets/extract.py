"""A manifest in, one file of rows out, without Dagster: resumable, on all cores."""

import os
import sys
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self, TextIO

import polars as pl
from tqdm import tqdm

from frnr_assets.corpus.backlog import Backlog, backlog
from frnr_assets.corpus.dataset import Dataset
from frnr_assets.corpus.export import export, write_json_lines
from frnr_assets.corpus.ingest import ingest
from frnr_assets.corpus.keys import source_key
from frnr_assets.corpus.locks import locked
from frnr_assets.corpus.store import write_parquet
from frnr_assets.corpus.tables import Tables
from frnr_assets.engine.clips import measure_clips
from frnr_assets.engine.outcomes import CellDone, CellOutcome, CellQuarantined, Clip, ReferenceDone, ReferenceFailed
from frnr_assets.engine.workshop import local_pool, open_engine
from frnr_assets.media.sweep import CellFailed
from frnr_assets.settings import Settings

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
        failures: rows of the manifest, clips and cells that came to nothing.
        interrupted: whether it was stopped before its end.
        output: the file of rows.
        failures_file: the file of failures; there is none without a failure.
    """

    rows: int
    failures: int
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
    tables = tables_of(dataset, settings)
    with locked(tables.root / ".extraction.lock", wait=False):
        output.parent.mkdir(parents=True, exist_ok=True)
        ingest([dataset], tables, settings.allowed_roots)
        failed: list[dict[str, Any]] = []
        interrupted = False
        try:
            _measure(tables, settings, failed, retry_quarantined=retry_quarantined)
        except KeyboardInterrupt:
            interrupted = True
        rows = _rows(tables, settings)
        failures = [*_set_aside(tables), *failed]
        failures_file = output.with_suffix(".failures.jsonl")
        if failures:
            write_json_lines(failures, failures_file)
        else:
            failures_file.unlink(missing_ok=True)
        if not rows.is_empty():
            export(rows, output, sweep=settings.crf_sweep, mos_scale=dataset.mos_scale)
            if settings.extra_features:
                write_parquet(_extras(tables, rows).to_arrow(), output.with_suffix(".extra_features.parquet"))
    return Extraction(len(rows), len(failures), interrupted, output, failures_file)


def tables_of(dataset: Dataset, settings: Settings) -> Tables:
    """Return the tables that extractions of this manifest keep, apart from those of the assets."""
    # Seen from the data root: when both move together, nothing is measured again.
    manifest = Path(os.path.relpath(dataset.manifest, settings.data_root))
    return Tables(
        settings.data_root / "extract" / source_key(manifest),
        scratch_dir=settings.scratch_dir or SCRATCH_DIR.absolute(),
        encode_dir=settings.encode_dir or ENCODE_DIR.absolute(),
    )


def _measure(tables: Tables, settings: Settings, failed: list[dict[str, Any]], *, retry_quarantined: bool) -> None:
    """Measure what is missing; what fails, and may work another time, is added to ``failed``."""
    todo = backlog(tables, settings.recipe())
    listed = _listed(tables).filter(pl.col("size_bytes").is_not_null())
    wanted = todo.to_decode | todo.to_measure | (todo.quarantined if retry_quarantined else frozenset())
    missing = listed.filter(pl.col("clip").is_in(list(wanted))).select("clip", "src", "mos")
    clips = [Clip(key, Path(src), mos) for key, src, mos in missing.iter_rows()]
    sources = {clip.key: str(clip.src) for clip in clips}
    hopeless = len(tables.rejects.read()) + len(todo.quarantined - wanted)
    tools, compute = settings.tools(), partial(local_pool, cores=settings.cores, memory_gib=settings.memory_gib)
    with (
        open_engine(
            tables, tools, compute, keep_encodes=settings.keep_encodes, keep_reference=settings.keep_reference
        ) as engine,
        _Progress(todo, hopeless, len(clips), len(settings.crf_sweep)) as progress,
    ):
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


def _rows(tables: Tables, settings: Settings) -> pl.DataFrame:
    """Return the current rows that were made with these settings, in the order of the manifest and the sweep."""
    order = _listed(tables).select("clip").with_row_index("position")
    rows = tables.current_rows().filter(settings.recipe().is_made())
    return rows.join(order, on="clip").sort("position", "crf").drop("position")


def _extras(tables: Tables, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the extra features of rows, in the order of the rows."""
    order = rows.select("clip", "identity", "src").with_row_index("position")
    found = tables.extra_features.read().join(order, on=["clip", "identity"])
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


def _failure(src: str | None, crf: int | None, reason: str, detail: str | None) -> dict[str, Any]:
    return {"src": src, "crf": crf, "reason": reason, "detail": detail}


class _Progress:
    """A bar of rows, with rate, remaining time and failures."""

    def __init__(self, todo: Backlog, failures: int, clips: int, sweep: int):
        self._sweep = sweep
        self._failures = failures
        on_terminal = sys.stderr.isatty()
        interval = _TERMINAL_INTERVAL_S if on_terminal else _LOG_INTERVAL_S
        self._total = (todo.complete + clips) * sweep
        self._bar = tqdm(
            desc="rows",
            unit="row",
            initial=todo.complete * sweep,
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
