"""The commands of the recipe, as somebody can read them: those that are run, from the same builders."""

import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path

from frnr_assets.media.decode import decode_args
from frnr_assets.media.encode import DISTORTION_FILE, EncodeSettings, encode_args
from frnr_assets.media.ffmpeg import GLOBAL_ARGS, source_args
from frnr_assets.media.reference import Reference
from frnr_assets.media.source import SourceRules
from frnr_assets.media.vmaf import VmafSettings
from frnr_assets.media.vmaf_backends import Pairs, build_vmaf_command, filter_args, log_name

_SOURCE, _DESCRIPTOR = "SOURCE", 3
_SCRATCH = Path("/SCRATCH")


def recipe_commands(
    reference: Reference, encodes: Sequence[tuple[EncodeSettings, int]], vmaf: VmafSettings, rules: SourceRules
) -> list[str]:
    """Return the commands that make and score distortions of a reference, ready for a shell: decode, encodes, score.

    The source is called SOURCE, and the folder of the encode SCRATCH.

    Args:
        reference: the facts of the source.
        encodes: how distortions are made, and at which CRF; one command each.
        vmaf: how they are scored.
        rules: which files may be sources.
    """
    probe, working = reference.probe, reference.working
    opened = source_args(_DESCRIPTOR, rules, damaged=bool(reference.decode_errors))
    allowed = rules.frames_allowed(probe.width, probe.height)
    commands = [_ffmpeg(decode_args(opened, probe, working, probe.rate, frames=allowed))]
    commands += [_ffmpeg(encode_args(opened, reference, crf, settings)) for settings, crf in encodes]
    with tempfile.TemporaryDirectory(prefix="frnr-recipe-") as folder:
        model = vmaf.models.of(working.height).argument(Path(folder))
    if vmaf.tool is None:
        part = encodes[0][0].part_of(reference)
        pairs = Pairs(Path(_SOURCE), reference, part, (_SCRATCH / DISTORTION_FILE,), rules)
        commands.append(_ffmpeg(filter_args(pairs, opened, vmaf, model)))
    else:
        extractors = vmaf.extractors(working.width, working.height)
        legs = ("REFERENCE", "DISTORTION")
        scored = build_vmaf_command(vmaf.tool, *legs, working, model=model, extractors=extractors, log=log_name(0))
        commands.append(shlex.join([Path(vmaf.tool.path).name, *scored[1:]]))
    return commands


def _ffmpeg(args: Sequence[str]) -> str:
    return f"{shlex.join(['ffmpeg', *GLOBAL_ARGS, *args])} {_DESCRIPTOR}< {_SOURCE}"
