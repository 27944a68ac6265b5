"""Fixtures of the command line's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Cli, Listener


@pytest.fixture
def cli() -> Cli:
    return Cli()


@pytest.fixture
def agent(cli: Cli, tmp_path: Path) -> Iterator[Listener]:
    cli.environ["HOMEPORT_RUN_DIR"] = str(tmp_path)
    listener = Listener(tmp_path / "agent.sock")
    listener.server.start()
    yield listener
    listener.server.close()
