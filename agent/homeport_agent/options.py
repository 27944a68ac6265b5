"""What an agent is started with, and the names that follow from it.

Every waiting time is an option (in seconds here), so that tests never wait minutes. The command line layers options
over the environment and the configuration file; this module only holds what came out.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

DEFAULT_RUN_DIR = Path("/run/homeport")


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """`boot_id` and `machine_id` None: read from the kernel and from /etc/machine-id (or made once in the data
    directory). `etcd_endpoints` empty: an embedded etcd in the data directory. `http_address` None: metrics on the unix
    socket only."""

    run_dir: Path = DEFAULT_RUN_DIR
    data_dir: Path = Path("/var/lib/homeport")
    node: str = ""
    cluster_name: str = "homeport"
    etcd_endpoints: tuple[str, ...] = ()
    cacert: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    http_address: str | None = None
    rest: float = 600.0
    store_grace: float = 300.0
    heartbeat: float = 90.0
    restore_wait: float = 120.0
    learned_idle: float = 300.0
    max_requests: int = 32
    queue_deadline: float = 60.0
    boot_id: str | None = None
    machine_id: str | None = None

    @property
    def node_name(self) -> str:
        return self.node or os.uname().nodename

    @property
    def socket_path(self) -> Path:
        return self.run_dir / "agent.sock"

    @property
    def http_path(self) -> Path:
        return self.run_dir / "http.sock"

    @property
    def switch_namespace(self) -> str:
        """The name of the switch's network namespace: `homeport`, or one of its own for another run directory, so that
        many agents can live on one machine."""
        if self.run_dir == DEFAULT_RUN_DIR:
            return "homeport"
        digest = hashlib.sha256(str(self.run_dir.absolute()).encode()).hexdigest()
        return f"homeport-{digest[:8]}"
