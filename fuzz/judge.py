"""The independent judge: whether a row is what a plain ffmpeg makes of the same file."""

import json
import math
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

from frnr_assets.media.encode import Distortion
from frnr_assets.media.reference import Reference
from frnr_assets.media.score import Score
from frnr_assets.vocabulary import CANONICAL6_FEATURES, FEATURE_LIMITS

TIMEOUT_S = 30
# Raw frames of what is judged must fit, and the judge must not fall over what it judges.
_LIMITS = ("prlimit", "--as=4294967296", "--fsize=1073741824", "--core=0", "--")
HIGHEST: Mapping[str, float] = {"vmaf": 100.0, **FEATURE_LIMITS}
# libvmaf's log has six decimals.
_ROUNDING = 1.5e-6
_BY_INDEX = "settb=1/25,setpts=N"
_ONCE = ("-fps_mode", "passthrough", "-enc_time_base", "1:25", "-f")
# Of a frame that it knows to be damaged a plain ffmpeg says no more than a warning.
_DAMAGED = re.compile(r"\[(?:error|fatal|panic)\]|corrupt (?:input packet|decoded frame)")


@dataclass(frozen=True)
class Row:
    """What the package makes of a clip.

    Attributes:
        reference: facts of its decoded frames.
        distortion: the encode.
        score: of the encode.
    """

    reference: Reference
    distortion: Distortion
    score: Score


@dataclass(frozen=True)
class SecondOpinion:
    """What a plain ffmpeg makes of the same file.

    Attributes:
        frames: how many it decodes.
        frames_md5: MD5 of these in the row's working format.
        complaints: its error messages.
        values: per-frame VMAF and features, measured from raw frames.
    """

    frames: int
    frames_md5: str
    complaints: tuple[str, ...]
    values: Mapping[str, Sequence[float]]


def second_opinion(ffmpeg: Path, source: Path, row: Row, folder: Path) -> SecondOpinion:
    """Decode and score without anything of the package around ffmpeg.

    The frames are counted before any filter, and scored from raw files, which have neither times nor tags that could
    pair or convert them wrongly.

    Raises:
        OSError: an output is missing.
        ValueError: the score's log is not one.
        subprocess.SubprocessError: a command failed, or took too long.
    """
    working, rate = row.reference.working, row.reference.probe.rate
    # Of the row's own recipe only the working format is taken, which is a choice and not a measurement.
    raw_frames = ("-map", "0:V:0", "-vf", f"{working.filters},{_BY_INDEX}", *_ONCE, "rawvideo", "reference.yuv")
    frames, complaints = plain_decode(ffmpeg, source, folder, *raw_frames)
    _run(ffmpeg, ["-noautorotate", "-i", str(row.distortion.path), *_ONCE, "rawvideo", "distortion.yuv"], folder)
    size = f"{working.width}x{working.height}"
    raw = ("-f", "rawvideo", "-pixel_format", working.pix_fmt, "-video_size", size, "-framerate", str(rate))
    options = f"model=version={row.score.model}:feature=name=adm|name=vif|name=motion:log_fmt=json:log_path=log"
    legs = (*raw, "-i", "distortion.yuv", *raw, "-i", "reference.yuv")
    _run(ffmpeg, [*legs, "-lavfi", f"[0:v][1:v]libvmaf={options}", "-f", "null", "-"], folder)
    metrics = [frame["metrics"] for frame in json.loads((folder / "log").read_text())["frames"]]
    names = {name: f"integer_{name}" for name in CANONICAL6_FEATURES} | {"vmaf": "vmaf"}
    with (folder / "reference.yuv").open("rb") as file:
        frames_md5 = file_digest(file, "md5").hexdigest()
    values = {name: [metric[key] for metric in metrics] for name, key in names.items()}
    return SecondOpinion(frames, frames_md5, complaints, values)


def plain_decode(ffmpeg: Path, source: Path, folder: Path, *more_outputs: str) -> tuple[int, tuple[str, ...]]:
    """Decode a file; return how many frames came out, and the error messages.

    Nothing makes this decode stop at damage or refuse a change in the middle, so it gives a frame for whatever the
    decoder gives one for: a strict decode that lost one shows. Times play no part: frames have no right ones here.

    Raises:
        subprocess.SubprocessError: it failed, or took too long.
    """
    source_args = ("-threads", "1", "-noautorotate", "-apply_cropping", "codec", "-i", f"file:{source}")
    counted = ("-map", "0:V:0", "-vf", _BY_INDEX, *_ONCE, "framecrc", "pipe:1")
    decoded = _run(ffmpeg, [*source_args, *counted, *more_outputs], folder)
    return len(re.findall(r"^0,", decoded.stdout, re.MULTILINE)), _complaints(decoded.stderr)


def _complaints(log: str) -> tuple[str, ...]:
    return tuple(line for line in log.splitlines() if _DAMAGED.search(line))


def _run(ffmpeg: Path, args: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    command = [*_LIMITS, str(ffmpeg), "-nostdin", "-y", "-v", "level+warning", *args]
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S
    )


def offences_of(row: Row, opinion: SecondOpinion) -> list[str]:
    """Return what is wrong with a row, a sentence each; nothing when it is right."""
    return [*_wrong_frames(row, opinion), *_wrong_values(row, opinion)]


def _wrong_frames(row: Row, opinion: SecondOpinion) -> Iterator[str]:
    frames = row.reference.frames
    if frames != opinion.frames:
        yield f"the reference has {frames} frames, a plain decode {opinion.frames}"
    elif row.reference.frames_md5 != opinion.frames_md5:
        yield "the frames of the reference are not those of a plain decode"
    if row.distortion.statistics.frames != frames:
        yield f"the reference has {frames} frames, the encode {row.distortion.statistics.frames}"
    if opinion.complaints and not row.reference.decode_errors:
        yield f"accepted without a word, while a plain decode says: {opinion.complaints[0]}"


def _wrong_values(row: Row, opinion: SecondOpinion) -> Iterator[str]:
    for name, values in {"vmaf": row.score.vmaf, **row.score.features}.items():
        again = opinion.values[name]
        if len(values) != row.reference.frames:
            yield f"{name} has {len(values)} values for {row.reference.frames} frames"
        elif not all(math.isfinite(value) and 0 <= value <= HIGHEST[name] for value in values):
            yield f"{name} has a value outside 0 to {HIGHEST[name]:g}"
        elif len(again) != len(values) or any(
            abs(one - other) > _ROUNDING for one, other in zip(values, again, strict=True)
        ):
            yield f"{name} is different when it is measured from raw frames"
