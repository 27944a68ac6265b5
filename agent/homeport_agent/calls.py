"""What arrives on the socket: a CNI call of a shim, or a request of the command line, answered in its own form."""

import logging
import time

from homeport_agent import metrics
from homeport_agent.commands import Commands, Node
from homeport_agent.requests import Requests
from homeport_api.errors import BadInput, HomeportError
from homeport_cni import errors
from homeport_cni.conf import declared_version
from homeport_cni.frames import (
    CniCall,
    CniReply,
    Frame,
    Kind,
    decode_call,
    decode_json,
    encode_json,
    encode_reply,
)
from homeport_cni.skel import dispatch
from homeport_cni.sockets import Received

log = logging.getLogger(__name__)


class Calls:
    """The server's handler."""

    def __init__(self, node: Node, requests: Requests) -> None:
        self._node = node
        self._requests = requests

    def handle(self, received: Received) -> Frame:
        match received.frame.kind:
            case Kind.CNI_REQUEST:
                return self._cni(received)
            case Kind.JSON:
                return self._json(received)
            case Kind.CNI_REPLY:
                raise BadInput("a reply is no request")

    def refuse(self, received: Received, error: HomeportError) -> Frame:
        """The answer to a request that is not begun."""
        if received.frame.kind is Kind.CNI_REQUEST:
            call = decode_call(received.frame.payload)
            return encode_reply(CniReply(1, errors.render(error, declared_version(call.stdin))))
        return encode_json(refusal(error))

    def _cni(self, received: Received) -> Frame:
        began = time.monotonic()
        call = decode_call(received.frame.payload)
        descriptor = received.take()
        if descriptor is not None:
            received.descriptors.append(descriptor)  # closed with the request
        code, stdout = dispatch(call.executable, call.environ, call.stdin, Commands(self._node, descriptor))
        self._count(call, code, stdout, time.monotonic() - began)
        return encode_reply(CniReply(code, stdout))

    def _count(self, call: CniCall, code: int, stdout: bytes, seconds: float) -> None:
        command = call.environ.get("CNI_COMMAND", "")
        command = command if command in {"ADD", "DEL", "CHECK", "GC", "STATUS"} else "other"
        error = errors.read(stdout) if code else None
        metrics.requests.labels(call.executable, command, str(error.code if error else 0)).inc()
        metrics.request_seconds.labels(command).observe(seconds)
        if error is not None:
            container = call.environ.get("CNI_CONTAINERID", "")
            log.info("refused command=%s container=%s code=%d msg=%s", command, container, error.code, error.msg)

    def _json(self, received: Received) -> Frame:
        try:
            result = self._requests.answer(decode_json(received.frame.payload), received.take)
        except HomeportError as error:
            return encode_json(refusal(error))
        except Exception as error:
            log.exception("a request failed in a way nobody foresaw")
            return encode_json(refusal(error))
        return encode_json({"ok": True, "result": result})


def refusal(error: BaseException) -> dict[str, object]:
    """As the command line reads it."""
    code = errors.code_of(error)
    text = str(error) if isinstance(error, HomeportError) else "internal error; the agent's log has the whole of it"
    return {"ok": False, "code": int(code), "msg": text}
