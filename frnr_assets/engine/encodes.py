"""Kept encodes: a tidy folder of them, each with a note of what it was made from."""

import hashlib
import json
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from frnr_assets.corpus.store import sync
from frnr_assets.media.encode import Distortion
from frnr_assets.media.encoders import EncoderStatistics


@dataclass(frozen=True)
class EncodeShelf:
    """Where encodes are kept: ``<root>/<clip>/crf<CRF>.mp4`` and, beside each, a note of the same stem.

    The note is written last, so an encode without one was not finished; it carries what the row needs of the encode.

    Attributes:
        root: folder of the encodes of one encoder and preset.
    """

    root: Path

    def find(self, clip: str, crf: int, identity: str) -> Distortion | None:
        """Return a kept encode if it was made from the same things and its file is unchanged."""
        encode = self._path(clip, crf)
        try:
            note = json.loads(encode.with_suffix(".json").read_text())
            if note["identity"] != identity or note["sha256"] != sha256_of(encode):
                return None
        except (OSError, ValueError, KeyError):
            return None
        statistics = EncoderStatistics(note["frames"], note["statistics"])
        return Distortion(encode, note["size_bytes"], note["encode_time_ms"], statistics)

    def keep(self, distortion: Distortion, clip: str, crf: int, identity: str) -> Distortion:
        """Move an encode onto the shelf, durably, and return it with its new path.

        Raises:
            OSError: the disk is full or the folder is not writable.
        """
        encode = self._path(clip, crf)
        if distortion.path == encode:
            return distortion
        encode.parent.mkdir(parents=True, exist_ok=True)
        note = {
            "identity": identity,
            "sha256": sha256_of(distortion.path),
            "size_bytes": distortion.size_bytes,
            "encode_time_ms": distortion.encode_time_ms,
            "frames": distortion.statistics.frames,
            "statistics": dict(distortion.statistics.columns),
        }
        encode.with_suffix(".json").unlink(missing_ok=True)
        sync(distortion.path)
        shutil.move(distortion.path, encode)
        unfinished = encode.with_suffix(f".{uuid.uuid4().hex}.tmp")
        unfinished.write_text(json.dumps(note))
        sync(unfinished)
        unfinished.replace(encode.with_suffix(".json"))
        sync(encode.parent)
        return Distortion(encode, distortion.size_bytes, distortion.encode_time_ms, distortion.statistics)

    def _path(self, clip: str, crf: int) -> Path:
        return self.root / clip / f"crf{crf}.mp4"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
