"""What a decoded source is: its facts, and the working format in which it is encoded and scored."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from frnr_assets.media.encoders import Encoder
from frnr_assets.media.probe import Probe
from frnr_assets.media.process import ToolFailed, ToolResult
from frnr_assets.media.source import DEFAULT_MIN_SIDE, ClipUnusable, Fingerprint
from frnr_assets.vocabulary import FULL_CLIP, sample_mode

_IDENTITY_FILE = "frames.md5"
_SUBSAMPLING = {"420": (2, 2), "422": (2, 1), "444": (1, 1)}
# The matrices that swscale knows; with another it refuses to convert anything, also what no matrix matters for.
_SWSCALE_MATRICES = {"unspecified", "bt709", "fcc", "bt470bg", "smpte170m", "smpte240m", "bt2020nc"}
_NEAREST_CHROMA = {"gray": "420", "410": "420", "411": "422", "440": "444", "rgb": "444"}


@dataclass(frozen=True)
class WorkingFormat:
    """The geometry and pixel format in which a clip is encoded and scored.

    Attributes:
        width: pixels.
        height: pixels.
        pix_fmt: ffmpeg's name.
        filters: the filter chain that leads there from the decoded frames, the same on every leg.
    """

    width: int
    height: int
    pix_fmt: str
    filters: str

    @property
    def chroma(self) -> str:
        """Return the chroma subsampling: "420", "422" or "444"."""
        return self.pix_fmt[3:6]

    @property
    def bit_depth(self) -> int:
        """Return the bits per sample."""
        return int(self.pix_fmt[7:].removesuffix("le") or 8)

    @property
    def frame_bytes(self) -> int:
        """Return the bytes of one frame."""
        samples = {"420": 1.5, "422": 2, "444": 3}[self.chroma]
        return int(self.width * self.height * samples * (2 if self.bit_depth > 8 else 1))


def working_format(probe: Probe, encoder: Encoder, min_side: int = DEFAULT_MIN_SIDE) -> WorkingFormat:
    """Choose the format nearest to the source's that the encoder and libvmaf both take.

    The frame is cropped at its right and lower edges to whole chroma samples; the bit depth is kept or else the
    nearest that the encoder has; gray, RGB and rarer subsamplings go to the next finer one. Range and matrix stay as
    they are, except that RGB, which has neither, becomes limited-range BT.709.

    Args:
        probe: what the headers say.
        encoder: the encoder.
        min_side: pixels of the shortest side that is allowed.

    Raises:
        ClipUnusable: too small for libvmaf's features.
    """
    chroma = _NEAREST_CHROMA.get(probe.chroma, probe.chroma)
    if chroma not in encoder.chroma:
        chroma = encoder.chroma[0]
    step_x, step_y = _SUBSAMPLING[chroma]
    width, height = probe.width // step_x * step_x, probe.height // step_y * step_y
    if min(width, height) < min_side:
        raise ClipUnusable(
            f"its frames of {probe.width}x{probe.height} are too small for VMAF (min_side is {min_side})"
        )
    depth = min(encoder.bit_depths, key=lambda bits: abs(bits - probe.bit_depth))
    pix_fmt = f"yuv{chroma}p" if depth == 8 else f"yuv{chroma}p{depth}le"
    filters = []
    if (width, height) != (probe.width, probe.height):
        filters.append(f"crop={width}:{height}:0:0:exact=1")
    if pix_fmt != probe.pix_fmt:
        # Without these flags swscale's result depends on the machine's instruction set.
        scale = "scale=flags=bicubic+accurate_rnd+full_chroma_int+bitexact"
        if probe.color_matrix not in _SWSCALE_MATRICES and probe.chroma != "rgb":
            filters.append("setparams=colorspace=unknown")
        if probe.chroma == "rgb":
            filters.append(f"{scale}:out_color_matrix=bt709:out_range=limited")
        elif probe.chroma == "gray":
            # swscale takes gray for full range, whatever it is, and would squeeze it into the limited range of YUV.
            filters += [f"{scale}:in_range=full:out_range=full", f"setparams=range={probe.color_range}"]
        else:
            kept = "full" if probe.color_range == "pc" else "limited"
            filters.append(f"{scale}:in_range={kept}:out_range={kept}")
    filters.append(f"format={pix_fmt}")
    return WorkingFormat(width, height, pix_fmt, ",".join(filters))


# The time base of what comes out is that of the filters: by a guess of the frame rate, frames would collide.
FILTERED_TIMES = ("-enc_time_base", "filter")


def index_timing(rate: Fraction) -> str:
    """Return the filters that time frames by index at ``rate`` frames per second.

    x264's CRF depends on frame durations, and pairing two files by their own timestamps goes wrong silently.
    """
    return f"settb={rate.denominator}/{rate.numerator},setpts=N"


@dataclass(frozen=True)
class Excerpt:
    """The frames of a clip that are encoded and scored.

    Attributes:
        first: index of the first of them.
        frames: how many they are.
        clip_mode: what rows say: "full", or "sample_<N>s" for the centre N seconds.
    """

    first: int
    frames: int
    clip_mode: str = FULL_CLIP

    @property
    def filters(self) -> str:
        """The beginning of a filter chain that lets only these frames of the source through; empty for all."""
        if self.clip_mode == FULL_CLIP:
            return ""
        return f"trim=start_frame={self.first}:end_frame={self.first + self.frames},"


def excerpt(frames: int, rate: Fraction, sample_clip_seconds: float) -> Excerpt:
    """Choose the frames of a clip that are encoded and scored: those of its centre, by index at its nominal rate.

    Args:
        frames: how many the clip has.
        rate: its nominal rate.
        sample_clip_seconds: how much of it is wanted; 0 for all. A clip that is not longer is taken whole.
    """
    if not sample_clip_seconds or frames * rate.denominator <= sample_clip_seconds * rate.numerator:
        return Excerpt(0, frames)
    wanted = max(1, round(sample_clip_seconds * rate))
    return Excerpt((frames - wanted) // 2, wanted, sample_mode(sample_clip_seconds))


@dataclass(frozen=True)
class Reference:
    """The facts of one decoded source.

    Attributes:
        fingerprint: of the file.
        probe: what the headers say.
        working: the format after the working-format step.
        frames: decoded frames.
        frames_md5: MD5 of all frames in the working format, in order.
        variable_frame_rate: some frame starts more than a quarter of 1 / R away from 1 / R after the one before it.
        shot_count: shots, by ffmpeg's scdet.
        shot_avg_duration_s: mean shot duration in seconds at the nominal rate.
        shot_duration_std_s: population standard deviation of the shot durations, in seconds.
        decode_errors: what ffmpeg complained of, each once, when damage was concealed; empty for a whole bitstream.
    """

    fingerprint: Fingerprint
    probe: Probe
    working: WorkingFormat
    frames: int
    frames_md5: str
    variable_frame_rate: bool
    shot_count: int
    shot_avg_duration_s: float
    shot_duration_std_s: float
    decode_errors: tuple[str, ...] = ()

    @property
    def adjustments(self) -> tuple[str, ...]:
        """How the working format differs from the frames as coded, a phrase for each difference."""
        coded, working = self.probe, self.working
        changes = []
        if (working.width, working.height) != (coded.width, coded.height):
            changes.append(f"cropped from {coded.width}x{coded.height} to {working.width}x{working.height}")
        if working.pix_fmt != coded.pix_fmt:
            colors = " in limited-range BT.709" if coded.chroma == "rgb" else ""
            changes.append(f"converted from {coded.pix_fmt} to {working.pix_fmt}{colors}")
        return tuple(changes)

    @property
    def duration_s(self) -> float:
        """Frames divided by the nominal rate."""
        return float(self.frames / self.probe.rate)


def identity_args(reference: Reference, stream: str = "0:V:0") -> list[str]:
    """Return the arguments of one more output of a run that decodes a damaged source: the MD5 of its frames, in a file.

    What decoders make of damage is not always the same: some show what was in memory before.

    Args:
        reference: the facts of the source; one without damage needs no further output.
        stream: the source's video stream among the inputs of the run.
    """
    if not reference.decode_errors:
        return []
    filters = f"{reference.working.filters},{index_timing(reference.probe.rate)}"
    every = ("-fps_mode", "passthrough", *FILTERED_TIMES)
    return ["-map", stream, "-vf", filters, *every, "-f", "md5", _IDENTITY_FILE]


def refuse_other_frames(reference: Reference, folder: Path, result: ToolResult) -> None:
    """Compare the frames that a run decoded with those of the reference.

    Args:
        reference: the facts of the source.
        folder: the working folder of the run.
        result: the run.

    Raises:
        ToolFailed: they are others.
    """
    if reference.decode_errors and (folder / _IDENTITY_FILE).read_text().strip() != f"MD5={reference.frames_md5}":
        raise ToolFailed("what the decoder makes of the damage is not the same every time", result)
