"""The library: no-reference clips in, full-reference rows out, without an orchestrator.

The names are those of vmaf-tune's adapter, so that its callers change one import. The rows come from the same engine
as the assets'; only with a runner of the caller's own for some step does each tool run on its own, on files.
"""

import hashlib
import math
import shutil
import uuid
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from frnr_assets.corpus.keys import source_key
from frnr_assets.corpus.schema import CORPUS_ROW_KEYS, PROVENANCE_KEYS, ROW_SCHEMA, SCHEMA_VERSION
from frnr_assets.corpus.tables import Tables
from frnr_assets.engine.clips import measure_clips
from frnr_assets.engine.encodes import sha256_of
from frnr_assets.engine.outcomes import CellDone, CellOutcome, Clip, ReferenceDone, ReferenceFailed
from frnr_assets.engine.scratch import scratch_folder
from frnr_assets.engine.stepwise import Runners, Stepwise
from frnr_assets.engine.workshop import compute_on, open_engine
from frnr_assets.media.process import ToolError
from frnr_assets.media.source import SourceRules
from frnr_assets.media.steps import NrSourceGeometry, Runner, build_decode_command, probe_geometry
from frnr_assets.media.toolchain import ToolSettings, encode_settings
from frnr_assets.media.vmaf import vmaf_settings
from frnr_assets.vocabulary import (
    CANONICAL6_FEATURES,
    DEFAULT_CRF_SWEEP,
    DEFAULT_ENCODER,
    DEFAULT_PRESET,
    DEFAULT_VMAF_MODEL,
)

__all__ = [
    "CANONICAL6_FEATURES",
    "CORPUS_ROW_KEYS",
    "DEFAULT_CRF_SWEEP",
    "DEFAULT_PRESET",
    "PROVENANCE_KEYS",
    "SCHEMA_VERSION",
    "CorpusOptions",
    "NrInputRow",
    "NrSourceGeometry",
    "NrToFrAdapter",
    "SourceRules",
    "build_decode_command",
    "probe_geometry",
]


@dataclass(frozen=True)
class CorpusOptions:
    """How rows are made.

    Attributes:
        encoder: ffmpeg's name of the encoder.
        output: where the caller writes rows; the adapter itself writes none.
        encode_dir: folder of the encodes that are kept.
        keep_encodes: keep the encodes, with their paths in the rows.
        vmaf_model: a version built into libvmaf, the path of a JSON model, or ``auto``.
        score_backend: None for the libvmaf inside ffmpeg, ``cli`` for a ``vmaf`` executable, or what that executable
            takes as ``--backend``, such as ``cuda``.
        sample_clip_seconds: encode and score only so many seconds, of a clip's centre; 0 for all of it.
        src_sha256: put the hash of the source into its rows.
        extra_params: further encoder arguments, one string each.
        ffmpeg_bin: an ffmpeg to use; None for the one that imageio-ffmpeg brings.
        ffprobe_bin: the ffprobe that a ``probe_runner`` is asked to start; nothing else needs one.
        vmaf_bin: the ``vmaf`` executable.
        cores: pieces of work at once; None for the cores that this process may use.
        memory_gib: memory for them in GiB; None for 70 % of what is available.
        rules: which files may be sources.
    """

    encoder: str = DEFAULT_ENCODER
    output: Path = Path("corpus.jsonl")
    encode_dir: Path = Path(".workingdir2/encodes")
    keep_encodes: bool = False
    vmaf_model: str = DEFAULT_VMAF_MODEL
    score_backend: str | None = None
    sample_clip_seconds: float = 0.0
    src_sha256: bool = True
    extra_params: tuple[str, ...] = ()
    ffmpeg_bin: str | None = None
    ffprobe_bin: str = "ffprobe"
    vmaf_bin: str = "vmaf"
    cores: int | None = None
    memory_gib: float | None = None
    rules: SourceRules = field(default_factory=SourceRules)


@dataclass(frozen=True)
class NrInputRow:
    """One row of a no-reference dataset.

    Attributes:
        src: the uploaded file.
        mos: crowd MOS, passed through unchanged, or None.
        extra: whatever else the dataset says of it.
    """

    src: Path
    mos: float | None = None
    extra: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "src", Path(self.src))

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """Take a row as it stands in a JSON Lines manifest; keys other than src and mos become ``extra``.

        Raises:
            KeyError: it has no src.
        """
        if "src" not in row:
            raise KeyError("a row of a no-reference dataset needs the key src, the path of its clip")
        return cls(Path(row["src"]), row.get("mos"), {key: row[key] for key in row if key not in {"src", "mos"}})


