"""MAC addresses made from an identity: locally administered, unicast, and the same again after a lost store. Pure.

sha256 over cluster name, L2 domain, namespace, VM, interface and a counter, each led by a zero octet, after the
label below. The first six octets of the digest, with the second-lowest bit of the first octet set (locally
administered) and the lowest clear (unicast; IEEE 802 §8.4). This never changes between versions of Homeport: guests
bind names of links, licences and DHCP reservations to their MAC.
"""

from collections.abc import Iterator
from hashlib import sha256

from homeport_api.addresses import MacAddress

LABEL = b"homeport mac 1"
ATTEMPTS = 256


def candidate_macs(cluster: str, domain: str, namespace: str, vm: str, interface: str) -> Iterator[MacAddress]:
    """The MACs of this identity in order of preference: the first, and where another owns it, the next. `domain` is the
    L2 domain, or the Network's MAC domain where a trunk has no addresses of its own. Ends after 256, which no network
    of less than 2⁴⁰ guests will see."""
    seed = sha256(LABEL)
    for part in (cluster, domain, namespace, vm, interface):
        seed.update(b"\0" + part.encode())
    for counter in range(ATTEMPTS):
        digest = seed.copy()
        digest.update(b"\0%d" % counter)
        octets = bytearray(digest.digest()[:6])
        octets[0] = octets[0] & 0b1111_1100 | 0b0000_0010
        yield MacAddress(octets.hex(":"))
