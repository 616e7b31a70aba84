"""What must be the same on every machine for its rows to be the same."""

import hashlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path

from frnr_assets.media.sweep import RECIPE_VERSION
from frnr_assets.media.toolchain import Toolchain
from frnr_assets.media.vmaf import choose_models

_MISSING = "not known"


def _hash_of_code() -> str:
    package, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


# When it is loaded: a worker that was started before the files were exchanged still runs the old ones.
_CODE = _hash_of_code()


def code_versions() -> dict[str, str]:
    """Return the recipe and the code of this package, by what they are called.

    Its own version number says too little: what is pickled on one machine and run on another must be the same code.
    """
    return {"the recipe of frnr_assets": RECIPE_VERSION, "the code of frnr_assets": _CODE}


def versions_of(toolchain: Toolchain) -> dict[str, str]:
    """Return the versions of code, tools and models, by what they are called.

    Raises:
        ToolError: a model's file cannot be read.
    """
    models = toolchain.vmaf.models.models
    files = {f"the model {model.path}": choose_models(str(model.path)).standard.name for model in models if model.path}
    return {
        **code_versions(),
        "ffmpeg": toolchain.ffmpeg.version,
        "the encoder": toolchain.encoder_version,
        "libvmaf": toolchain.libvmaf_version,
        # It finds the facts of a source.
        "PyAV": importlib.metadata.version("av"),
        **files,
    }


def differences(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """Say what is not the same on two machines; empty when all of it is.

    Args:
        here: versions of the run.
        there: versions of a worker.
    """
    return "; ".join(
        f"{what} is {there.get(what, _MISSING)} there and {here.get(what, _MISSING)} here"
        for what in {**here, **there}
        if here.get(what) != there.get(what)
    )
