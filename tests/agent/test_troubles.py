"""What a node reports of policies: only what is not as it should be, and no more of it than fits."""

from homeport_agent.placement import Place
from homeport_agent.troubles import LONGEST, NAMED, Troubles
from homeport_api.interface import InterfaceKey
from homeport_api.networkpolicy import NetworkPolicy
from homeport_api.node import PolicyReport, PolicyTrouble, TroubleReason
from homeport_api.wire import NETWORK_POLICY
from homeport_dataplane.errors import RulesetRefused
from homeport_policy.facts import Facts
from homeport_policy.program import NOTHING, Program
from homeport_store import keys
from tests.policy.records import interface, known

DB = InterfaceKey("default", "db-eth0")
WORLD = "{apiVersion: homeport.dev/v1, kind: Network, metadata: {name: blue}, spec: {type: L2}}\n" + interface(
    str(DB), "blue", "db"
)
PATH = keys.POLICIES + "shop/NetworkPolicy/new"


def policy(name: str, *rules: dict[str, object]) -> NetworkPolicy:
    manifest = {"metadata": {"name": name}, "spec": {"podSelector": {}, "ingress": list(rules)}}
    return NETWORK_POLICY.parse(manifest)[0]


def program(*policies: NetworkPolicy) -> Program:
    facts: Facts = known(WORLD, {str(DB): ("10.0.0.1/24",)}, here=(str(DB),))
    for each in policies:
        facts.put_policy(each.key, each)
    return facts.compilers["switch"].program()


class Told:
    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def test_while_all_is_well_nothing_is_told() -> None:
    told = Told()
    troubles = Troubles(told, tracking=True)
    for _ in range(3):
        troubles.readable(PATH)
        troubles.applied(Place.SWITCH)
    assert (told.times, troubles.report("n1")) == (0, PolicyReport("n1"))


def test_what_cannot_be_read_is_named_until_it_can() -> None:
    told = Told()
    troubles = Troubles(told, tracking=True)
    for _ in range(3):
        troubles.unreadable(PATH, ValueError("schema 9"), kept=False)
    assert told.times == 1, "the same again is no news"
    assert troubles.report("n1").troubles == (
        PolicyTrouble(
            "shop",
            "NetworkPolicy",
            "new",
            TroubleReason.UNREADABLE,
            "schema 9; its namespace is isolated until it can be read",
        ),
    )
    troubles.unreadable(PATH, ValueError("schema 9"), kept=True)
    assert "what it said before stays in force" in troubles.report("n1").troubles[0].message
    troubles.readable(PATH)
    assert (told.times, troubles.report("n1")) == (3, PolicyReport("n1"))


def test_what_the_kernel_refuses_is_laid_to_the_policies_that_are_new_in_it() -> None:
    troubles = Troubles(Told(), tracking=True)
    old, new, deny = policy("old", {}), policy("new", {"ports": [{"port": 1}]}), policy("deny")
    error = RulesetRefused("Could not process rule: No space left on device")
    troubles.refused(Place.SWITCH, error, program(old), program(old, new))
    assert [(each.name, each.reason, each.message) for each in troubles.report("n1").troubles] == [
        ("new", TroubleReason.REFUSED, f"{error}; the last good state stays")
    ]
    troubles.refused(Place.SWITCH, error, program(old), program(old, deny))
    named = {each.name for each in troubles.report("n1").troubles}
    assert named == {"old", "deny"}, "of one without rules it is known that it isolates the same ports"
    assert troubles.report("n1").reason is None
    troubles.applied(Place.SWITCH)
    assert troubles.report("n1") == PolicyReport("n1")


def test_what_is_nobodys_in_particular_is_everybodys() -> None:
    troubles = Troubles(Told(), tracking=True)
    same = program(policy("old", {}))
    troubles.refused(Place.SWITCH, RulesetRefused("no memory"), same, same)
    assert troubles.report("n1") == PolicyReport("n1", TroubleReason.REFUSED, "no memory; the last good state stays")
    troubles.refused(Place.SWITCH, ValueError("x" * 10_000), NOTHING, None)
    report = troubles.report("n1")
    assert (report.reason, len(report.message) < LONGEST + 50) == (TroubleReason.REFUSED, True)


def test_a_report_is_bounded() -> None:
    troubles = Troubles(Told(), tracking=True)
    for number in range(NAMED + 20):
        troubles.unreadable(f"{PATH}{number:04}", ValueError("schema 9"), kept=False)
    report = troubles.report("n1")
    assert (len(report.troubles), report.reason) == (NAMED, TroubleReason.UNREADABLE)
    assert report.message == f"{NAMED + 20} policies are not enforced here as they are; the first {NAMED} are named"


def test_a_kernel_that_cannot_says_so_whatever_else_is_wrong() -> None:
    troubles = Troubles(Told(), tracking=False)
    troubles.unreadable(PATH, ValueError("schema 9"), kept=False)
    report = troubles.report("n1")
    assert report.reason is TroubleReason.STATEFUL_POLICY_UNAVAILABLE
    assert "CONFIG_NF_CONNTRACK_BRIDGE" in report.message
    assert len(report.troubles) == 1
