"""The pytest plugin: fixtures that build worlds, the tiers they put a test in, and the watch over what is left behind.

A test asks for what it needs and says nothing more: the fixtures in its closure decide its tier, hence its marker.

    pure      asks for none of these fixtures
    host      netns, topology, capture, etcd: root and a kernel
    kernel    vlan_kernel: bridge VLAN filtering and bridge conntrack; `make test-kernel` boots a kernel that has them
    runtime   qemu, libvirt, containerd, cnitool: real guests and a real container runtime
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from homeport_netns_fixtures import capability, guest, leftovers, names, programs
from homeport_netns_fixtures import libvirt as libvirt_module
from homeport_netns_fixtures import topology as topology_module
from homeport_netns_fixtures.capture import Capture
from homeport_netns_fixtures.cni import RESULTS as CNI_RESULTS
from homeport_netns_fixtures.cni import CniTool
from homeport_netns_fixtures.etcd import Etcd, etcd, etcd_three
from homeport_netns_fixtures.guest import Guest, Nic
from homeport_netns_fixtures.libvirt import Libvirt
from homeport_netns_fixtures.netns import Namespace, create
from homeport_netns_fixtures.topology import NodeSpec, World

if TYPE_CHECKING:
    from homeport_netns_fixtures.containerd import Containerd

__all__ = ["etcd", "etcd_three"]  # fixtures of this plugin that are written elsewhere

# From the least to the most demanding; a test belongs to the last of those that its fixtures name.
TIERS = ("host", "kernel", "runtime")
TIER_OF_FIXTURE = {
    "netns": "host",
    "capture": "host",
    "topology": "host",
    "etcd": "host",
    "etcd_three": "host",
    "vlan_kernel": "kernel",
    "qemu": "runtime",
    "libvirt": "runtime",
    "containerd": "runtime",
    "cnitool": "runtime",
    "cni_plugins": "runtime",
    "new_cni_plugins": "runtime",
}
PROGRAMS_OF_FIXTURE = {
    "etcd": ("etcd", "etcdctl"),
    "etcd_three": ("etcd", "etcdctl", "openssl"),
}


def pytest_configure() -> None:
    # Whatever `make setup` unpacked or built is found by everything that a test starts.
    os.environ["PATH"] = programs.search_path()
    os.environ[leftovers.SESSION] = str(os.getpid())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Adds the tier's marker, before `-m` selects by it."""
    for item in items:
        asked = {TIER_OF_FIXTURE[name] for name in getattr(item, "fixturenames", ()) if name in TIER_OF_FIXTURE}
        for tier in reversed(TIERS):
            if tier in asked:
                item.add_marker(tier)
                break


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("kernel"):
        capability.require(capability.kernel_lacks())
    elif item.get_closest_marker("host") or item.get_closest_marker("runtime"):
        capability.require(capability.host_lacks())
    for name in getattr(item, "fixturenames", ()):
        capability.require(programs.missing_programs(*PROGRAMS_OF_FIXTURE.get(name, ())))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under CI=true a skip by whatever means is a failure: nobody reads what did not run."""
    report = yield
    if capability.is_ci() and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"CI=true tolerates no skipped test: {report.longrepr}"
    return report


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the run, loudly, when namespaces, links, nft tables or processes stay behind."""
    impure = any(item.get_closest_marker(tier) for item in request.session.items for tier in TIERS)
    if not impure or os.geteuid() != 0:
        yield
        return
    leftovers.sweep_dead_runs()
    before = leftovers.take_inventory()
    yield
    left = leftovers.take_inventory().since(before, everything=capability.is_ci())
    if left:
        pytest.fail("left behind by this run:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture
def netns() -> Iterator[Callable[[str], Namespace]]:
    """Makes namespaces: `web = netns("web")`. They and their links are gone after the test."""
    with contextlib.ExitStack() as stack:

        def make(label: str = "ns") -> Namespace:
            namespace = create(label)
            stack.callback(namespace.delete)
            return namespace

        yield make


@pytest.fixture
def capture() -> Iterator[Callable[[Namespace, str], Capture]]:
    """Captures frames: `wire = capture(switch, "p1")`, then `wire.wait(lambda frame: frame.vlan == 100)`."""
    with contextlib.ExitStack() as stack:
        yield lambda namespace, link: stack.enter_context(Capture(namespace, link))


class WorldBuilder(Protocol):
    def __call__(self, *specs: NodeSpec | str, etcd: Etcd | None = None) -> World: ...


@pytest.fixture
def topology() -> Iterator[WorldBuilder]:
    """Builds worlds: `world = topology("a", NodeSpec("b", bond=True), etcd=etcd_three)`. Agents are not started."""
    with contextlib.ExitStack() as stack:

        def build(*specs: NodeSpec | str, etcd: Etcd | None = None) -> World:
            return stack.enter_context(topology_module.build(*specs, etcd=etcd))

        yield build


@pytest.fixture(scope="session")
def vlan_kernel() -> None:
    """A kernel with bridge VLAN filtering and bridge conntrack: asking for it is all that a test does."""
    capability.require(capability.kernel_lacks())


class GuestMaker(Protocol):
    """Starts a guest and returns while it boots; `wait_ready` waits."""

    def __call__(
        self,
        namespace: Namespace,
        name: str,
        nics: Sequence[Nic],
        *,
        addresses: Sequence[str] = (),
        gateways: Sequence[str] = (),
        mtu: int | None = None,
    ) -> Guest: ...


@pytest.fixture
def qemu(short_dir: Path) -> Iterator[GuestMaker]:
    """Boots virtual machines: `web = qemu(host, "web", [Nic("tap0", mac)], addresses=["192.0.2.7/24"])`."""
    capability.require(guest.lacks())
    with contextlib.ExitStack() as stack:

        def boot(
            namespace: Namespace,
            name: str,
            nics: Sequence[Nic],
            *,
            addresses: Sequence[str] = (),
            gateways: Sequence[str] = (),
            mtu: int | None = None,
        ) -> Guest:
            machine = Guest(namespace, short_dir, name, nics, addresses=addresses, gateways=gateways, mtu=mtu)
            return stack.enter_context(machine)

        yield boot


@pytest.fixture
def containerd(short_dir: Path) -> Iterator["Callable[[Namespace], Containerd]"]:
    """Starts a containerd inside a namespace: `runtime = containerd(node.namespace)`. Its sandboxes go with it."""
    # Here, for grpc behind it takes two seconds to import where Python is emulated, and few tests need it.
    from homeport_netns_fixtures.containerd import Containerd, lacks

    capability.require(lacks())
    with contextlib.ExitStack() as stack:

        def start(namespace: Namespace) -> Containerd:
            directory = Path(tempfile.mkdtemp(prefix="c", dir=short_dir))
            return stack.enter_context(Containerd(namespace, directory))

        yield start


@pytest.fixture
def libvirt(short_dir: Path) -> Iterator[Callable[[Namespace], Libvirt]]:
    """Starts a libvirtd inside a namespace: `hypervisor = libvirt(node.namespace)`. Its domains go with it."""
    capability.require(libvirt_module.lacks())
    with contextlib.ExitStack() as stack:

        def start(namespace: Namespace) -> Libvirt:
            directory = Path(tempfile.mkdtemp(prefix="l", dir=short_dir))
            return stack.enter_context(Libvirt(namespace, directory))

        yield start


@pytest.fixture
def cni_plugins() -> Path:
    """The directory of the stock CNI plugins: bridge, macvlan, host-local, ..."""
    directory = programs.find_cni_plugins()
    capability.require(None if directory else "no stock CNI plugins: `make setup` unpacks them")
    assert directory is not None
    return directory


@pytest.fixture
def new_cni_plugins() -> Path:
    """The same of a later version, which passes STATUS on to the plugin that gives the addresses."""
    directory = programs.find_new_cni_plugins()
    capability.require(None if directory else "no newer CNI plugins: `make setup` builds them")
    assert directory is not None
    return directory


@pytest.fixture
def cnitool(short_dir: Path, cni_plugins: Path) -> Iterator[CniTool]:
    """The reference client of CNI, with directories of its own; the stock plugins are there already. What it remembers
    of lists with a name of this run goes too, also where a test left their DEL out."""
    capability.require(programs.missing_programs("cnitool"))
    tool = CniTool(programs.find_program("cnitool") or "", short_dir / "cnitool-bin", short_dir / "cnitool-conf")
    tool.bin_dir.mkdir()
    tool.conf_dir.mkdir()
    for plugin in cni_plugins.iterdir():
        (tool.bin_dir / plugin.name).symlink_to(plugin)
    yield tool
    for remembered in CNI_RESULTS.glob(f"{names.PREFIX}{os.getpid()}-*"):
        remembered.unlink()


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory whose path leaves room for unix sockets, which end at 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="hpt-", dir="/tmp"))
    yield path
    shutil.rmtree(path)
