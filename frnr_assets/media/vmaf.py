"""Which VMAF: its model, what else it computes, and the program that computes it."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from frnr_assets.media.process import ToolError
from frnr_assets.vocabulary import DEFAULT_VMAF_MODEL, EXTRA_FEATURES, UHD_LINES, UHD_VMAF_MODEL, ExtraFeature

VmafBackend = Literal["libvmaf", "cli"]

AUTO_MODEL = "auto"

# Asked for by name, because some models (the NEG ones) compute them with options of their own. A model that computes
# them as they are shares them, at no cost.
CANONICAL6_EXTRACTORS = ("adm", "vif", "motion")

# What the recipe passes to the tool itself, or what would leave frames out. getopt takes any beginning of an option.
_TAKEN_OPTIONS = (
    "reference distorted width height pixel_format bitdepth model output xml json csv sub feature subsample aom_ctc "  # noqa: SIM905 - words read better than quotes
    "nflx_ctc frame_cnt frame_skip_ref frame_skip_dist no_prediction version".split()
)
_TAKEN_LETTERS = frozenset("rdwhpbmonv")


@dataclass(frozen=True)
class VmafModel:
    """One VMAF model.

    Attributes:
        name: what rows say: the built-in version, or the file's name and the beginning of its hash.
        path: the JSON file; None for a model that is built into libvmaf.
    """

    name: str
    path: Path | None = None

    def argument(self, folder: Path) -> str:
        """Return libvmaf's model argument for a program whose working folder is ``folder``.

        A file is linked into the folder: libvmaf and ffmpeg's filters give a meaning to characters that may be in
        its path, and no way to quote them that both understand.
        """
        if self.path is None:
            return f"version={self.name}"
        link = folder / "model.json"
        if not link.is_symlink():
            link.symlink_to(self.path)
        return f"path={link.name}"


@dataclass(frozen=True)
class ModelChoice:
    """The model for clips of any height.

    Attributes:
        standard: for clips of fewer than ``UHD_LINES`` lines.
        uhd: for the others.
    """

    standard: VmafModel
    uhd: VmafModel

    def of(self, height: int) -> VmafModel:
        """Return the model for clips of that many lines."""
        return self.uhd if height >= UHD_LINES else self.standard

    @property
    def models(self) -> tuple[VmafModel, ...]:
        """The models that may be used, each once."""
        return tuple(dict.fromkeys((self.standard, self.uhd)))


def is_path(configured: str) -> bool:
    """Tell whether a model or an executable is configured as a path rather than by its name."""
    return configured.endswith(".json") or "/" in configured


def choose_models(configured: str) -> ModelChoice:
    """Return the model or models that a configuration stands for.

    Args:
        configured: a version built into libvmaf, the path of a JSON model, or ``auto`` for the 4K model from
            ``UHD_LINES`` lines up and the standard one below.

    Raises:
        ToolError: the file cannot be read or is not JSON, or the version has a character that none has.
    """
    if configured == AUTO_MODEL:
        return ModelChoice(VmafModel(DEFAULT_VMAF_MODEL), VmafModel(UHD_VMAF_MODEL))
    if is_path(configured):
        path = Path(configured).absolute()
        try:
            content = path.read_bytes()
            # libvmaf itself takes what it has read of half a file for the model.
            json.loads(content)
        except OSError as error:
            raise ToolError(f"vmaf_model: {path}: {error.strerror}") from error
        except ValueError as error:
            raise ToolError(f"vmaf_model: {path} is no JSON model: {error}") from error
        one = VmafModel(f"{path.name}@{hashlib.sha256(content).hexdigest()[:8]}", path)
    elif configured and configured.replace(".", "").replace("_", "").isalnum() and configured.isascii():
        one = VmafModel(configured)
    else:
        raise ToolError(
            f"vmaf_model is {configured!r}; it can be a version such as {DEFAULT_VMAF_MODEL}, the path of a JSON "
            f"model, or {AUTO_MODEL}"
        )
    return ModelChoice(one, one)


@dataclass(frozen=True)
class VmafTool:
    """Netflix's ``vmaf`` executable.

    Attributes:
        path: the executable, a path or a name on PATH.
        args: further arguments, such as ``("--backend", "cuda")`` of builds that have it.
        portable: whether it has to do without AVX2 and AVX-512, see ``open_tool``.
    """

    path: str
    args: tuple[str, ...] = ()
    portable: bool = False


@dataclass(frozen=True)
class VmafSettings:
    """How distortions are scored.

    Attributes:
        models: the models.
        extra_features: names of ``EXTRA_FEATURES`` that are computed as well.
        tool: the executable to use; None for the libvmaf inside ffmpeg.
    """

    models: ModelChoice
    extra_features: tuple[str, ...] = ()
    tool: VmafTool | None = None

    def extras(self, width: int, height: int) -> tuple[ExtraFeature, ...]:
        """Return the extra features that frames of that size are large enough for."""
        wanted = (EXTRA_FEATURES[name] for name in self.extra_features)
        return tuple(feature for feature in wanted if feature.is_defined(width, height))

    def extra_columns(self, width: int, height: int) -> tuple[str, ...]:
        """Return the values that these have for each frame, as libvmaf's log names them."""
        return tuple(column for feature in self.extras(width, height) for column in feature.columns)

    def extractors(self, width: int, height: int) -> tuple[str, ...]:
        """Return libvmaf's names of all that is computed beside the model."""
        return (*CANONICAL6_EXTRACTORS, *(feature.extractor for feature in self.extras(width, height)))


def vmaf_settings(
    model: str = DEFAULT_VMAF_MODEL,
    extra_features: Sequence[str] = (),
    backend: str = "libvmaf",
    path: str | None = None,
    args: Sequence[str] = (),
) -> VmafSettings:
    """Check how distortions are to be scored.

    Args:
        model: see ``choose_models``.
        extra_features: names of ``EXTRA_FEATURES``.
        backend: ``libvmaf`` (inside ffmpeg) or ``cli`` (a ``vmaf`` executable).
        path: the executable; None for the one on PATH.
        args: further arguments of the executable.

    Raises:
        ToolError: an unknown feature or backend, a model file that cannot be read, or an argument that would undo the
            recipe.
    """
    unknown = [name for name in extra_features if name not in EXTRA_FEATURES]
    if unknown:
        raise ToolError(f"extra_features has {unknown[0]}; there are {', '.join(EXTRA_FEATURES)}")
    models = choose_models(model)
    features = tuple(dict.fromkeys(extra_features))
    if backend == "libvmaf":
        if path or args:
            raise ToolError("vmaf_path and vmaf_args are for vmaf_backend cli; set that, or leave them out")
        return VmafSettings(models, features)
    if backend != "cli":
        raise ToolError(f"vmaf_backend is {backend}; it can be libvmaf or cli")
    taken = [arg for arg in args if _is_taken(arg)]
    if taken:
        raise ToolError(f"vmaf_args has {taken[0]}, which the recipe sets itself, or which would leave frames out")
    return VmafSettings(models, features, VmafTool(path or "vmaf", tuple(args)))


def is_option(arg: str, options: Iterable[str]) -> bool:
    """Tell whether an argument is, or abbreviates, one of some long options."""
    name = arg.removeprefix("--").partition("=")[0]
    return arg.startswith("--") and any(option.startswith(name) for option in options)


def _is_taken(arg: str) -> bool:
    if arg.startswith("--"):
        return is_option(arg, _TAKEN_OPTIONS)
    return arg.startswith("-") and not _TAKEN_LETTERS.isdisjoint(arg[1:])
