"""What the agent counts (Prometheus naming: https://prometheus.io/docs/practices/naming/)."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

requests = Counter(
    "homeport_cni_requests", "CNI calls answered, by executable, command and code (0: success)",
    ("executable", "command", "code"), registry=REGISTRY,
)  # fmt: skip
request_seconds = Histogram(
    "homeport_cni_request_seconds", "Time from taking a CNI call from the queue to its answer",
    ("command",), buckets=BUCKETS, registry=REGISTRY,
)  # fmt: skip
requests_busy = Gauge("homeport_requests_busy", "Requests at work", registry=REGISTRY)
requests_waiting = Gauge("homeport_requests_waiting", "Requests in the queue", registry=REGISTRY)
attachments = Gauge("homeport_attachments", "Attachments that live on this node", registry=REGISTRY)
pending = Gauge(
    "homeport_ended_attachments_pending", "Attachments that ended here and that the store does not know yet",
    registry=REGISTRY,
)  # fmt: skip
store_up = Gauge("homeport_store_up", "1 while the store answers and the watch is current", registry=REGISTRY)
healed = Counter(
    "homeport_healed", "Things of ours that somebody else removed or changed and that were put back, by kind",
    ("kind",), registry=REGISTRY,
)  # fmt: skip
reconcile_seconds = Histogram(
    "homeport_reconcile_seconds", "Time of one comparison of desired and actual switch, with its repairs",
    buckets=BUCKETS, registry=REGISTRY,
)  # fmt: skip
reconcile_failures = Counter("homeport_reconcile_failures", "Repairs that the kernel refused", registry=REGISTRY)
conflicts = Counter("homeport_address_conflicts", "Addresses found in use by a foreign MAC", registry=REGISTRY)
swept = Counter("homeport_swept_attachments", "Attachments ended because their port is gone", registry=REGISTRY)
policy_seconds = Histogram(
    "homeport_policy_seconds", "Time from taking up to 64 changes to having them in the kernel",
    buckets=BUCKETS, registry=REGISTRY,
)  # fmt: skip
policy_failures = Counter(
    "homeport_policy_failures", "Policies or records that could not be applied; the last good state stays",
    registry=REGISTRY,
)  # fmt: skip
policy_unenforced = Gauge(
    "homeport_policy_unenforced_ports", "Ports muted because a policy isolates them and this kernel cannot",
    registry=REGISTRY,
)  # fmt: skip
flows_ended = Counter(
    "homeport_policy_flows_ended", "Connections ended because policies allow them no longer", registry=REGISTRY
)
drops_logged = Counter(
    "homeport_policy_drops_logged", "Denied packets that are in the log; the kernel limits how many it copies",
    ("direction",), registry=REGISTRY,
)  # fmt: skip
learned = Counter("homeport_learned_addresses", "Addresses that guests took by themselves", registry=REGISTRY)
claims_refused = Counter(
    "homeport_address_claims_refused", "Addresses that guests wanted to take and may not use, by reason",
    ("reason",), registry=REGISTRY,
)  # fmt: skip
