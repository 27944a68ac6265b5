"""`python -m homeport_agent`: runs until SIGTERM or SIGINT. The `homeport agent` verb becomes this process."""

import argparse
import fcntl
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from homeport_agent.agent import Agent
from homeport_agent.options import AgentOptions
from homeport_agent.steps import hook_from
from homeport_api.durations import parse_duration
from homeport_api.errors import HomeportError

log = logging.getLogger("homeport_agent")


class OneLine(logging.Formatter):
    """A record is one line (a traceback follows it): names that callers wrote cannot begin another."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        text = super().formatMessage(record)
        return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def parse_options(arguments: list[str]) -> AgentOptions:
    """Exits with 2 and a usage line for what it does not understand, as argparse does."""
    parser = argparse.ArgumentParser("homeport agent", allow_abbrev=False)
    defaults = AgentOptions()
    parser.add_argument("--run-dir", type=Path, default=defaults.run_dir)
    parser.add_argument("--data-dir", type=Path, default=defaults.data_dir)
    parser.add_argument("--node", default="")
    parser.add_argument("--cluster-name", default=defaults.cluster_name)
    parser.add_argument("--etcd-endpoints", type=_endpoints, default=())
    for name in ("--cacert", "--cert", "--key"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--http-address")
    for name in ("--rest", "--store-grace", "--heartbeat", "--restore-wait", "--learned-idle", "--queue-deadline"):
        attribute = name[2:].replace("-", "_")
        parser.add_argument(name, type=_duration, default=getattr(defaults, attribute), metavar="DURATION")
    parser.add_argument("--max-requests", type=_count, default=defaults.max_requests)
    parser.add_argument("--boot-id")
    parser.add_argument("--machine-id")
    return AgentOptions(**vars(parser.parse_args(arguments)))


def main() -> int:
    options = parse_options(sys.argv[1:])
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=os.environ.get("HOMEPORT_LOG_LEVEL", "INFO"), handlers=[handler])
    if os.geteuid() != 0:
        print("homeport agent: must run as root: it makes network namespaces and links", file=sys.stderr)  # noqa: T201
        return 1
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        hook = hook_from(os.environ.get("HOMEPORT_FAULT", ""), options.run_dir)
        locks = [
            _lock("--run-dir", options.run_dir, "agent.lock"),
            _lock("--data-dir", options.data_dir, "journal.lock"),
        ]
        agent = Agent(options, hook)
        agent.start()
    except (HomeportError, OSError, ValueError) as error:
        log.error("cannot start: %s", error)
        return 1
    while not stop.wait(3600):
        pass
    agent.stop()
    for lock in locks:
        os.close(lock)
    return 0


def _lock(option: str, directory: Path, name: str) -> int:
    """One agent a run directory, whose socket is there, and one a data directory: the journal in there has one writer,
    and a second reader would take the first one's guests for lost. Raises OSError with words when another one runs."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    descriptor = os.open(directory / name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise OSError(
            f"another agent runs with {option} {directory}: stop it, or give this one a directory of its own"
        ) from None
    return descriptor


def _endpoints(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1024")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
