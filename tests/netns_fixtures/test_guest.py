"""Real guests boot, reach each other over a bridge, and come back after a kill."""

from collections.abc import Callable

from homeport_netns_fixtures.guest import Nic
from homeport_netns_fixtures.netns import Namespace
from homeport_netns_fixtures.plugin import GuestMaker


def test_two_guests_on_a_bridge(netns: Callable[[str], Namespace], qemu: GuestMaker) -> None:
    host = netns("host")
    host.ip("link add br0 type bridge", "link set br0 up")
    macs = {"web": "02:00:00:00:00:01", "db": "02:00:00:00:00:02"}
    web = qemu(host, "web", [Nic("tap-web", macs["web"])], addresses=["192.0.2.1/24", "2001:db8::1/64"])
    db = qemu(host, "db", [Nic("tap-db", macs["db"])], addresses=["192.0.2.2/24", "2001:db8::2/64"], mtu=1400)
    host.ip("link set tap-web master br0 up", "link set tap-db master br0 up")
    web.wait_ready()
    db.wait_ready()

    assert web.run("cat /sys/class/net/eth0/address").output.strip() == macs["web"]
    assert db.run("cat /sys/class/net/eth0/mtu").output.strip() == "1400"
    assert web.run("exit 7").code == 7
    assert web.pings("192.0.2.2", attempts=10)
    assert db.pings("2001:db8::1", attempts=10)
    assert not web.pings("192.0.2.3")

    web.kill()
    assert host.links() == {"lo", "br0", "tap-db"}
    web.start()
    host.ip("link set tap-web master br0 up")
    web.wait_ready()
    assert web.pings("192.0.2.2", attempts=10)
