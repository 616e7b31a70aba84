"""Is everything there that a measurement needs? What is, what is not, and how to mend it."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from frnr_assets.cluster import require_distributed
from frnr_assets.corpus.manifests.entries import read_dataset
from frnr_assets.corpus.manifests.records import ManifestError
from frnr_assets.engine.workshop import memory_bytes
from frnr_assets.extract import ENCODE_DIR, SCRATCH_DIR
from frnr_assets.media.encoders import ENCODERS
from frnr_assets.media.ffmpeg import FFmpeg, require_encoder, require_vmaf_model
from frnr_assets.media.machine import usable_cores
from frnr_assets.media.process import ToolError, ToolRunner
from frnr_assets.media.sandbox import without_network
from frnr_assets.media.toolchain import open_ffmpeg, open_toolchain
from frnr_assets.media.vmaf import VmafModel, VmafTool
from frnr_assets.media.vmaf_backends import open_tool
from frnr_assets.settings import SETTINGS_FILE, Settings
from frnr_assets.vocabulary import DEFAULT_VMAF_MODEL, UHD_VMAF_MODEL

# Enough for the encodes in flight on a large machine, and for the tables of the whole of KonViD-150k.
LITTLE_SPACE_BYTES = 10 << 30


@dataclass(frozen=True)
class Diagnosis:
    """One thing that was looked at.

    Attributes:
        what: what it is.
        found: how it is, or what is wrong and how to mend it.
        needed: whether the configuration needs it.
        works: whether it is as it should be.
    """

    what: str
    found: str
    works: bool
    needed: bool = True


def examine(settings: Settings) -> Iterator[Diagnosis]:
    """Look at the tools, encoders, models, disks and datasets of a configuration, one by one."""
    try:
        runner = ToolRunner()
        ffmpeg = open_ffmpeg(settings.tools().ffmpeg_path, runner)
    except ToolError as error:
        yield Diagnosis("ffmpeg", str(error), works=False)
    else:
        yield Diagnosis("ffmpeg", f"{ffmpeg.version}, {ffmpeg.path}", works=True)
        yield _sandbox()
        yield from _encoders(settings, ffmpeg, runner)
        yield from _vmaf(settings, ffmpeg, runner)
    memory_gib = memory_bytes(settings.memory_gib) / 2**30
    yield Diagnosis(
        "machine", f"{settings.cores or usable_cores()} cores, {memory_gib:.1f} GiB of memory to use", works=True
    )
    yield from _cluster(settings)
    folders = {
        "data_root": settings.data_root.absolute(),
        "scratch_dir": settings.scratch_dir or SCRATCH_DIR.absolute(),
        "encode_dir": settings.encode_dir or ENCODE_DIR.absolute(),
    }
    for name, folder in folders.items():
        yield _folder(name, folder, needed=name != "encode_dir" or settings.keep_encodes)
    yield from _datasets(settings)


def _sandbox() -> Diagnosis:
    if without_network():
        return Diagnosis("sandbox", "tools run without network", works=True)
    found = "tools run with access to the network; user namespaces for this user would take it from them"
    return Diagnosis("sandbox", found, works=False, needed=False)


def _try(what: str, look: Callable[[], str], *, needed: bool = True) -> Diagnosis:
    try:
        return Diagnosis(what, look(), works=True, needed=needed)
    except ToolError as error:
        return Diagnosis(what, str(error), works=False, needed=needed)


def _encoders(settings: Settings, ffmpeg: FFmpeg, runner: ToolRunner) -> Iterator[Diagnosis]:
    for name, encoder in ENCODERS.items():
        yield _try(
            f"encoder {name}",
            partial(require_encoder, ffmpeg, encoder.name, encoder.version_pattern, runner),
            needed=name == settings.encoder,
        )


def _vmaf(settings: Settings, ffmpeg: FFmpeg, runner: ToolRunner) -> Iterator[Diagnosis]:
    vmaf = settings.vmaf_settings()
    known = dict.fromkeys((*vmaf.models.models, VmafModel(DEFAULT_VMAF_MODEL), VmafModel(UHD_VMAF_MODEL)))
    for model in known:
        yield _try(
            f"model {model.name}",
            partial(_filter, ffmpeg, model, runner),
            needed=vmaf.tool is None and model in vmaf.models.models,
        )
    tool = vmaf.tool or VmafTool(settings.vmaf_path or "vmaf")
    if vmaf.tool is not None or shutil.which(tool.path):
        yield _try("vmaf executable", partial(_tool, tool, vmaf.models.models, runner), needed=vmaf.tool is not None)


def _filter(ffmpeg: FFmpeg, model: VmafModel, runner: ToolRunner) -> str:
    return f"libvmaf {require_vmaf_model(ffmpeg, model, runner)} inside ffmpeg"


def _tool(tool: VmafTool, models: tuple[VmafModel, ...], runner: ToolRunner) -> str:
    usable, version = open_tool(tool, models, runner)
    if not usable.portable:
        return f"libvmaf {version}, {tool.path}"
    return (
        f"libvmaf {version}, {tool.path}; its fast code is wrong for some frame widths, so it is run "
        "without it, which is slower"
    )


def _cluster(settings: Settings) -> Iterator[Diagnosis]:
    if settings.scheduler is None:
        return
    try:
        require_distributed()
        # Only those who have a cluster have the package.
        from frnr_assets.cluster.cluster import survey  # noqa: PLC0415

        tools = settings.tools()
        answers = survey(settings.scheduler, tools, open_toolchain(tools, ToolRunner(tools.process)))
    except ToolError as error:
        yield Diagnosis("scheduler", str(error), works=False)
        return
    refused = {address: why for address, why in answers.items() if isinstance(why, str)}
    capacities = [capacity for capacity in answers.values() if not isinstance(capacity, str)]
    cores = sum(capacity.cores for capacity in capacities)
    memory_gib = sum(capacity.memory_bytes for capacity in capacities) / 2**30
    usable = f"{settings.scheduler} answers; workers with the versions of this machine: {len(capacities)}"
    found = f", with {cores} cores and {memory_gib:.1f} GiB of memory to use"
    advice = f"; start some with `dask worker {settings.scheduler}`"
    yield Diagnosis("scheduler", usable + (found if capacities else advice), works=bool(capacities))
    for address, why in sorted(refused.items()):
        yield Diagnosis(f"worker {address}", f"it is not used: {why}", works=False, needed=False)


def _folder(name: str, folder: Path, *, needed: bool) -> Diagnosis:
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    room = f"{free / 2**30:.1f} GiB free"
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Diagnosis(
            name, f"{there} is not a folder that can be written to; set {name}", works=False, needed=needed
        )
    if free < LITTLE_SPACE_BYTES:
        return Diagnosis(name, f"{folder}: only {room}; make space, or set {name}", works=False, needed=needed)
    return Diagnosis(name, f"{folder}: {room}", works=True, needed=needed)


def _datasets(settings: Settings) -> Iterator[Diagnosis]:
    if not settings.datasets:
        found = f"none is configured in a {SETTINGS_FILE} here; frnr extract needs none"
        yield Diagnosis("datasets", found, works=False, needed=False)
    for dataset in settings.datasets:
        what = f"dataset {dataset.name}"
        try:
            next(read_dataset(dataset), None)
        except ManifestError as error:
            yield Diagnosis(what, str(error), works=False)
        else:
            yield Diagnosis(what, f"{dataset.manifest}", works=True)
    for masters in settings.fr_datasets:
        there = masters.rows.is_file()
        advice = "" if there else " is not there; correct it in frnr.toml, or mount its disk"
        yield Diagnosis(f"dataset {masters.name}", f"{masters.rows}{advice}", works=there)
