"""Names of Interfaces, and the Interfaces of a VM."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport_api.errors import AlreadyExists
from homeport_api.interface import Interface, InterfaceSpec, interface_names
from homeport_api.meta import ObjectMeta
from homeport_api.names import parse_identity_name, parse_label_name
from homeport_api.virtualmachine import VirtualMachine, VmInterface, interfaces_of


@pytest.mark.parametrize(
    ("vm", "interface", "names"),
    [
        pytest.param("web", "eth0", ["web-eth0", "web-eth0-c3144268"], id="plain"),
        pytest.param("Web_1", "Front.End", ["web-1-front-end", "web-1-front-end-43996e71"], id="other characters"),
        pytest.param("v" * 58, "eth0", ["v" * 58 + "-eth0", "v" * 54 + "-33d01965"], id="63 characters"),
        pytest.param("v" * 59, "eth0", ["v" * 54 + "-c0ac47d7"], id="64 characters"),
    ],
)
def test_the_name_is_made_of_vm_and_interface(vm: str, interface: str, names: list[str]) -> None:
    assert list(interface_names(vm, interface)) == names


@given(st.text(max_size=80), st.text(max_size=80))
def test_every_identity_has_lawful_names(vm: str, interface: str) -> None:
    for name in interface_names(vm, interface):
        assert parse_label_name(name) == name


def machine(*interfaces: str) -> VirtualMachine:
    return VirtualMachine(ObjectMeta("web", "shop"), tuple(VmInterface(name, "blue") for name in interfaces))


def test_interfaces_that_would_share_a_name_get_two() -> None:
    first, second = interfaces_of(machine("a.b", "a-b"))
    assert first.meta.name == "web-a-b"
    assert second.meta.name.startswith("web-a-b-")
    assert (second.spec.vm, second.spec.interface, second.meta.namespace) == ("web", "a-b", "shop")


def test_a_name_that_is_taken_is_passed_over_and_in_the_end_refused() -> None:
    plain, hashed = (
        Interface(ObjectMeta(name, "shop"), InterfaceSpec("blue", vm="other", interface=name))
        for name in interface_names("web", "eth0")
    )
    assert [made.key for made in interfaces_of(machine("eth0"), [plain])] == [hashed.key]
    with pytest.raises(AlreadyExists, match="rename the interface"):
        interfaces_of(machine("eth0"), [plain, hashed])


def test_an_identity_keeps_its_name_and_a_reservation_without_one_is_taken() -> None:
    present = Interface(ObjectMeta("front", "shop"), InterfaceSpec("blue", vm="web", interface="eth0"))
    reservation = Interface(ObjectMeta("web-eth1", "shop"), InterfaceSpec("blue"))
    made = interfaces_of(machine("eth0", "eth1"), [present, reservation])
    assert [interface.meta.name for interface in made] == ["front", "web-eth1"]


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ü", "a\n"])
def test_identity_names_are_printable(name: str) -> None:
    with pytest.raises(ValueError, match="is not usable as a name"):
        parse_identity_name(name)
