"""placeholder"""

from collections.abc import Iterator
from dataclasses import dataclass

from homeport_api.addresses import IpAddress
from homeport_dataplane.netns import Namespace


@dataclass(frozen=True, slots=True)
class Flow:
    source: IpAddress
    target: IpAddress
    protocol: int
    source_port: int | None
    target_port: int | None
    zone: int


class Conntrack:
    def __init__(self, namespace: Namespace) -> None: ...
    def flows(self, zone: int | None = None) -> Iterator[Flow]:
        yield from ()

    def delete(self, flow: Flow) -> bool:
        return True

    def close(self) -> None: ...
