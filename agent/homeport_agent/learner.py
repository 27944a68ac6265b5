"""Addresses that guests take by themselves: what the kernel tells of their claims becomes bindings in the store.

    rule `log group 4101`, limited for each port ──► PacketLog ──► port, address ──► queue ──► one worker
                                                                                                  │
       the port's guards  ◄── bound ── one transaction ◄── budget of the Interface ◄── the view's word: free here?

A guest that claims thousands of addresses costs four log messages a second and nobody anything else: what is refused is
refused by the view, without the store; what is bound is limited for each Interface, and evicts only what was not in use
for a while. A claim that is lost (no store just now, too many at once) is made again by the guest's next packet.
"""

import logging
import queue
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from homeport_agent import metrics
from homeport_agent.listener import Listener
from homeport_agent.placement import Place
from homeport_agent.ports import Port
from homeport_agent.switch import Switch
from homeport_agent.worker import Worker
from homeport_api.addresses import IpAddress, L2Domain
from homeport_api.errors import HomeportError
from homeport_api.interface import Interface, InterfaceKey
from homeport_dataplane import links
from homeport_dataplane.frames import claimed_address
from homeport_dataplane.netns import Namespace
from homeport_dataplane.nflog import Logged
from homeport_ipam import learn
from homeport_ipam.allocator import Allocator
from homeport_ipam.learn import Answer, Refusal, plan_learn
from homeport_ipam.view import View
from homeport_policy import guards

log = logging.getLogger(__name__)

SECONDS_A_BINDING = 10.0
"""An Interface may have `learn.MOST` bindings at once, and then one in this time."""
TELL_AGAIN = 60.0
"""Seconds for which a refusal for the same reason is not said again in the log."""
MOST_WAITING, MOST_REMEMBERED = 4096, 4096
LIMITED = "too many at once"

Users = Callable[[L2Domain, IpAddress], Collection[InterfaceKey]]
"""Which Interfaces have an address in a domain or are allowed to use it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An address that the guest on a port is about to take."""

    port: str
    address: IpAddress


def claim_of(namespace: Namespace, logged: Logged) -> Claim | None:
    """None for what claims nothing, or comes from a link that is gone. The name is looked up each time: an index may be
    another link's by now."""
    address = claimed_address(logged.ethertype, logged.payload)
    if address is None or logged.in_index is None or logged.vlan is not None:
        return None
    link = links.find_index(namespace, logged.in_index)
    return None if link is None else Claim(link.name, address)


class Budget:
    """How many bindings each Interface may still have just now: a bucket that holds `learn.MOST`. Pure."""

    def __init__(self) -> None:
        self._full_at: dict[str, float] = {}

    def spend(self, uid: str, now: float) -> bool:
        """False when there is nothing left; else it is less by one."""
        full_at = max(self._full_at.get(uid, now), now)
        if full_at - now > (learn.MOST - 1) * SECONDS_A_BINDING:
            return False
        if len(self._full_at) >= MOST_REMEMBERED:
            self._full_at = {each: at for each, at in self._full_at.items() if at > now}
        self._full_at[uid] = full_at + SECONDS_A_BINDING
        return True


def unused(interface: Interface, ages: Mapping[IpAddress, float], idle: float, now: float) -> list[IpAddress]:
    """The learned addresses that were not used for `idle` seconds, the longest unused first: pure. Use on another node
    is not known here, so an address counts as used when the Interface came."""
    holder = interface.active_holder
    came = holder.since if holder is not None else 0.0
    last = {each.address: max(each.since, came, now - ages.get(each.address, now)) for each in interface.status.learned}
    return sorted((each for each in last if now - last[each] >= idle), key=lambda each: last[each])


class Claims(Listener):
    """`take` is told of each."""

    def __init__(self, switch: Switch, take: Callable[[Claim], None]) -> None:
        super().__init__("claims", "addresses are not learned", switch)
        self._take = take

    def group(self, place: Place) -> int | None:
        side = self._switch.side(place)
        return guards.claims_group(side.placement, side.table) if side.ruled else None

    def hear(self, place: Place, logged: Logged) -> None:
        claim = claim_of(self._switch.side(place).namespace, logged)
        if claim is not None:
            self._take(claim)


