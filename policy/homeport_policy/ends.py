"""Two ends as somebody names them, and the packets between them: which Interfaces, in which L2 domain, which addresses.
Pure.

    namespace/VM[:interface] or an address, twice  ──►  pairs of endpoints in one L2 domain  ──►  one packet a family
                                                        none: NotFound; several: Invalid, naming them

An address that an Interface has in the domain stands for that Interface; any other is outside.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from homeport_api.addresses import IpAddress, L2Domain
from homeport_api.errors import FieldError, Invalid, NotFound
from homeport_api.names import parse_port_name
from homeport_api.workload import Protocol
from homeport_policy.evaluate import Packet
from homeport_policy.facts import Facts
from homeport_policy.snapshot import Endpoint, WorkloadKey

FAMILIES = (4, 6)
NAMED = 10
"""As many names a message lists of what there is."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What is sent. Without a protocol it is an ICMP echo request; `port` is a number, or a name that the receiver
    has for one."""

    protocol: Protocol | None = None
    port: int | str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """`source` and `target` are as somebody wrote them; one without a namespace is in `namespace`."""

    source: str
    target: str
    probe: Probe = Probe()
    network: str | None = None
    namespace: str = "default"


def read_probe(text: str) -> Probe:
    """NUMBER or NAME, `/tcp`, `/udp` or `/sctp` behind it; TCP when that is left out. Raises ValueError."""
    port, slash, word = text.partition("/")
    try:
        protocol = Protocol(word.upper()) if slash else Protocol.TCP
        if port.isascii() and port.isdigit():
            if not 1 <= int(port) <= 65535:
                raise ValueError
            return Probe(protocol, int(port))
        return Probe(protocol, parse_port_name(port))
    except ValueError:
        raise ValueError(
            f"{text!r} is not a port: write NUMBER/PROTOCOL or NAME/PROTOCOL, like 5432/tcp; the protocol is tcp, udp "
            "or sctp, the number 1 to 65535"
        ) from None


def read_address(text: str) -> IpAddress | None:
    """The address that an end is given as; None for a name."""
    try:
        return None if "%" in text else ip_address(text)
    except ValueError:
        return None


def packets_of(facts: Facts, asked: Asked) -> tuple[Packet, ...]:
    """One packet for each family in which both ends have an address, IPv4 first. Raises NotFound for what does not
    exist or has nothing in common, Invalid for what is said ambiguously or not at all."""
    if asked.network is not None and facts.network(asked.network) is None:
        raise NotFound(f"Network {asked.network} does not exist{_there_are(facts.networks())}")
    source, target = _End.read(facts, asked, asked.source), _End.read(facts, asked, asked.target)
    pair = _one(facts, asked, source, target)
    protocol, port = _port(facts, asked.probe, pair)
    found = []
    for version in FAMILIES:
        ends = [end.address(facts, each, version) for end, each in ((source, pair.sender), (target, pair.receiver))]
        if ends[0] is not None and ends[1] is not None:
            sender, receiver = (each.key if each else None for each in (pair.sender, pair.receiver))
            found.append(Packet(pair.domain, ends[0], ends[1], protocol, port, sender, receiver))
    if not found:
        raise NotFound(
            f"{asked.source} and {asked.target} have no addresses of one family that Homeport knows of: "
            f"{source.addresses(pair.sender)}, and {target.addresses(pair.receiver)}"
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Pair:
    domain: L2Domain
    sender: Endpoint | None
    receiver: Endpoint | None


@dataclass(frozen=True, slots=True)
class _End:
    """One end: an address, or the endpoints of a VM that the name may mean."""

    text: str
    given: IpAddress | None
    endpoints: tuple[Endpoint, ...] = ()

    @classmethod
    def read(cls, facts: Facts, asked: Asked, text: str) -> "_End":
        address = read_address(text)
        if address is not None:
            return cls(text, address)
        return cls(text, None, _on_network(facts, asked.network, text, _endpoints(facts, asked.namespace, text)))

    def in_domain(self, facts: Facts, domain: L2Domain) -> tuple[Endpoint | None, ...]:
        """Who it may be there; an address that nobody has is outside."""
        if self.given is not None:
            return facts.owners(domain, self.given) or (None,)
        return tuple(each for each in self.endpoints if each.domain == domain)

    def address(self, facts: Facts, endpoint: Endpoint | None, version: int) -> IpAddress | None:
        """What it sends from or is sent to: the one that was given, else its first own, and no link-local one if there
        is another."""
        if self.given is not None:
            return self.given if self.given.version == version else None
        assert endpoint is not None  # only an address is outside
        interface = facts.interface(endpoint.key.interface)
        own = [each.ip for each in interface.status.addresses] if interface else []
        ranked = [*(each for each in own if each in endpoint.addresses), *sorted(endpoint.addresses, key=int)]
        fitting = sorted((each for each in ranked if each.version == version), key=lambda each: each.is_link_local)
        return fitting[0] if fitting else None

    def addresses(self, endpoint: Endpoint | None) -> str:
        if self.given is not None:
            return f"{self.given} is of IPv{self.given.version}"
        known = [] if endpoint is None else sorted(map(str, endpoint.addresses))
        return f"{self.text} has {', '.join(known) or 'none'}"


def _endpoints(facts: Facts, namespace: str, text: str) -> tuple[Endpoint, ...]:
    """Of a VM by its name, all; with `:interface` behind it, those of that one, by the VM's name for it or its own."""
    before, slash, rest = text.partition("/")
    where, name = (before, rest) if slash else (namespace, text)
    if not where or not name or "/" in name:
        raise Invalid([FieldError("", f"{text!r} is neither an address nor a VM: write NAMESPACE/VM[:INTERFACE]")])
    whole = WorkloadKey(where, name)
    if found := facts.interfaces_of(whole):
        return tuple(each for key in found for each in facts.endpoints_of(key))
    vm, colon, own = name.rpartition(":")
    found = facts.interfaces_of(WorkloadKey(where, vm)) if colon else ()
    if not found:
        there = [str(each) for each in facts.workloads() if each.namespace == where]
        somewhere = there or [str(each) for each in facts.workloads()]
        raise NotFound(f"no VM or pod {where}/{vm or name} has an Interface{_there_are(somewhere)}")
    names = {key: (interface.spec.interface if (interface := facts.interface(key)) else None) for key in found}
    chosen = [key for key in found if own in (names[key], key.name)]
    if not chosen:
        there = [str(names[key] or key.name) for key in found]
        raise NotFound(f"{where}/{vm} has no interface {own}{_there_are(there)}")
    return tuple(each for key in chosen for each in facts.endpoints_of(key))


