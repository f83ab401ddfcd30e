"""One round: who looks when, who is held, who is killed."""

import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from autoscaler.aws.clients import Clients
from autoscaler.reconcile import LEASE_MARGIN_S
from autoscaler.simulator.cluster import START_S
from tests.aws.table import STATE
from tests.race.arena import Arena
from tests.race.evidence import Evidence
from tests.race.judge import Ended
from tests.race.ports import INVOCATION_S, Stop
from tests.race.schedule import Kind, Round
from tests.race.worker import Look, Looked, store_of

HEAD_START_S: Final = 0.01
"""Wall time between the order to look and the look, so that the last process has heard of it as well."""
WITHIN_LEASE_S: Final = 5
AFTER_LEASE_S: Final = int(INVOCATION_S) + LEASE_MARGIN_S + 30
_numbers: Final = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Where races take place."""

    url: str
    clients: Clients
    folder: Path
    """For the evidence of each round."""


class Play:
    """One round of a race, from an untouched item to the last process' end."""

    def __init__(self, arena: Arena, ground: Ground, name: str, played: Round) -> None:
        self._arena = arena
        self._clients = ground.clients
        self._round = played
        self._everybody = range(arena.processes)
        self._cluster_id = f"{name}-{played.number}"
        self._evidence = Evidence(ground.folder / f"{self._cluster_id}.jsonl")
        self._store = store_of(ground.clients, self._cluster_id, START_S)
        self._looked: list[Looked] = []
        self._while_leased: list[Looked] = []
        self._late_holder: Looked | None = None
        self._contenders: int | None = None
        self._killed = 0

    def run(self) -> Ended:
        """Play it. Raises Stuck."""
        self._clients.begin()
        if self._round.start is not None:
            self._store.save(self._round.start, 0)
        match self._round.kind:
            case Kind.TOGETHER:
                self._look(self._everybody)
            case Kind.SAME_WRITE:
                self._contest()
            case Kind.SLOW_HOLDER:
                self._contest(Stop.EFFECT)
                self._while_leased += self._arena.looked.values()
            case Kind.KILLED_BEFORE:
                self._contest(Stop.EFFECT)
                self._kill_the_winner()
            case Kind.KILLED_AFTER:
                self._contest(Stop.ANSWER)
                self._kill_the_winner()
            case Kind.OVERTAKEN:
                self._contest(Stop.EFFECT)
                self._overtake()
        self._let_go()
        self._looked += self._arena.looked.values()
        return self._ended()

    def _look(self, who: Iterable[int], *stops: Stop, later_s: int = 0) -> None:
        """These look at the same moment, until each has ended or is held."""
        at_s = time.monotonic() + HEAD_START_S
        self._arena.begin(
            {
                member: Look(
                    number=next(_numbers),
                    cluster_id=self._cluster_id,
                    need=self._round.need,
                    evidence=self._evidence.path,
                    webhook=(member + self._round.number) % 2 == 1,
                    at_s=at_s,
                    later_s=later_s,
                    listed=self._round.listed,
                    stops=frozenset(stops),
                )
                for member in who
            }
        )
        self._arena.wait()

    def _let_go(self) -> None:
        self._arena.go()
        self._arena.wait()

    def _contest(self, *stops: Stop) -> None:
        """All decide, all write at once; the winner is held at its stop, the others run to their end."""
        self._look(self._everybody, Stop.WRITE, *stops)
        self._contenders = len(self._arena.held)
        self._let_go()

    def _kill_the_winner(self) -> None:
        """Nobody may act while the dead one's lease lasts; afterwards one goes on where it stopped."""
        self._looked += self._arena.looked.values()
        for member in tuple(self._arena.held):
            self._arena.kill(member)
            self._killed += 1
        self._arena.wait()
        self._look(self._everybody[:2], later_s=WITHIN_LEASE_S)  # a sweep and a webhook
        leased = [self._arena.looked[member] for member in self._everybody[:2]]
        self._while_leased += leased
        self._looked += leased
        self._look(self._everybody, later_s=AFTER_LEASE_S)

    def _overtake(self) -> None:
        """The lease of the one who is held ends, another goes on with its work, and then it wakes."""
        self._looked += self._arena.looked.values()
        holders = tuple(self._arena.held)
        self._look([member for member in self._everybody if member not in holders], later_s=AFTER_LEASE_S)
        self._let_go()
        self._late_holder = next((self._arena.looked[holder] for holder in holders), None)

    def _ended(self) -> Ended:
        state, version = self._store.load()
        key = {"cluster_id": {"S": self._cluster_id}, "record": {"S": "STATE"}}
        item = self._clients.dynamodb().get_item(TableName=STATE, Key=key, ConsistentRead=True).get("Item", {})
        return Ended(
            played=self._round,
            processes=self._arena.processes,
            entries=self._evidence.read(),
            state=state,
            version=version,
            in_progress=item.get("scaling_in_progress", {}).get("BOOL"),
            recorded=tuple(self._store.history(limit=50)),
            looked=tuple(self._looked),
            while_leased=tuple(self._while_leased),
            late_holder=self._late_holder,
            contenders=self._contenders,
            killed=self._killed,
        )
