"""Settings: option over environment over file over default."""

from pathlib import Path

import pytest

from homeport_api.errors import Invalid
from homeport_cli.settings import SETTINGS, Given, resolve

from .harness import Cli


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text('namespace = "from-file"\nnode = "n1"\netcd-endpoints = ["https://a:1", "https://b:2"]\n')
    return path


@pytest.mark.parametrize(
    ("options", "environ", "namespace"),
    [
        pytest.param({}, {}, "from-file", id="file"),
        pytest.param({}, {"HOMEPORT_NAMESPACE": "from-env"}, "from-env", id="environment over file"),
        pytest.param(
            {"namespace": "from-option"},
            {"HOMEPORT_NAMESPACE": "from-env"},
            "from-option",
            id="option over environment",
        ),
    ],
)
def test_the_nearest_word_counts(
    config: Path, options: dict[str, str], environ: dict[str, str], namespace: str
) -> None:
    settings = resolve(Given(options, config), environ)
    assert settings.namespace == namespace
    assert settings.node == "n1"


def test_defaults_are_used_where_nobody_spoke() -> None:
    settings = resolve(Given(), {"HOMEPORT_CONFIG": "/dev/null"})
    assert settings.run_dir == Path("/run/homeport")
    assert settings.endpoints == ()
    assert settings.seconds("rest") == 600
    assert settings.explicit == {}


def test_endpoints_are_a_list_or_have_commas(config: Path) -> None:
    assert resolve(Given(config=config), {}).endpoints == ("https://a:1", "https://b:2")
    assert resolve(Given({"etcd-endpoints": "https://a:1, https://b:2"}), {}).endpoints == (
        "https://a:1",
        "https://b:2",
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param('rundir = "x"', "rundir: unknown setting; did you mean run-dir?", id="unknown"),
        pytest.param("node = true", "node: must be text in quotes, not True", id="boolean"),
        pytest.param("node = ", "Invalid value", id="syntax"),
    ],
)
def test_a_file_with_a_mistake_is_refused(tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(Invalid) as refusal:
        resolve(Given(config=path), {})
    assert str(refusal.value).startswith(f"{path}: ")
    assert error in str(refusal.value)


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="there is no such configuration file"):
        resolve(Given(), {"HOMEPORT_CONFIG": str(tmp_path / "missing.toml")})


def test_a_bad_duration_is_usage(cli: Cli) -> None:
    result = cli("ipam", "release", "web-eth0", "--rest", "soon")
    assert result.exit_code == 2
    assert "Error: --rest: 'soon' is not a duration" in result.stderr


def test_an_option_after_the_verb_wins_over_one_before(cli: Cli) -> None:
    result = cli("-n", "before", "get", "interfaces", "-n", "after")
    assert "in namespace after" in result.stderr


def test_the_environment_loses_to_an_option_before_the_verb(cli: Cli) -> None:
    cli.environ["HOMEPORT_NAMESPACE"] = "env"
    assert "in namespace env" in cli("get", "interfaces").stderr
    assert "in namespace before" in cli("-n", "before", "get", "interfaces").stderr


def test_every_setting_is_explained_with_its_variable(cli: Cli) -> None:
    text = " ".join(cli("agent", "--help").stdout.split())
    for setting in SETTINGS:
        assert f"--{setting.name} " in text
        assert setting.variable in text.replace(" ", "") or setting.variable in text
