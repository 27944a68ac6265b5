"""`install-cni`, `install-service` and `install-qemu-ifup`: what others call, put where they look for it."""

import shlex
import sys
from pathlib import Path

import click

from homeport_api.errors import AlreadyExists, HomeportError
from homeport_cli.options import agent_options, common_options, pass_session
from homeport_cli.session import Session
from homeport_cli.settings import BY_NAME

MARK = "# Written by homeport"


@click.command("install-cni")
@click.option(
    "--bin-dir",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The runtime's plugin directory, like /opt/cni/bin.",
)
@click.option(
    "--conf-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The runtime's configuration directory, like /etc/cni/net.d.",
)
@click.option("--network", metavar="NETWORK", help="The Network of that configuration.")
@click.option("--shim", type=click.Choice(["c", "python"]), default="c", show_default=True, help="Which to prefer.")
@common_options
@pass_session
def install_cni(session: Session, bin_dir: Path, conf_dir: Path | None, network: str | None, shim: str) -> None:
    """Install the CNI executables homeport and homeport-ipam, and with --conf-dir a configuration.

    May be repeated at any time, also while a runtime executes them.
    """
    from homeport_cni.install import Shim, install

    done = install(bin_dir, session.settings.run_dir, conf_dir, network, Shim(shim))
    for path in (*done.executables, *([done.conf] if done.conf else [])):
        click.echo(f"{path} installed")
    click.echo(f"The {done.shim} shim: {done.how}", err=True)


@click.command("install-service")
@click.option(
    "--unit-dir",
    default="/etc/systemd/system",
    show_default=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where systemd looks for units.",
)
@agent_options
@common_options
@pass_session
def install_service(session: Session, unit_dir: Path) -> None:
    """Install a systemd unit that runs the agent.

    Options given here go into the unit; what stands in the configuration file is read when the agent starts.
    """
    arguments = [argument for name, text in session.given.options.items() for argument in (f"--{name}", text)]
    if session.given.config is not None:
        arguments += ["--config", str(session.given.config)]
    command = " ".join(_quoted_for_systemd(part) for part in (*program(), "agent", *arguments))
    unit = unit_dir / "homeport.service"
    _write(unit, _UNIT.format(mark=MARK, command=command), 0o644)
    click.echo(f"{unit} installed")
    click.echo("Start it with: systemctl daemon-reload && systemctl enable --now homeport", err=True)


@click.command("install-qemu-ifup")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@common_options
@pass_session
def install_qemu_ifup(session: Session, directory: Path) -> None:
    """Write the scripts that QEMU's script= and downscript= and libvirt's <script> call with a tap's name.

    Which VM and Network a tap is for, the scripts take from the environment (HOMEPORT_VM, HOMEPORT_NETWORK or
    HOMEPORT_INTERFACE_OBJECT, HOMEPORT_INTERFACE), else from the file DIR/TAP.conf with the same names, one NAME=value
    a line. libvirt passes no environment on, and attaches a moment after it has started the guest: DIR/TAP.log says
    how that went.
    """
    given = {name: text for name, text in session.given.options.items() if name in BY_NAME and name != "namespace"}
    fixed = shlex.join(part for name, text in given.items() for part in (f"--{name}", text))
    for name, verb in (("homeport-ifup", _ATTACH), ("homeport-ifdown", _DETACH)):
        quoted = shlex.quote(str(directory.absolute()))
        command = verb.format(program=shlex.join(program()), fixed=fixed, directory=quoted)
        script = _SCRIPT.format(mark=MARK, directory=quoted, verb=command)
        _write(directory / name, script, 0o755)
        click.echo(f"{directory / name} installed")


def program() -> tuple[str, ...]:
    """This command line again, however it was started: by the interpreter that runs it now."""
    return (sys.executable, "-m", "homeport_cli")


def _quoted_for_systemd(part: str) -> str:
    """systemd.service(5), "Command lines": % and $ double, quotes and backslashes escaped."""
    escaped = part.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != part or not part or any(c.isspace() or c in "';" for c in part) else part


def _write(path: Path, text: str, mode: int) -> None:
    """Whole or not at all, and never over what somebody else wrote."""
    try:
        if path.exists() and MARK not in path.read_text(errors="replace"):
            raise AlreadyExists(f"{path} was not written by homeport: move it away first")
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(text)
        fresh.chmod(mode)
        fresh.replace(path)
    except OSError as error:
        raise HomeportError(f"cannot write {path}: {error.strerror}") from error


_UNIT = """{mark} install-service; a repeat replaces it.
[Unit]
Description=Homeport agent: networks that stay with the virtual machine
After=network.target
Wants=network.target

[Service]
ExecStart={command}
Restart=always
RestartSec=1
# The embedded etcd goes on while the agent restarts, and is adopted again.
KillMode=process
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""

_SCRIPT = """#!/bin/sh
{mark} install-qemu-ifup; a repeat replaces it.
# Called with the name of a tap that the hypervisor holds open.
set -eu
tap=$1
conf={directory}/$tap.conf
if [ -z "${{HOMEPORT_VM:-}}" ] && [ -r "$conf" ]; then
    while IFS='=' read -r name value; do
        case $name in
        HOMEPORT_VM) HOMEPORT_VM=$value ;;
        HOMEPORT_NETWORK) HOMEPORT_NETWORK=$value ;;
        HOMEPORT_INTERFACE_OBJECT) HOMEPORT_INTERFACE_OBJECT=$value ;;
        HOMEPORT_INTERFACE) HOMEPORT_INTERFACE=$value ;;
        HOMEPORT_NAMESPACE) HOMEPORT_NAMESPACE=$value; export HOMEPORT_NAMESPACE ;;
        '' | '#'*) ;;
        *) echo "$conf: unknown name $name" >&2; exit 2 ;;
        esac
    done <"$conf"
fi
if [ -z "${{HOMEPORT_VM:-}}" ]; then
    echo "homeport: whose tap is $tap? Set HOMEPORT_VM and HOMEPORT_NETWORK for the hypervisor, or write $conf" >&2
    exit 2
fi
{verb}
"""

_ATTACH = r"""if [ -n "${{HOMEPORT_INTERFACE_OBJECT:-}}" ]; then
    set -- --interface-object "$HOMEPORT_INTERFACE_OBJECT"
else
    set -- --network "${{HOMEPORT_NETWORK:-}}"
fi
attach() {{
    exec {program} attach {fixed} "$HOMEPORT_VM" --interface "${{HOMEPORT_INTERFACE:-eth0}}" --tap "$tap" "$@" >&2
}}
caller=
read -r caller <"/proc/$PPID/comm" || true
case $caller in
libvirtd | virtqemud)
    # libvirt looks for the tap where it made it until it has started QEMU. So the tap moves when QEMU has it open and
    # libvirt no longer, which on a busy machine is not the same moment: refused, it tries again, a few times. How that
    # went is in the log.
    (
        while grep -qs "^iff:[[:space:]]*$tap\$" "/proc/$PPID/fdinfo/"*; do sleep 0.1; done
        tries=0
        until (attach "$@") || [ $tries -ge 10 ]; do tries=$((tries + 1)); sleep 0.5; done
    ) </dev/null >{directory}/"$tap.log" 2>&1 &
    ;;
*) attach "$@" ;;
esac"""

# 3: the tap vanished with its hypervisor, and the agent has seen that first.
_DETACH = """{program} detach {fixed} "$HOMEPORT_VM" --interface "${{HOMEPORT_INTERFACE:-eth0}}" >&2 || [ $? -eq 3 ]"""
