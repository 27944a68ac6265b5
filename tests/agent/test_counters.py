"""Counters of the kernel as metrics."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from homeport_agent.counters import families, fillings
from homeport_api.addresses import L2Domain
from homeport_api.networkpolicy import Direction, PolicyKey, PolicyKind
from homeport_policy.program import Counted

from .lab import Lab

DB, DENY = (
    PolicyKey("shop", PolicyKind.NETWORK_POLICY, "db"),
    PolicyKey("shop", PolicyKind.MULTI_NETWORK_POLICY, "deny"),
)
COUNTED = {
    "p_1_0": Counted(Direction.INGRESS, DB, 0, L2Domain("bond0:100")),
    "p_2_0": Counted(Direction.INGRESS, DB, 0, L2Domain("bond0:200")),
    "p_3_1": Counted(Direction.EGRESS, DENY, 1),
    "in_4_denied": Counted(Direction.INGRESS, denied_by=(DENY, DB)),
    "out_5_denied": Counted(Direction.EGRESS),
}


def told(*made: Metric) -> list[str]:
    class Read(Collector):
        def collect(self) -> list[Metric]:
            return list(made)

    registry = CollectorRegistry()
    registry.register(Read())
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_counters_are_summed_over_sides_and_domains() -> None:
    switch = {"p_1_0": 1, "p_2_0": 2, "in_4_denied": 4, "out_5_denied": 5, "muted": 6, "p_old_0": 99}
    host = {"p_1_0": 10, "p_3_1": 7, "muted": 60, "foreign_mac": 0}
    assert told(*families([switch, host], COUNTED)) == [
        'homeport_policy_packets_total{direction="ingress",kind="NetworkPolicy",namespace="shop",policy="db",'
        'rule="0"} 13.0',
        'homeport_policy_packets_total{direction="egress",kind="MultiNetworkPolicy",namespace="shop",policy="deny",'
        'rule="1"} 7.0',
        'homeport_policy_denied_packets_total{direction="egress",namespace="",policies=""} 5.0',
        'homeport_policy_denied_packets_total{direction="ingress",namespace="shop",policies="deny,db"} 4.0',
        'homeport_guard_drops_total{reason="foreign_mac"} 0.0',
        'homeport_guard_drops_total{reason="muted"} 66.0',
    ]


def test_a_table_is_as_full_as_the_kernel_says() -> None:
    assert told(*fillings({"switch": (7, 262144)})) == [
        'homeport_tracked_connections{place="switch"} 7.0',
        'homeport_tracked_connections_limit{place="switch"} 262144.0',
    ]


def test_guards_are_counted_on_a_node(lab: Lab) -> None:
    _, text = lab.node.agent.http_get("/metrics")
    assert 'homeport_guard_drops_total{reason="muted"}' in text
    lab.node.switch.run("nft", "delete", "table", "bridge", "homeport")
    code, text = lab.node.agent.http_get("/metrics")
    assert (code, "homeport_requests_busy" in text) == (200, True)
