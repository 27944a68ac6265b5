"""A side's table and the program that is in it: applies what differs, and reads back what is really there.

What the kernel was last given is remembered, so an update costs what it changes. In doubt (at the start, when somebody
else changed the table, when the kernel refused) it is read anew.
"""

import logging
from collections.abc import Collection

from homeport_agent.switch import Side
from homeport_dataplane.errors import RulesetRefused
from homeport_policy import forward
from homeport_policy.listing import read_key
from homeport_policy.program import EGRESS, INGRESS, NOTHING, Program
from homeport_policy.render import render
from homeport_policy.ruleset import Change, element
from homeport_policy.update import Present, is_of_program, key_of, plan_update, present_of

log = logging.getLogger(__name__)


class Table:
    """Not thread-safe: its owner calls from one thread at a time."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._present: Present | None = None
        self.program: Program = NOTHING
        """What the kernel was last given."""
        self.applied = False
        """Whether it was given anything by this process."""

    def apply(self, program: Program, judged: Collection[str] = ()) -> bool:
        """Makes the kernel have this program, and ports `judged` be asked for every packet, in one transaction. False
        when nothing had to change. Raises RulesetRefused, and then the kernel has what it had before."""
        try:
            changed = self._apply(program, judged)
        except RulesetRefused as error:
            log.warning("the table is not as it was left, reading it anew side=%s error=%s", self._side.table, error)
            self._present = None
            changed = self._apply(program, judged)
        self.program, self.applied = program, True
        return changed

    def _apply(self, program: Program, judged: Collection[str]) -> bool:
        if self._present is None:
            self._present = self.read()
        text = plan_update(self._present, program, self._side.table)
        if not text:
            return False
        marks = tuple(element(forward.JUDGED, port) for port in judged)
        self._present = None  # unknown, should the next line not return
        self._side.nft.apply(render(Change(self._side.table, add=marks)) + text)
        self._present = present_of(program)
        return True

    def judged(self, ports: Collection[str]) -> None:
        """The flows of these ports were looked through: established ones pass by themselves again."""
        marks = tuple(element(forward.JUDGED, port) for port in ports)
        self._side.nft.apply(render(Change(self._side.table, delete=marks)))

    def marked(self) -> frozenset[str]:
        """The ports whose flows are to be looked through, as the kernel has it."""
        return self._side.nft.elements(forward.JUDGED, self._side.table)

    def doubt(self) -> None:
        """Somebody else may have changed the table."""
        self._present = None

    def read(self) -> Present:
        """What the kernel has of programs."""
        owned = self._side.nft.list_owned(self._side.table)
        return Present(
            {name: rules for name, rules in owned.rules.items() if is_of_program(name)},
            {
                name: frozenset(read_key(key_of(name).type, text) for text in keys)
                for name, keys in owned.elements.items()
                if is_of_program(name)
            },
            {
                name: {port: str(chain) for port, chain in owned.maps.get(name, {}).items()}
                for name in (EGRESS, INGRESS)
            },
            owned.elements.get(forward.ISOLATED, frozenset()),
            frozenset(name for name in owned.counters if is_of_program(name)),
        )

    def leads(self) -> dict[str, dict[str, str]]:
        """Where ports lead, as the kernel has it now: the proof that what was applied is there."""
        return {
            name: {port: str(chain) for port, chain in self._side.nft.map_of(name, self._side.table).items()}
            for name in (EGRESS, INGRESS)
        }
