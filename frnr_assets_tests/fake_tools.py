"""The four tools of the adapter as fakes that write down how they are called, and a real one for each."""

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frnr_assets.vocabulary import CANONICAL6_FEATURES

FAKE_WIDTH, FAKE_HEIGHT, FAKE_FRAMES = 64, 48, 6
FAKE_FRAME_BYTES = FAKE_WIDTH * FAKE_HEIGHT * 3 // 2
# As an ffprobe prints them; this one leaves the average rate to the container.
FAKE_STREAM: Mapping[str, Any] = {"width": FAKE_WIDTH, "height": FAKE_HEIGHT, "pix_fmt": "yuv420p"}
FAKE_PROBE: Mapping[str, Any] = {
    "streams": [{**FAKE_STREAM, "avg_frame_rate": "24/1", "r_frame_rate": "48/1"}],
    "format": {"duration": "0.25"},
}
FAKE_SOURCE = b"an upload"

Log = dict[str, Any]


@dataclass(frozen=True)
class Completed:
    """What a runner returns that starts nothing."""

    returncode: int = 0
    stdout: str = ""
    stderr: str = ""


@dataclass(frozen=True)
class Call:
    """How a runner was called, and the sizes of the raw files that it was given."""

    tool: str
    argv: list[str]
    raw_bytes: tuple[int, ...] = ()


def vmaf_log(frames: int = FAKE_FRAMES, prefix: str = "integer_") -> Log:
    """What libvmaf writes about some frames: VMAF 90, 91 ..., and the features 0.0, 0.1 ... at every frame."""
    features = {f"{prefix}{name}": place / 10 for place, name in enumerate(CANONICAL6_FEATURES)}
    return {
        "version": "3.0.0",
        "frames": [
            {"frameNum": frame, "metrics": {"vmaf": 90.0 + frame, **features}, "extra": None} for frame in range(frames)
        ],
        "pooled_metrics": {"vmaf": {"mean": 1.0}},
    }


@dataclass
class FakeTools:
    """Runners that do what ffprobe, ffmpeg and vmaf would, without any of them.

    A test changes an attribute to have a tool do something else.
    """

    probe_stdout: str = json.dumps(FAKE_PROBE)
    reference: bytes | None = b"\x80" * FAKE_FRAME_BYTES * FAKE_FRAMES
    distortion: bytes | None = b"\x70" * FAKE_FRAME_BYTES * FAKE_FRAMES
    encode: bytes | None = b"an encode"
    encode_stderr: str = "ffmpeg version 6.1.1 Copyright (c)\n[libx264 @ 0x1] [info] x264 - core 164 r3107\n"
    log: str | None = json.dumps(vmaf_log())
    # What a tool returns instead of success, by its name.
    answers: dict[str, Completed] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)

    def runners(self) -> dict[str, Callable[..., Completed]]:
        """The keyword arguments of the adapter's methods."""
        return {
            "probe_runner": self.run_probe,
            "decode_runner": self.run_decode,
            "encode_runner": self.run_encode,
            "score_runner": self.run_score,
        }

    @property
    def order(self) -> list[str]:
        """The tools, as they were called."""
        return [call.tool for call in self.calls]

    def argv(self, tool: str) -> list[list[str]]:
        """The commands of a tool."""
        return [call.argv for call in self.calls if call.tool == tool]

    # The signature is that of the call: anything else is a TypeError.
    def run_probe(self, cmd: list[str], capture_output: bool, text: bool, check: bool) -> Completed:
        self._note("probe", cmd, capture_output, text, check)
        return self.answers.get("probe", Completed(stdout=self.probe_stdout))

    def run_decode(self, cmd: list[str], capture_output: bool, text: bool, check: bool) -> Completed:
        first = not self.argv("decode")
        self._note("decode", cmd, capture_output, text, check)
        _write(cmd[-1], self.reference if first else self.distortion)
        return self.answers.get("decode", Completed(stderr="ffmpeg version 6.1.1\n"))

    def run_encode(self, cmd: list[str], capture_output: bool, text: bool, check: bool) -> Completed:
        self._note("encode", cmd, capture_output, text, check)
        _write(cmd[-1], self.encode)
        return self.answers.get("encode", Completed(stderr=self.encode_stderr))

    def run_score(self, cmd: list[str], capture_output: bool, text: bool, check: bool) -> Completed:
        raw = [Path(cmd[cmd.index(leg) + 1]).stat().st_size for leg in ("--reference", "--distorted")]
        self._note("score", cmd, capture_output, text, check, tuple(raw))
        _write(cmd[cmd.index("--output") + 1], None if self.log is None else self.log.encode())
        return self.answers.get("score", Completed(stderr="VMAF version: 3.0.0\n"))

    def _note(
        self,
        tool: str,
        cmd: list[str],
        capture_output: bool,
        text: bool,
        check: bool,
        raw_bytes: tuple[int, ...] = (),
    ) -> None:
        assert (capture_output, text, check) == (True, True, False)
        assert isinstance(cmd, list)
        assert all(isinstance(argument, str) for argument in cmd)
        self.calls.append(Call(tool, cmd, raw_bytes))


@dataclass
class RealTool:
    """A runner that runs what it is given, and writes it down."""

    calls: list[list[str]] = field(default_factory=list)

    def __call__(
        self, cmd: list[str], capture_output: bool, text: bool, check: bool
    ) -> "subprocess.CompletedProcess[str]":
        self.calls.append(cmd)
        return subprocess.run(cmd, capture_output=capture_output, text=text, check=check)


def _write(path: str, content: bytes | None) -> None:
    if content is not None:
        Path(path).write_bytes(content)
