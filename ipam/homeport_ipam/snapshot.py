"""What a planner may look at. Held by `view.Reading`, which also remembers what was looked at.

Nothing here promises to be fresh: a plan guards what it saw, and a refusal is confirmed before anybody hears of it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from homeport_api.addresses import IpAddress, L2Domain, MacAddress, MacDomain
from homeport_api.attachment import Attachment, AttachmentKey
from homeport_api.interface import Interface, InterfaceKey
from homeport_api.network import Network
from homeport_api.owner import Owner
from homeport_ipam.occupancy import Occupancy


@dataclass(frozen=True, slots=True)
class Claim:
    """An address or MAC key: whose it is, and the key's mod revision."""

    owner: Owner
    revision: int

    def by(self, key: InterfaceKey, uid: str) -> bool:
        """Name and uid: an object made again under its old name owns nothing of the old one's."""
        return self.owner.interface == key and self.owner.uid == uid


@dataclass(frozen=True, slots=True)
class Pointer:
    """An index key: the Interface it points to."""

    interface: InterfaceKey
    revision: int


class Snapshot(Protocol):
    """`meta.revision` of objects and `revision` of attachments are mod revisions; None means not there."""

    def network(self, name: str) -> Network | None: ...
    def interface(self, key: InterfaceKey) -> Interface | None: ...
    def pointer(self, namespace: str, vm: str, interface: str) -> Pointer | None: ...
    def attachment(self, key: AttachmentKey) -> Attachment | None: ...
    def boot_id(self, node: str) -> str | None: ...
    def address(self, domain: L2Domain, address: IpAddress) -> Claim | None: ...
    def macs(self, domain: MacDomain, mac: MacAddress) -> Mapping[str, Claim]:
        """Scope to claim."""
        ...

    def resting(self, domain: L2Domain, address: IpAddress) -> Claim | None: ...
    def rested_by(self, domain: L2Domain, key: InterfaceKey) -> Collection[IpAddress]:
        """Addresses at rest that this Interface, or one of its name before it, owned last."""
        ...

    def occupancy(self, network: Network, version: int) -> Occupancy: ...
