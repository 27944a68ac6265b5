"""The command line in this process, over a store in memory."""

from click.testing import CliRunner, Result

from homeport_cli.main import cli as command
from homeport_cli.session import Session
from homeport_store.memory import MemoryStore
from homeport_store.objects import Objects


class Cli:
    """Calling it runs one command. Every call is an invocation of its own, with its own session; `now` is its clock."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.environ: dict[str, str] = {"HOMEPORT_CONFIG": "/dev/null"}
        self.now = 1_750_000_000.0

    @property
    def objects(self) -> Objects:
        return Objects(self.store)

    def session(self) -> Session:
        return Session(self.environ, lambda _settings: self.store, lambda: self.now)

    def __call__(self, *arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(command, list(arguments), obj=self.session(), input=stdin)


NETWORK = """\
{apiVersion: homeport.dev/v1, kind: Network, metadata: {name: lab},
 spec: {type: L2, ipam: {pools: [{cidr: 10.77.0.0/24}]}}}
"""
WEB = """\
{apiVersion: homeport.dev/v1, kind: VirtualMachine, metadata: {name: web},
 spec: {interfaces: [{name: eth0, networkName: lab}]}}
"""
