"""The peers, in the order of the tables: the standard library, manyhands, and the others by what they are.

A new one is a class derived from `Peer` in a file here, and an entry in `PEERS`.
"""

from benches.peer import Peer
from benches.peers import clusters, copies, executors, ours, queues, standard

PEERS: tuple[type[Peer], ...] = (
    standard.Multiprocessing,
    standard.ConcurrentFutures,
    ours.Manyhands,
    copies.Billiard,
    copies.Mpire,
    executors.Loky,
    executors.Joblib,
    executors.Pebble,
    clusters.Ray,
    clusters.Dask,
    queues.FasterFifo,
    queues.Subetha,
)
# Who a ratio is taken to: the first of these that has a figure.
BASELINES = (standard.Multiprocessing.name, standard.ConcurrentFutures.name)
OURS = ours.Manyhands.name
