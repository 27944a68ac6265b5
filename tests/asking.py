"""What the command line sends to an agent, without starting a command line, which takes seconds where Python is
emulated."""

import contextlib
import os
from pathlib import Path
from typing import Any

from homeport_cni.frames import decode_json, encode_json
from homeport_cni.sockets import connect, read_frame, send_frame
from homeport_netns_fixtures.netns import Namespace


class Refused(Exception):
    """What the agent answered to a request of the command line."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def ask(run_dir: Path, verb: str, *, guest: Namespace | None = None, **request: Any) -> Any:
    """The answer's result. Raises Refused."""
    if guest is not None:
        request |= {"kind": "netns", "netns": os.fspath(guest.path)}
    frame = encode_json({"verb": verb, "namespace": "default"} | request)
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(connect(os.fspath(run_dir / "agent.sock")))
        descriptors = []
        if guest is not None:
            descriptors.append(stack.enter_context(guest.path.open("rb")).fileno())
        send_frame(connection, frame, tuple(descriptors))
        received = read_frame(connection)
    assert received is not None, "the agent closed the connection"
    answer = decode_json(received.frame.payload)
    if not answer["ok"]:
        raise Refused(answer["code"], answer["msg"])
    return answer["result"]
