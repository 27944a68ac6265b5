"""kill -9 of the agent after each step of an ADD and of a DEL: nothing leaks, nothing is double, the retry succeeds."""

import pytest

from homeport_agent.steps import Add, Delete

from .lab import Lab, wait_until


@pytest.mark.parametrize("step", list(Add), ids=str)
def test_an_add_cut_short_leaves_nothing_and_its_retry_succeeds(lab: Lab, step: Add) -> None:
    vm = None if step is Add.OPENED else "web"  # once an identity that ends with its DEL
    lab.restart(fault=f"add:{step}=kill")
    guest = lab.guest()
    assert lab.add("c1", guest, vm=vm).error == 11
    assert lab.node.agent.wait_exit() == -9
    allocated = lab.interface("web-eth0")
    lab.start()
    whole = step is Add.RECORDED
    wait_until(lambda: lab.attachments() == ({"c1"} if whole else set()), "what was not answered is ended")
    lab.require_clean(ports=int(whole))
    address, mac = lab.added("c1", guest, vm=vm)
    if allocated is not None:
        assert (str(allocated.status.addresses[0]), allocated.status.mac) == (address, mac)
    lab.require_clean(ports=1)
    assert lab.delete("c1").exit_code == 0
    lab.require_clean(ports=0)
    assert lab.attachments() == set()
    assert (lab.interface("web-eth0") is not None) == (vm is not None)


@pytest.mark.parametrize("step", list(Delete), ids=str)
def test_a_del_cut_short_is_finished_by_its_retry(lab: Lab, step: Delete) -> None:
    lab.restart(fault=f"del:{step}=kill")
    guest = lab.guest()
    before = lab.added("c1", guest, vm="web")
    assert lab.delete("c1", vm="web").error == 11
    assert lab.node.agent.wait_exit() == -9
    lab.start()
    assert lab.delete("c1", vm="web").exit_code == 0
    lab.require_clean(ports=0)
    assert lab.attachments() == set()
    assert lab.holder("web-eth0") is None
    assert lab.added("c2", lab.guest("again"), vm="web") == before
    lab.require_clean(ports=1)
