"""All peers and workloads by name, and those of modules that a caller adds (`--also MODULE`).

Such a module has `PEERS` (classes) or `WORKLOADS` or both; a peer of a name that is there already takes its place.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from benches.peer import Peer
from benches.peers import PEERS
from benches.workload import Workload
from benches.workloads import WORKLOADS


def load(also: Iterable[str] = ()) -> tuple[dict[str, Peer], list[Workload]]:
    """Everything there is to choose from."""
    peers, workloads = [*PEERS], [*WORKLOADS]
    for name in also:
        module = importlib.import_module(name)
        peers += getattr(module, "PEERS", ())
        workloads += getattr(module, "WORKLOADS", ())
    return {peer.name: peer() for peer in peers}, workloads
