"""On PYTHONPATH, lets the processes of a cluster wait shorter: their server is one process of this machine, without the
gateways and read replicas for which the skill waits.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

WAITS = {
    "doubleword.jobs.exactly_once": {"LAG_S": 0.5, "LOOK_AGAIN_S": 0.25, "SETTLE_S": 3.0},
    "doubleword.jobs.watching": {"FIRST_WAIT_S": 0.05},
}


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
