"""A manyhands that dies, in the place of the real one."""

from __future__ import annotations

from tests.benches.fakes import PEERS as FAKES
from tests.benches.fakes import Crasher, Fake

from benches.peer import Crew


class Broken(Fake):
    name = "manyhands"

    def crews(self) -> dict[str, type[Crew]]:
        return {"pool": Crasher}


PEERS = [*FAKES, Broken]
