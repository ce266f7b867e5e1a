"""The workloads, in the order of the tables.

A new one is a `Workload` in the list `WORKLOADS` of a module here; what it calls in workers belongs into `benches.calls`.
"""

from benches.workload import Workload
from benches.workloads import bulk, channels, executor, idle, scale, small, starts, sync, uneven

WORKLOADS: tuple[Workload, ...] = (
    *small.WORKLOADS,
    *uneven.WORKLOADS,
    *scale.WORKLOADS,
    *executor.WORKLOADS,
    *bulk.WORKLOADS,
    *starts.WORKLOADS,
    *idle.WORKLOADS,
    *sync.WORKLOADS,
    *channels.WORKLOADS,
)