class Learner(Worker):
    """`start` begins to listen, and to work off what is heard. `taken` is told of each new binding."""

    def __init__(
        self,
        switch: Switch,
        view: View,
        allocator: Allocator,
        users: Users,
        store_up: Callable[[], bool],
        taken: Callable[[Port, IpAddress], None],
        idle: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__("learn")
        self._switch = switch
        self._view = view
        self._allocator = allocator
        self._users = users
        self._store_up = store_up
        self._taken = taken
        self._idle = idle
        self._clock = clock
        self._budget = Budget()
        self._told: dict[tuple[str, str], float] = {}
        self._queue: queue.Queue[Claim] = queue.Queue(MOST_WAITING)
        self._claims = Claims(switch, self._take)

    def start(self) -> None:
        super().start()
        self._claims.start()

    def close(self) -> None:
        self._claims.close()
        super().close()

    def _take(self, claim: Claim) -> None:
        try:
            self._queue.put_nowait(claim)
        except queue.Full:
            metrics.claims_refused.labels(LIMITED).inc()
        else:
            self.wake()

    def work(self) -> None:
        while not (self.closing or self._queue.empty()):
            claim = self._queue.get()
            try:
                self._judge(claim)
            except HomeportError as error:
                log.info("not learned just now port=%s address=%s error=%s", claim.port, claim.address, error)
            except Exception:
                log.exception("not learned for a reason nobody foresaw port=%s address=%s", claim.port, claim.address)

    def _judge(self, claim: Claim) -> None:
        port = self._switch.opened().get(claim.port)
        if port is None or claim.address in port.rights.addresses or not self._store_up():
            return
        answer, interface = self._ask_view(port, claim.address)
        if answer is None:
            if not self._budget.spend(port.nic.uid, time.monotonic()):
                self._refuse(port, LIMITED, f"{claim.address}: {LIMITED}")
                return
            full = interface is not None and len(interface.status.learned) >= learn.MOST
            may_go = self._unused(port, interface) if interface is not None and full else []
            answer = self._allocator.learn(port.nic, claim.address, self._view.networks(), may_go)
            if answer.refusal is None:
                metrics.learned.inc()
                log.info(
                    "learned interface=%s address=%s evicted=%s",
                    *(port.nic.interface, claim.address, answer.evicted or "-"),
                )
                self._taken(port, claim.address)
        if answer.refusal is None:
            self._switch.let_use(port.name, claim.address, answer.evicted)
        elif answer.refusal is not Refusal.STALE:
            self._refuse(port, answer.refusal.value, answer.text)

    def _unused(self, port: Port, interface: Interface) -> list[IpAddress]:
        return unused(interface, self._switch.last_used(port), self._idle, self._clock())

    def _ask_view(self, port: Port, address: IpAddress) -> tuple[Answer | None, Interface | None]:
        """What is known without the store; no answer where that has to be asked."""
        networks = self._view.networks()
        with self._view.reading() as reading:
            interface = reading.interface(port.nic.interface)
            drafted, answer = plan_learn(reading, port.nic, address, networks, (), self._clock())
        if drafted is None and answer.refusal is not Refusal.FULL:
            return answer, interface
        domain = port.domain
        others = [each for each in self._users(domain, address) if each != port.nic.interface] if domain else []
        if others:
            return Answer(f"{address} is allowed to Interface {others[0]}", Refusal.TAKEN), interface
        return None, interface

    def _refuse(self, port: Port, reason: str, text: str) -> None:
        metrics.claims_refused.labels(reason).inc()
        now = time.monotonic()
        if now < self._told.get((port.name, reason), 0.0):
            return
        if len(self._told) >= MOST_REMEMBERED:
            self._told.clear()
        self._told[port.name, reason] = now + TELL_AGAIN
        level = logging.INFO if reason == Refusal.NOT_LEARNED else logging.WARNING
        log.log(level, "not learned interface=%s: %s", port.nic.interface, text)
