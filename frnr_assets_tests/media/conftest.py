"""A decoded reference, a pool of two threads, and the frames of a file."""

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from frnr_assets.media.decode import decode_reference
from frnr_assets.media.encode import encode_distortion
from frnr_assets.media.ffmpeg import FFmpeg
from frnr_assets.media.pool import LocalCrew, WorkPool
from frnr_assets.media.reference import Reference
from frnr_assets.media.source import SourceRules, fingerprint
from frnr_assets.media.toolchain import Toolchain
from frnr_assets_tests.conftest import RULES

DecodeClip = Callable[..., Reference]
EncodeClip = Callable[..., Path]
PlainFFmpeg = Callable[..., subprocess.CompletedProcess[bytes]]

POOL_MEMORY_BYTES = 4 << 30


@pytest.fixture(scope="session")
def decode(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> DecodeClip:
    """Return a function that decodes a source into its facts: path, rules."""

    def decode_clip(source: Path, rules: SourceRules = RULES) -> Reference:
        return decode_reference(
            source,
            fingerprint(source, rules),
            ffmpeg=toolchain.ffmpeg,
            encoder=toolchain.settings.encoder,
            runner=toolchain.runner,
            limits=toolchain.limits,
            rules=rules,
            scratch=tmp_path_factory.mktemp("decode"),
        )

    return decode_clip


@pytest.fixture(scope="session")
def encode(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> EncodeClip:
    """Return a function that encodes a reference: source, facts, CRF, rules."""

    def encode_clip(source: Path, reference: Reference, crf: int, rules: SourceRules = RULES) -> Path:
        return encode_distortion(
            source,
            reference,
            crf,
            settings=toolchain.settings,
            ffmpeg=toolchain.ffmpeg,
            runner=toolchain.runner,
            limits=toolchain.limits,
            rules=rules,
            scratch=tmp_path_factory.mktemp("encode"),
        ).path

    return encode_clip


@pytest.fixture
def pool() -> Iterator[WorkPool]:
    with ThreadPoolExecutor(2) as executor:
        yield WorkPool(LocalCrew(executor, cores=2, memory_bytes=POOL_MEMORY_BYTES))


@pytest.fixture(scope="session")
def plain_ffmpeg(ffmpeg: FFmpeg) -> PlainFFmpeg:
    """Return a function that runs the same ffmpeg without anything of the package around it."""

    def run(*args: str | Path) -> subprocess.CompletedProcess[bytes]:
        command = [str(ffmpeg.path), "-nostdin", "-y", "-v", "error", *map(str, args)]
        return subprocess.run(command, check=True, capture_output=True, timeout=300)

    return run
