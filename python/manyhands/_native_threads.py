"""How many threads native libraries use in a worker: OpenMP, BLAS and their like.

Always: what is loaded already is told by threadpoolctl, if that is installed; what is loaded later reads the environment.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # for type checkers it is true; typing itself takes long to import
if TYPE_CHECKING:
    from typing import Any

__all__: list[str] = []

_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)
# Whether it is worth the time to look for libraries that are loaded already.
_USERS = ("numpy", "scipy", "sklearn", "torch")

# Lifted again when it is dropped.
_limits: Any = None


def cap(threads: int) -> None:
    """Let native libraries of this process use so many threads."""
    global _limits
    for name in _VARIABLES:
        os.environ[name] = str(threads)
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_num_threads"):
        torch.set_num_threads(threads)
    if any(name in sys.modules for name in _USERS):
        try:
            import threadpoolctl  # type: ignore[import-not-found]
        except ImportError:
            return
        _limits = threadpoolctl.threadpool_limits(threads)
