"""Transitions of holders and epoch, as a table."""

import pytest

from homeport_api.attachment import AttachmentKey
from homeport_api.interface import Holder, InterfaceStatus, Phase, Role
from homeport_ipam.holders import active_holder, attachment_of, end, find_holder, hold, holder_for, why_take_over

ONE = AttachmentKey("n1", "homeport", "blue", "c1", "eth0")
TWO = AttachmentKey("n2", "homeport", "blue", "c2", "eth0")
EMPTY = InterfaceStatus()
HELD = hold(EMPTY, holder_for(ONE, "b1", 1.0))
STANDBY = Holder("n3", "b3", "c3", "eth0", Role.STANDBY)


def test_hold_and_end() -> None:
    assert (HELD.phase, HELD.epoch, [attachment_of(h) for h in HELD.holders]) == (Phase.ACTIVE, 1, [ONE])
    assert hold(HELD, holder_for(ONE, "b1", 9.0)) == HELD
    ended = end(HELD, ONE)
    assert (ended.phase, ended.epoch, ended.holders) == (Phase.RESERVED, 1, ())
    assert end(ended, ONE) == ended
    assert end(HELD, TWO) is HELD


@pytest.mark.parametrize(
    "holder", [holder_for(TWO, "b2", 2.0), holder_for(ONE, "b2", 2.0)], ids=["another", "itself, another boot"]
)
def test_one_active_holder_at_the_most(holder: Holder) -> None:
    taken = hold(HELD, holder)
    assert taken.epoch == 2
    assert taken.holders == (holder,)


def test_a_standby_stays_and_speaks_for_nobody() -> None:
    both = InterfaceStatus(phase=Phase.MIGRATING, epoch=1, holders=(*HELD.holders, STANDBY))
    taken = hold(both, holder_for(TWO, "b2", 2.0))
    assert (taken.phase, taken.holders[1]) == (Phase.MIGRATING, STANDBY)
    left = end(both, ONE)
    assert (left.phase, left.holders) == (Phase.RESERVED, (STANDBY,))
    assert active_holder(left) is None
    assert find_holder(left, attachment_of(STANDBY)) is STANDBY


@pytest.mark.parametrize(
    ("node", "boot", "port_gone", "operator", "why"),
    [
        pytest.param("n2", "b1", False, False, None, id="alive elsewhere"),
        pytest.param("n2", None, False, False, None, id="silent node proves nothing"),
        pytest.param("n2", "b9", False, False, "restarted", id="restarted elsewhere"),
        pytest.param("n1", "b9", False, False, "restarted", id="restarted here"),
        pytest.param("n1", "b1", True, False, "port is gone", id="port gone here"),
        pytest.param("n2", "b1", True, False, None, id="port gone there is not ours to see"),
        pytest.param("n2", "b1", False, True, "operator", id="operator"),
    ],
)
def test_why_take_over(node: str, boot: str | None, port_gone: bool, operator: bool, why: str | None) -> None:
    told = why_take_over(HELD.holders[0], node, boot, port_gone=port_gone, operator=operator)
    assert told is None if why is None else why in (told or "")
