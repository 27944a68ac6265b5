"""The status of a Network, merged by its readers: from what the nodes report, what its pools hold and what is not
built yet. Pure; nothing of it is stored."""

from collections.abc import Iterable, Iterator

from homeport_api.meta import Condition
from homeport_api.network import Network, NetworkStatus, NodeReadiness
from homeport_api.node import NodeReport
from homeport_api.pool import PoolStatus
from homeport_api.validate_network import not_enforced


def network_status(
    network: Network, reports: Iterable[NodeReport], pools: tuple[PoolStatus, ...], in_use: int
) -> NetworkStatus:
    """`reports` may be of all Networks. A node's own conditions appear once for each type and reason, with the nodes'
    names in front of the message."""
    mine = sorted((report for report in reports if report.network == network.name), key=lambda report: report.node)
    conditions = (_ready(mine), *_own(network, pools), *_reported(mine))
    nodes = tuple(NodeReadiness(report.node, report.ready, report.reason) for report in mine)
    return NetworkStatus(conditions, pools, nodes, in_use)


def _ready(reports: list[NodeReport]) -> Condition:
    unready = [report for report in reports if not report.ready]
    if not reports:
        return Condition("Ready", "Unknown", "NoReports", "no agent has reported on this Network yet")
    if unready:
        message = "; ".join(f"{report.node}: {report.reason}" for report in unready)
        return Condition("Ready", "False", "NodesNotReady", message)
    return Condition("Ready", "True", "NodesReady", f"{len(reports)} of {len(reports)} nodes are ready")


def _own(network: Network, pools: tuple[PoolStatus, ...]) -> Iterator[Condition]:
    if fields := not_enforced(network):
        message = f"stored, and without effect in this version: {', '.join(fields)}"
        yield Condition("NotEnforced", "True", "NotBuilt", message)
    if full := [str(pool.cidr) for pool in pools if pool.free <= 0]:
        yield Condition("PoolExhausted", "True", "NoFreeAddress", f"no address is free in {', '.join(full)}")


def _reported(reports: list[NodeReport]) -> Iterator[Condition]:
    """NotEnforced and PoolExhausted follow from the objects, so a node's word on them adds nothing."""
    merged: dict[tuple[str, str, str], list[str]] = {}
    for report in reports:
        for condition in report.conditions:
            if condition.type not in {"Ready", "NotEnforced", "PoolExhausted"}:
                key = (condition.type, condition.status, condition.reason)
                merged.setdefault(key, []).append(f"{report.node}: {condition.message}")
    for (kind, status, reason), messages in merged.items():
        yield Condition(kind, status, reason, "; ".join(messages))
