"""The workloads, in the order of the tables.

A new one is a `Workload` in the list `WORKLOADS` of a module here; what it calls in workers belongs into `benches.calls`.
"""

from benches.workload import Workload
from benches.workloads import (
    awaited,
    backends,
    bulk,
    channels,
    executor,
    graphs,
    idle,
    objects,
    scale,
    small,
    starts,
    sync,
    uneven,
)

WORKLOADS: tuple[Workload, ...] = (
    *small.WORKLOADS,
    *uneven.WORKLOADS,
    *scale.WORKLOADS,
    *executor.WORKLOADS,
    *awaited.WORKLOADS,
    *graphs.WORKLOADS,
    *backends.WORKLOADS,
    *bulk.WORKLOADS,
    *objects.WORKLOADS,
    *starts.WORKLOADS,
    *idle.WORKLOADS,
    *sync.WORKLOADS,
    *channels.WORKLOADS,
)
