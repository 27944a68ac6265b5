"""The demonstration: what it reads and prints, and that nothing of it stays, however it ends."""

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from homeport_netns_fixtures import leftovers
from homeport_netns_fixtures.containerd import Containerd
from homeport_netns_fixtures.demo.narrator import WIDTH, Narrator
from homeport_netns_fixtures.demo.scene import place_of, uplinks
from homeport_netns_fixtures.netns import RUN_NETNS, Namespace
from homeport_netns_fixtures.plugin import GuestMaker

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_uplinks_are_those_of_the_manifests(tmp_path: Path) -> None:
    assert uplinks(EXAMPLES) == ["bond0"]
    network = "kind: Network\nspec:\n  nodeInterfaceMatcher: {interfaceName: %s}\n"
    (tmp_path / "a.yaml").write_text(
        f"{network % 'eth7'}---\nkind: Network\nspec: {{type: L2}}\n---\nkind: Interface\n"
    )
    (tmp_path / "b.yaml").write_text(f"{network % 'eth1'}---\n{network % 'eth7'}")
    assert uplinks(tmp_path) == ["eth7", "eth1"]


def test_a_place_is_the_guests_end_of_a_result() -> None:
    result = {
        "interfaces": [{"name": "hpi-lab", "mac": "02:00:00:00:00:01"}, {"name": "tap", "mac": "02:00:00:00:00:02"}],
        "ips": [{"address": "fd00::2/64"}, {"address": "10.0.0.2/24", "gateway": "10.0.0.1"}],
    }
    place = place_of(result)
    assert place.addresses == ("10.0.0.2/24", "fd00::2/64")
    assert place.bare == ("10.0.0.2", "fd00::2")
    assert (place.mac, place.mtu, place.gateways) == ("02:00:00:00:00:02", 1500, ("10.0.0.1",))


def test_the_narrator_numbers_its_steps_and_remembers_the_last() -> None:
    out = io.StringIO()
    narrator = Narrator(out)
    assert narrator.title == "the preparations"
    narrator.step("A node")
    narrator.say("word " * 60)
    narrator.command("homeport", "get", "two words")
    narrator.output("line\n\nline")
    narrator.fact("so it is")
    assert narrator.title == "step 1 (A node)"
    lines = out.getvalue().splitlines()
    assert lines[1] == "1. A node   [0 s]"
    assert max(map(len, lines)) <= WIDTH
    assert lines[-5:] == ["    $ homeport get 'two words'", "    line", "", "    line", "    ok  so it is"]


@pytest.fixture
def able(qemu: GuestMaker, containerd: Callable[[Namespace], Containerd]) -> None:
    """A machine that can run the demonstration."""


def test_a_manifest_that_is_refused_ends_it_with_the_step(able: None, tmp_path: Path) -> None:
    examples = tmp_path / "examples"
    shutil.copytree(EXAMPLES, examples)
    manifest = examples / "office.yaml"
    manifest.write_text(manifest.read_text().replace("gateway4: 192.0.2.1", "gateway4: 198.51.100.1"))
    demo = start(examples)
    output, errors = demo.communicate(timeout=120)
    assert demo.returncode == 1, output + errors
    assert "Network office spec.gateway4" in output
    assert "Error: step 2 (Two Networks) failed" in errors
    assert left_by(demo, output) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_it_and_nothing_stays(able: None, number: signal.Signals) -> None:
    demo = start(EXAMPLES)
    assert demo.stdout is not None
    output = ""
    for line in demo.stdout:
        output += line
        if "homeport attach db" in line:
            break
    demo.send_signal(number)
    _, errors = demo.communicate(timeout=120)
    assert demo.returncode == 128 + number, errors
    assert f"{number.name} in step 3 (Two virtual machines)" in errors
    assert left_by(demo, output) == []


def start(examples: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "homeport_netns_fixtures.demo", os.fspath(examples)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def left_by(demo: subprocess.Popen[str], output: str) -> list[str]:
    """Namespaces, processes and directories of a demonstration that has ended."""
    found = [path.name for path in RUN_NETNS.iterdir() if path.name.startswith(f"hpt-{demo.pid}-")]
    run_dir = Path(output.partition("HOMEPORT_RUN_DIR=")[2].split()[0])
    switch = f"homeport-{hashlib.sha256(os.fsencode(run_dir)).hexdigest()[:8]}"
    found += [os.fspath(path) for path in (RUN_NETNS / switch, run_dir.parents[1]) if path.exists()]
    mark = f"{leftovers.SESSION}={demo.pid}".encode()
    return found + [path.name for path in Path("/proc").iterdir() if path.name.isdigit() and mark in environment(path)]


def environment(process: Path) -> list[bytes]:
    try:
        return (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return []