@dataclass(frozen=True)
class NrToFrAdapter:
    """Makes full-reference rows of no-reference clips: the decoded upload is the reference, re-encoded at each CRF.

    Attributes:
        crf_sweep: the CRFs; rows come in this order.
        preset: encoder preset.
        scratch_dir: folder for what is deleted soon, and for raw references that are kept.
        keep_intermediate_yuv: leave each reference as raw frames in ``scratch_dir``, as ``<stem of the source>.yuv``,
            with a hash of its path behind the stem if another source has the same. Otherwise no raw frame is ever
            written to disk, except for runners of the caller's own.
        options: everything else.

    Raises:
        TypeError: a CRF is not an int.
        ValueError: the sweep or the preset is empty, or the encoder does not take what is configured.
    """

    crf_sweep: Sequence[int] = DEFAULT_CRF_SWEEP
    preset: str = DEFAULT_PRESET
    scratch_dir: Path = Path(".workingdir2/fr_from_nr_scratch")
    keep_intermediate_yuv: bool = False
    options: CorpusOptions = field(default_factory=CorpusOptions)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scratch_dir", Path(self.scratch_dir))
        if not self.crf_sweep:
            raise ValueError("crf_sweep must be non-empty")
        for crf in self.crf_sweep:
            if not isinstance(crf, int) or isinstance(crf, bool):
                raise TypeError(f"crf_sweep must have only int in it, not {crf!r}")
        if not isinstance(self.preset, str) or not self.preset:
            raise ValueError("preset must be a non-empty string")
        try:
            self._tools()
        except ToolError as error:
            raise ValueError(str(error)) from error

    def run(
        self,
        nr_row: NrInputRow,
        *,
        probe_runner: Runner | None = None,
        decode_runner: Runner | None = None,
        encode_runner: Runner | None = None,
        score_runner: Runner | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield the rows of one clip, one for each CRF, in the order of the sweep.

        A runner replaces ``subprocess.run`` for one tool: it is called with the command and ``capture_output=True,
        text=True, check=False``, and returns an object with returncode, stdout and stderr. With any of them, each
        tool runs on its own, on files in the scratch folder, and a step without a runner is done with this
        platform's own tools.

        Args:
            nr_row: the clip.
            probe_runner: runs ffprobe, which prints JSON.
            decode_runner: runs ffmpeg on the source, and on each encode; the last element of the command is the raw
                file that it must write.
            encode_runner: runs ffmpeg once for each CRF; the last element is the file that it must write.
            score_runner: runs vmaf once for each CRF on raw frames; what follows ``--output`` is the JSON log that it
                must write, with the values of every frame.

        Raises:
            RuntimeError: the clip cannot be measured; the message names it, and the tool that failed.
            OSError: the disk is full, or a folder is not writable.
        """
        yield from self.run_many(
            [nr_row],
            probe_runner=probe_runner,
            decode_runner=decode_runner,
            encode_runner=encode_runner,
            score_runner=score_runner,
        )

    def run_many(
        self,
        nr_rows: Iterable[NrInputRow],
        *,
        probe_runner: Runner | None = None,
        decode_runner: Runner | None = None,
        encode_runner: Runner | None = None,
        score_runner: Runner | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield the rows of many clips, in the order of the clips and of the sweep; all cores work.

        The first clip that cannot be measured ends it, after the rows of the clips before. Runners: see ``run``.

        Raises:
            RuntimeError: a clip cannot be measured; the message names it, and the tool that failed.
            OSError: the disk is full, or a folder is not writable.
        """
        runners = Runners(probe_runner, decode_runner, encode_runner, score_runner)
        if any((probe_runner, decode_runner, encode_runner, score_runner)):
            for nr_row in nr_rows:
                _refuse_mos(nr_row)
                yield from self._run_steps(nr_row, runners)
        else:
            yield from self._run_engine(nr_rows)

    def _run_engine(self, nr_rows: Iterable[NrInputRow]) -> Iterator[dict[str, Any]]:
        options = self.options
        compute = compute_on(cores=options.cores, memory_gib=options.memory_gib)
        with scratch_folder(self.scratch_dir.absolute()) as folder:
            tables = Tables(folder, encode_dir=options.encode_dir)
            with open_engine(
                tables,
                self._tools(),
                compute,
                keep_encodes=options.keep_encodes,
                keep_reference="yuv" if self.keep_intermediate_yuv else None,
            ) as engine:
                waiting: deque[Clip] = deque()
                refused: list[RuntimeError] = []
                clips = _clips(nr_rows, waiting, refused)
                crfs = tuple(dict.fromkeys(self.crf_sweep))
                # Closed before the engine is: a batch that ends early waits for what still runs.
                with closing(measure_clips(engine, clips, crfs, run_id=uuid.uuid4().hex)) as outcomes:
                    try:
                        yield from self._in_order(outcomes, waiting)
                    except ToolError as error:
                        raise RuntimeError(f"{waiting[0].src}: {error}" if waiting else str(error)) from error
        for refusal in refused:
            raise refusal

    def _in_order(
        self, outcomes: Iterable[ReferenceDone | ReferenceFailed | CellOutcome], waiting: deque[Clip]
    ) -> Iterator[dict[str, Any]]:
        """Hold back rows until all those before them are there; raise a failure when it is its clip's turn."""
        rows: dict[str, dict[int, Mapping[str, Any]]] = {}
        failures: dict[str, str] = {}
        for outcome in outcomes:
            match outcome:
                case ReferenceDone(row=row) if not outcome.quarantine_reason:
                    if row["kept_path"] is not None:
                        _move_kept(Path(row["kept_path"]), Path(row["src"]), self.scratch_dir)
                case ReferenceDone():
                    failures[outcome.clip] = f"{outcome.quarantine_reason}\n{outcome.row.get('tool_output') or ''}"
                case CellDone():
                    rows.setdefault(outcome.clip, {})[outcome.crf] = outcome.row
                case _:
                    failures.setdefault(outcome.clip, getattr(outcome, "detail", outcome.reason))
            while waiting:
                clip = waiting[0]
                if clip.key in failures:
                    raise RuntimeError(f"{clip.src}: {failures[clip.key].strip()}")
                found = rows.get(clip.key, {})
                if len(found) < len(set(self.crf_sweep)):
                    break
                del rows[clip.key]
                waiting.popleft()
                for crf in self.crf_sweep:
                    yield self._shown(found[crf])
        if waiting:
            raise RuntimeError(f"{waiting[0].src}: nothing came of it")

    def _run_steps(self, nr_row: NrInputRow, runners: Runners) -> Iterator[dict[str, Any]]:
        options = self.options
        with scratch_folder(self.scratch_dir.absolute()) as folder:
            steps = Stepwise(
                source=nr_row.src,
                tools=self._tools(),
                runners=runners,
                folder=folder,
                ffmpeg_bin=options.ffmpeg_bin,
                ffprobe_bin=options.ffprobe_bin,
                vmaf_bin=options.vmaf_bin,
                encode_dir=options.encode_dir if options.keep_encodes else None,
            )
            try:
                for row in steps.measure(self.crf_sweep, mos=nr_row.mos):
                    yield self._shown(row)
            finally:
                if self.keep_intermediate_yuv and steps.reference_yuv.exists():
                    _move_kept(steps.reference_yuv, nr_row.src, self.scratch_dir)

    def _shown(self, row: Mapping[str, Any]) -> dict[str, Any]:
        shown = {name: row[name] for name in ROW_SCHEMA.names}
        return shown if self.options.src_sha256 else {**shown, "src_sha256": ""}

    def _tools(self) -> ToolSettings:
        options = self.options
        backend = options.score_backend
        return ToolSettings(
            encode=encode_settings(
                options.encoder,
                self.preset,
                tuple(options.extra_params),
                tuple(self.crf_sweep),
                options.sample_clip_seconds,
            ),
            vmaf=vmaf_settings(
                options.vmaf_model,
                backend="cli" if backend else "libvmaf",
                path=options.vmaf_bin if backend else None,
                args=() if backend in {None, "cli"} else ("--backend", str(backend)),
            ),
            rules=options.rules,
            ffmpeg_path=options.ffmpeg_bin,
        )


def _refuse_mos(nr_row: NrInputRow) -> None:
    mos = nr_row.mos
    if mos is not None and (isinstance(mos, bool) or not isinstance(mos, int | float) or not math.isfinite(mos)):
        raise RuntimeError(f"{nr_row.src}: its MOS is {mos!r}, which is no finite number")


def _clips(nr_rows: Iterable[NrInputRow], waiting: deque[Clip], refused: list[RuntimeError]) -> Iterator[Clip]:
    """Name the clips as they are asked for, and note them as waiting for their turn; end at one that is refused."""
    times: Counter[str] = Counter()
    for nr_row in nr_rows:
        try:
            _refuse_mos(nr_row)
        except RuntimeError as error:
            refused.append(error)
            return
        source = Path(nr_row.src)
        key = source_key(source.absolute())
        # The same clip may be there twice.
        clip = Clip(f"{key}~{times[key]}" if times[key] else key, source, nr_row.mos)
        times[key] += 1
        waiting.append(clip)
        yield clip


def _move_kept(raw: Path, source: Path, folder: Path) -> None:
    """Name a kept reference after its source; one of the same name from another source is left alone."""
    target = folder / f"{source.stem}.yuv"
    if target.exists() and sha256_of(target) != sha256_of(raw):
        digest = hashlib.sha256(str(source.absolute()).encode()).hexdigest()
        target = folder / f"{source.stem}~{digest[:8]}.yuv"
    shutil.move(raw, target)
