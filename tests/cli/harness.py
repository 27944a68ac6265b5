"""The command line in this process, over a store in memory."""

from collections.abc import Callable

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

    def __call__(self, *arguments: str, stdin: str | None = None) -> Result:
        clock: Callable[[], float] = lambda: self.now  # noqa: E731
        session = Session(self.environ, lambda _settings: self.store, clock)
        return CliRunner().invoke(command, list(arguments), obj=session, input=stdin)
