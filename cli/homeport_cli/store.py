"""`store`: everything of Homeport's in the store as a file, and back."""

from pathlib import Path

import click

from homeport_api.durations import format_time
from homeport_api.errors import HomeportError, Invalid
from homeport_cli.options import common_options, pass_session
from homeport_cli.session import Session
from homeport_store import snapshot


@click.group("store")
def store() -> None:
    """Snapshots of the store."""


@store.command("snapshot")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@common_options
@pass_session
def save(session: Session, file: Path) -> None:
    """Write all of Homeport's records to FILE, as they stand at one moment."""
    taken = snapshot.take(session.store)
    try:
        snapshot.save(taken, file)
    except OSError as error:
        raise HomeportError(f"cannot write {file}: {error.strerror}") from error
    click.echo(f"{file}: {len(taken.values)} records of revision {taken.revision}")


@store.command("restore")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace what the store holds.")
@common_options
@pass_session
def restore(session: Session, file: Path, force: bool) -> None:
    """Make Homeport's part of the store what FILE says.

    Agents notice, add what they have attached since, and give out no new address until all known nodes did or
    --restore-wait has passed.
    """
    try:
        loaded = snapshot.load(file)
    except OSError as error:
        raise Invalid(f"{file}: {error.strerror}") from error
    done = snapshot.restore(session.store, loaded, force)
    click.echo(
        f"{file} of {format_time(int(loaded.taken))} restored: {done.written} records written, {done.deleted} deleted, "
        f"{done.unchanged} unchanged"
    )