def _on_network(facts: Facts, name: str | None, text: str, endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """Those on the Network, or else in its L2 domain, through another Network that is in it too."""
    network = facts.network(name) if name is not None else None
    if network is None:
        return endpoints
    on = tuple(each for each in endpoints if each.network == network.name)
    found = on or tuple(each for each in endpoints if each.domain == network.l2_domain)
    if not found:
        there = ", ".join(sorted({each.network for each in endpoints}))
        raise NotFound(f"{text} is not on Network {network.name}; it is on {there}")
    return found


def _one(facts: Facts, asked: Asked, source: _End, target: _End) -> _Pair:
    """The one pair that is meant."""
    if source.given is not None and target.given is not None and source.given.version != target.given.version:
        raise Invalid([FieldError("", f"{source.given} and {target.given} are of two families")])
    pairs = [
        _Pair(domain, sender, receiver)
        for domain in _domains(facts, asked, source, target)
        for sender in source.in_domain(facts, domain)
        for receiver in target.in_domain(facts, domain)
        if sender is not None or receiver is not None
    ]
    others = [each for each in pairs if each.sender is None or each.sender != each.receiver]
    best = _best(facts, source, target, others)
    if len(best) == 1:
        return best[0]
    if best:
        choices = "; ".join(_told(facts, source, target, pair) for pair in best[:NAMED])
        raise Invalid([FieldError("", f"ambiguous, say which interface, or --network: {choices}{_more(best)}")])
    if pairs:
        raise Invalid([FieldError("", f"{asked.source} and {asked.target} are the same Interface")])
    if source.given is not None and target.given is not None:
        raise NotFound(
            f"neither {source.given} nor {target.given} is an address of an Interface: no policy is about them"
        )
    raise NotFound(
        f"{asked.source} and {asked.target} have no L2 domain in common: {_where(source)}, {_where(target)}. Through a "
        "router they are addresses to one another: ask with the address of the far end"
    )


def _domains(facts: Facts, asked: Asked, source: _End, target: _End) -> Sequence[L2Domain]:
    """Where both ends may be."""
    named = [{each.domain for each in end.endpoints} for end in (source, target) if end.given is None]
    if named:
        return sorted(set.intersection(*named))
    network = facts.network(asked.network) if asked.network is not None else None
    given = {source.given, target.given}
    return sorted(
        {
            each.domain
            for each in facts.endpoints()
            if given & each.addresses
            and (network is None or network.name == each.network or network.l2_domain == each.domain)
        }
    )


def _best(facts: Facts, source: _End, target: _End, pairs: list[_Pair]) -> list[_Pair]:
    """Where one end is an address, what has an Interface there goes before what is only on-link there, and that before
    the rest."""
    if source.given is None and target.given is None:
        return pairs
    both = [pair for pair in pairs if pair.sender is not None and pair.receiver is not None]
    return both or [pair for pair in pairs if _on_link(facts, source, target, pair)] or pairs


def _on_link(facts: Facts, source: _End, target: _End, pair: _Pair) -> bool:
    endpoint, outside = (pair.sender, target.given) if pair.sender else (pair.receiver, source.given)
    interface = facts.interface(endpoint.key.interface) if endpoint else None
    return interface is not None and any(outside in each.network for each in interface.status.addresses if outside)


def _port(facts: Facts, probe: Probe, pair: _Pair) -> tuple[Protocol | None, int | None]:
    if not isinstance(probe.port, str):
        return probe.protocol, probe.port
    if pair.receiver is None:
        raise Invalid([FieldError("--port", f"{probe.port!r}: what is outside has no named ports; give a number")])
    ports = facts.workload(pair.receiver.workload).ports
    for named in ports:
        if (named.name, named.protocol) == (probe.port, probe.protocol):
            return named.protocol, named.number
    there = [f"{each.name}={each.number}/{each.protocol.lower()}" for each in ports]
    word = (probe.protocol or Protocol.TCP).lower()
    raise NotFound(f"{pair.receiver.workload} has no port {probe.port}/{word}{_there_are(there)}")


def _told(facts: Facts, source: _End, target: _End, pair: _Pair) -> str:
    ends = ((source, pair.sender), (target, pair.receiver))
    return " to ".join(end.text if each is None else name_of(facts, each) for end, each in ends) + f" in {pair.domain}"


def name_of(facts: Facts, endpoint: Endpoint) -> str:
    """As it may be given: `namespace/VM:interface`."""
    interface = facts.interface(endpoint.key.interface)
    own = (interface.spec.interface if interface else None) or endpoint.key.interface.name
    return f"{endpoint.workload}:{own}"


def _where(end: _End) -> str:
    domains = ", ".join(sorted({f"{each.network} ({each.domain})" for each in end.endpoints}))
    return f"{end.text} is on {domains or 'none'}"


def _there_are(names: Iterable[str]) -> str:
    known = list(names)
    return f"; there are {', '.join(known[:NAMED])}{_more(known)}" if known else "; there are none"


def _more(known: Sequence[object]) -> str:
    return f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
