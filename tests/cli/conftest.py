"""Fixtures of the command line's tests."""

import pytest

from .harness import Cli


@pytest.fixture
def cli() -> Cli:
    return Cli()
