"""Options that many verbs share. The common ones stand before or after the verb."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from homeport_cli.output import Form
from homeport_cli.session import Session
from homeport_cli.settings import SETTINGS, Setting

F = TypeVar("F", bound=Callable[..., Any])

pass_session = click.make_pass_decorator(Session)


def common_options(function: F) -> F:
    """The settings of every verb."""
    for setting in reversed([setting for setting in SETTINGS if not setting.agent]):
        function = _setting_option(setting)(function)
    return click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        expose_value=False,
        callback=_take_config,
        help="Configuration file in place of /etc/homeport/config.toml  [HOMEPORT_CONFIG]",
    )(function)


def agent_options(function: F) -> F:
    """The settings that only the agent has."""
    for setting in reversed([setting for setting in SETTINGS if setting.agent]):
        function = _setting_option(setting)(function)
    return function


def output_option(function: F) -> F:
    return click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice([form.value for form in Form]),
        default=Form.TABLE.value,
        callback=lambda _context, _parameter, value: Form(value),
        help="How to print it.",
    )(function)


def _setting_option(setting: Setting) -> Callable[[F], F]:
    names = (f"--{setting.name}", "-n") if setting.name == "namespace" else (f"--{setting.name}",)
    default = f"; default {setting.default}" if setting.default else ""
    return click.option(
        *names,
        metavar=setting.meta,
        expose_value=False,
        callback=_take(setting),
        help=f"{setting.help}  [{setting.variable}{default}]",
    )


def _take(setting: Setting) -> Callable[[click.Context, click.Parameter, str | None], None]:
    def take(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
        if value is not None:
            context.ensure_object(Session).given.options[setting.name] = value

    return take


def _take_config(context: click.Context, _parameter: click.Parameter, value: Path | None) -> None:
    if value is not None:
        context.ensure_object(Session).given.config = value
