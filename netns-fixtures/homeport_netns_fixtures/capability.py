"""What this machine can run of the tests, and why not.

A missing capability skips a test on a laptop and fails it under CI=true, where a skipped test is a test that nobody
runs. Each probe answers None, or the reason with its remedy.
"""

import functools
import os
import subprocess

import pytest

from homeport_netns_fixtures.programs import find_program, missing_programs


def is_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


def require(reason: str | None) -> None:
    """Nothing when `reason` is None, else a skip on a laptop and a failure under CI=true."""
    if reason is not None:
        if is_ci():
            pytest.fail(f"CI=true tolerates no missing capability: {reason}", pytrace=False)
        pytest.skip(reason)


@functools.cache
def host_lacks() -> str | None:
    """Namespaces, links and nft, as root."""
    if os.geteuid() != 0:
        return "needs root for network namespaces: run as root, or under `unshare -Urnm`"
    return missing_programs("ip", "nft", "nsenter", "ping")


@functools.cache
def kernel_lacks() -> str | None:
    """A VLAN-aware bridge, and connection tracking in bridge tables, tried in a namespace that vanishes at once."""
    if reason := host_lacks():
        return reason
    trial = (
        f"{find_program('ip')} link add probe type bridge vlan_filtering 1 && "
        f"{find_program('nft')} 'add table bridge probe; add chain bridge probe c "
        "{ type filter hook forward priority -200; }; add rule bridge probe c ct state established accept'"
    )
    done = subprocess.run(["unshare", "--net", "sh", "-c", trial], capture_output=True, text=True)
    if done.returncode == 0:
        return None
    return f"this kernel has no bridge VLAN filtering or bridge conntrack ({done.stderr.strip()}): `make test-kernel`"


@functools.cache
def bonding_lacks() -> str | None:
    """Bonds: most kernels, not every cloud's."""
    if reason := host_lacks():
        return reason
    done = subprocess.run(
        ["unshare", "--net", find_program("ip") or "ip", "link", "add", "probe", "type", "bond"], capture_output=True
    )
    return None if done.returncode == 0 else "this kernel has no bonding driver: `make test-kernel` boots one that has"
