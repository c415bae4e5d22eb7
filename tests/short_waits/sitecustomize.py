"""On PYTHONPATH, shortens waits where no fixture reaches: SHORT_WAITS has them, as `module.NAME=seconds`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

WAITS: dict[str, dict[str, float]] = {}
for wait in os.environ.get("SHORT_WAITS", "").split():
    constant, _, seconds = wait.partition("=")
    WAITS.setdefault(constant.rpartition(".")[0], {})[constant.rpartition(".")[2]] = float(seconds)


class Shortened:
    """Finds the modules that say how long is waited; each is changed as soon as it was run."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """As the `find_spec` of `importlib.abc.MetaPathFinder`."""
        spec = PathFinder.find_spec(name, path, target) if name in WAITS else None
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            run = loader.exec_module

            def run_and_change(module: ModuleType) -> None:
                run(module)
                vars(module).update(WAITS[name])

            loader.exec_module = run_and_change
        return spec


sys.meta_path.insert(0, Shortened)
