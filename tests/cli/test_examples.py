"""The manifests in examples/ are what users start from: each is valid, and all of them apply together."""

from pathlib import Path

import pytest

from homeport_api.manifest import read_manifest
from homeport_cli.documents import read_documents

from .harness import Cli

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_an_example_is_valid_without_a_warning(path: Path) -> None:
    with path.open() as nothing:
        manifest = read_manifest(read_documents([str(path)], nothing))
    assert manifest.objects
    assert manifest.warnings == ()


def test_all_examples_apply_together_and_again(cli: Cli) -> None:
    first = cli("apply", "-f", str(EXAMPLES))
    assert first.exit_code == 0, first.output
    assert "network/lab created" in first.stdout
    assert "interface/default/web-eth0 created" in first.stdout
    again = cli("apply", "-f", str(EXAMPLES))
    assert {line.rsplit(" ", 1)[1] for line in again.stdout.splitlines()} == {"unchanged"}
