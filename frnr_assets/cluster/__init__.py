"""Workers on other machines: what a Dask cluster is asked to do, and what its workers do.

Nothing but this page may be imported without the extra ``cluster``.
"""

from importlib.util import find_spec

from frnr_assets.media.process import ToolError


def require_distributed() -> None:
    """Find out whether the package for clusters is installed, without loading it.

    Raises:
        ToolError: it is not.
    """
    if find_spec("distributed") is None:
        raise ToolError(
            "scheduler is set, and the package distributed is not installed; install it with "
            "`pip install distributed`, or leave scheduler out"
        )
