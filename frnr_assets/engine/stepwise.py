"""One clip measured tool by tool, each started by a runner of the caller's own or, without one, by this platform."""

import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from frnr_assets.corpus.keys import source_key
from frnr_assets.engine.encodes import EncodeShelf
from frnr_assets.engine.rows import encode_identity, feature_row
from frnr_assets.media.decode import DURATION_GUESS_S, read_frame_log, shot_durations
from frnr_assets.media.encode import Distortion
from frnr_assets.media.encoders import STATISTICS_FILE, no_statistics
from frnr_assets.media.ffmpeg import OWN_FILES, VERSION_PATTERN, FFmpeg, locate_ffmpeg
from frnr_assets.media.moments import mean_and_std
from frnr_assets.media.process import ToolError, ToolFailed, ToolResult, ToolRunner
from frnr_assets.media.reference import Reference, working_format
from frnr_assets.media.score import Score, read_vmaf_log, score_distortions
from frnr_assets.media.source import ClipUnusable, Fingerprint, SourceRules, fingerprint
from frnr_assets.media.steps import (
    NrSourceGeometry,
    Runner,
    build_decode_command,
    build_encode_command,
    build_score_command,
    count_frames,
    probe_geometry,
    run_step,
)
from frnr_assets.media.sweep import CellMeasured
from frnr_assets.media.toolchain import Toolchain, ToolSettings, open_ffmpeg
from frnr_assets.media.vmaf import VmafSettings, VmafTool
from frnr_assets.media.vmaf_backends import open_tool

_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Runners:
    """What stands in for ``subprocess.run``, by tool; None for this platform's own.

    Attributes:
        probe: runs ffprobe.
        decode: runs ffmpeg to raw frames.
        encode: runs ffmpeg to an encode.
        score: runs vmaf.
    """

    probe: Runner | None = None
    decode: Runner | None = None
    encode: Runner | None = None
    score: Runner | None = None


@dataclass
class Stepwise:
    """The measurement of one clip.

    Attributes:
        source: the uploaded file.
        tools: how it is encoded and scored.
        runners: what starts the tools.
        folder: an empty folder of its own.
        ffmpeg_bin: an ffmpeg to use; None for the one that imageio-ffmpeg brings.
        ffprobe_bin: the ffprobe.
        vmaf_bin: the ``vmaf`` executable.
        encode_dir: folder of the encodes that are kept; None to keep none.
    """

    source: Path
    tools: ToolSettings
    runners: Runners
    folder: Path
    ffmpeg_bin: str | None = None
    ffprobe_bin: str = "ffprobe"
    vmaf_bin: str = "vmaf"
    encode_dir: Path | None = None
    _own: ToolRunner = field(default_factory=ToolRunner)

    @property
    def reference_yuv(self) -> Path:
        """The raw frames of the reference."""
        return self.folder / "reference.yuv"

    def measure(self, crf_sweep: Sequence[int], *, mos: float | None) -> Iterator[dict[str, Any]]:
        """Probe and decode the source, then encode, decode and score it at each CRF, yielding each complete row.

        Raises:
            RuntimeError: a step failed; the message names the tool and the source. No later step is taken.
            OSError: the disk is full.
        """
        try:
            geometry = probe_geometry(
                self.source, ffprobe_bin=self.ffprobe_bin, runner=self.runners.probe, rules=self.tools.rules
            )
            reference = self._decode(geometry)
            run_id = uuid.uuid4().hex
            for crf in crf_sweep:
                yield self._row(reference, geometry, crf, mos, run_id)
        except (ToolError, ClipUnusable) as error:
            message = str(error)
            raise RuntimeError(message if str(self.source) in message else f"{self.source}: {message}") from error

    def _decode(self, geometry: NrSourceGeometry) -> Reference:
        frame_log = self.folder / "frames.log"
        found = fingerprint(self.source, self.tools.rules)
        self._run_decode(self.source, self.reference_yuv, geometry, frame_log, self.tools.rules)
        probe = geometry.probe()
        working = working_format(probe, self.tools.encode.encoder, self.tools.rules.min_side)
        frames = count_frames(self.reference_yuv, working, "ffmpeg decode")
        # A decode that is not ours may leave no log; then nothing is known of shots.
        scores = [score for _, score in read_frame_log(frame_log)]
        shots = shot_durations(scores, probe.rate) if len(scores) == frames else []
        self._refuse_changed(found)
        shot_avg, shot_std = mean_and_std(shots) if shots else (0.0, 0.0)
        return Reference(
            fingerprint=found,
            probe=probe,
            working=working,
            frames=frames,
            frames_md5="",
            variable_frame_rate=False,
            shot_count=len(shots),
            shot_avg_duration_s=shot_avg,
            shot_duration_std_s=shot_std,
        )

    def _row(
        self, reference: Reference, geometry: NrSourceGeometry, crf: int, mos: float | None, run_id: str
    ) -> dict[str, Any]:
        folder = self.folder / f"crf{crf}"
        folder.mkdir()
        try:
            toolchain, distortion = self._encode(reference, crf, folder)
            score = self._score(reference, geometry, distortion.path, folder)
            self._refuse_changed(reference.fingerprint)
            toolchain = replace(toolchain, libvmaf_version=score.libvmaf_version)
            cell = CellMeasured("", crf, reference, self.tools.encode.part_of(reference), distortion, score)
            encode_path = ""
            if self.encode_dir is not None:
                settings = self.tools.encode
                # Apart from those that the engine has made, and uses again.
                shelf = EncodeShelf(self.encode_dir / f"{settings.encoder.name}-{settings.preset}-steps")
                identity = encode_identity(reference, crf, toolchain)
                encode_path = str(shelf.keep(distortion, source_key(self.source.absolute()), crf, identity).path)
            return feature_row(cell, toolchain, src=self.source, mos=mos, run_id=run_id, encode_path=encode_path)
        finally:
            shutil.rmtree(folder)

    def _refuse_changed(self, found: Fingerprint) -> None:
        if not found.holds_if_there(self.source):
            raise ToolError(f"{self.source} changed while it was measured")

    def _encode(self, reference: Reference, crf: int, folder: Path) -> tuple[Toolchain, Distortion]:
        settings = self.tools.encode
        out, statistics_file = folder / "distortion.mp4", folder / STATISTICS_FILE
        part = settings.part_of(reference)
        argv = build_encode_command(
            self.reference_yuv,
            out,
            reference.working,
            reference.probe.rate,
            crf,
            settings,
            part=part,
            statistics=statistics_file,
            ffmpeg_bin=self._ffmpeg,
        )
        what = f"ffmpeg encode at CRF {crf}"
        size = (reference.working.width, reference.working.height, part.frames)
        runner = self.runners.encode or self._own_runner(*size)
        result = run_step(runner, argv, "ffmpeg encode", self.source)
        if not out.exists():
            raise ToolFailed(f"{what} wrote no file for {self.source}", result)
        read = settings.encoder.read_statistics
        # An encode that is not ours may have none.
        has_statistics = read is not None and (self.runners.encode is None or statistics_file.exists())
        try:
            statistics = read(statistics_file) if read and has_statistics else no_statistics(part.frames)
        except (OSError, ValueError) as error:
            raise ToolFailed(f"{what} failed for {self.source}: {error}", result) from error
        if statistics.frames != part.frames:
            raise ToolFailed(
                f"{what} failed for {self.source}: {part.frames} frames went in, {statistics.frames} came out", result
            )
        toolchain = Toolchain(
            ffmpeg=FFmpeg(Path(self._ffmpeg), _found(VERSION_PATTERN, result)),
            settings=settings,
            encoder_version=f"{settings.encoder.name}-{_found(settings.encoder.version_pattern, result)}",
            vmaf=self.tools.vmaf,
            libvmaf_version=_UNKNOWN,
            limits=self.tools.limits,
            rules=self.tools.rules,
            runner=self._own,
            conditions=self.tools.conditions,
        )
        return toolchain, Distortion(out, out.stat().st_size, result.wall_s * 1000, statistics)

    def _score(self, reference: Reference, geometry: NrSourceGeometry, encode: Path, folder: Path) -> Score:
        if self.runners.score is None:
            return self._score_with_own(reference, encode, folder)
        working, part = reference.working, self.tools.encode.part_of(reference)
        # The encode is in the working format already.
        encoded = replace(geometry, width=working.width, height=working.height, pix_fmt=working.pix_fmt)
        distortion_yuv, log = folder / "distortion.yuv", folder / "vmaf.json"
        self._run_decode(encode, distortion_yuv, encoded, None, OWN_FILES)
        frames = count_frames(distortion_yuv, working, "ffmpeg decode")
        if frames != part.frames:
            raise ToolError(f"{part.frames} frames were encoded, {frames} came out of the encode")
        model = self.tools.vmaf.models.of(working.height)
        argv = build_score_command(
            self.tools.vmaf.tool or VmafTool(self.vmaf_bin),
            self.reference_yuv,
            distortion_yuv,
            working,
            log,
            model=f"version={model.name}" if model.path is None else f"path={model.path}",
            extractors=self.tools.vmaf.extractors(working.width, working.height),
            part=part,
        )
        result = run_step(self.runners.score, argv, "vmaf", self.source)
        try:
            found = read_vmaf_log(log, part.frames)
        except (OSError, ValueError) as error:
            raise ToolFailed(f"vmaf failed for {self.source}: {error}", result) from error
        return Score(found.vmaf, found.features, {}, model.name, found.version, result.wall_s * 1000)

    def _score_with_own(self, reference: Reference, encode: Path, folder: Path) -> Score:
        scratch = folder / "score"
        scratch.mkdir()
        ffmpeg, vmaf = self._scorer
        (score,) = score_distortions(
            self.source,
            reference,
            [encode],
            part=self.tools.encode.part_of(reference),
            vmaf=vmaf,
            ffmpeg=ffmpeg,
            runner=self._own,
            limits=self.tools.limits,
            rules=self.tools.rules,
            scratch=scratch,
        )
        return score

    @cached_property
    def _scorer(self) -> tuple[FFmpeg, VmafSettings]:
        """This platform's own scorer, opened once."""
        vmaf = self.tools.vmaf
        if vmaf.tool is not None:
            vmaf = replace(vmaf, tool=open_tool(vmaf.tool, vmaf.models.models, self._own)[0])
        return open_ffmpeg(self.ffmpeg_bin, self._own), vmaf

    def _run_decode(
        self,
        source: Path,
        out_yuv: Path,
        geometry: NrSourceGeometry,
        frame_log: Path | None,
        rules: SourceRules,
    ) -> None:
        argv = build_decode_command(
            source if self.runners.decode else source.absolute(),
            out_yuv,
            geometry,
            ffmpeg_bin=self._ffmpeg,
            encoder=self.tools.encode.encoder.name,
            frame_log=frame_log,
            rules=rules,
        )
        frames = geometry.framerate * (geometry.duration_s or DURATION_GUESS_S)
        runner = self.runners.decode or self._own_runner(geometry.width, geometry.height, frames)
        run_step(runner, argv, "ffmpeg decode", self.source)

    @property
    def _ffmpeg(self) -> str:
        return self.ffmpeg_bin or str(locate_ffmpeg(None))

    def _own_runner(self, width: int, height: int, frames: float) -> Runner:
        """Return what starts a program as ``subprocess.run`` would, with this platform's limits."""
        timeout_s = self.tools.limits.timeout_s(width, height, frames)

        def run(argv: Sequence[str], **_: object) -> ToolResult:
            return self._own.run(argv, timeout_s=timeout_s)

        return run


def _found(pattern: str, result: ToolResult) -> str:
    match = re.search(pattern, result.stderr)
    return match[1] if match else _UNKNOWN
