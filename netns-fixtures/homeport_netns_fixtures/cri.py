"""The few calls of the Container Runtime Interface that tests make, as a kubelet makes them, over containerd's socket.

The messages are described by the tables below: only the fields used, with the numbers of the interface `runtime.v1`.
Whatever else the runtime sends is skipped, as protocol buffers do.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Before grpc is imported: its fork handlers have nothing to do here and warn at every subprocess.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "runtime.v1"
# message: {field: (number, type)}; `*` repeated, `%` a map of strings, a capital letter another message.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "PodSandboxMetadata": {"name": (1, "string"), "uid": (2, "string"), "namespace": (3, "string")},
    "LinuxPodSandboxConfig": {"cgroup_parent": (1, "string")},
    "PodSandboxConfig": {
        "metadata": (1, "PodSandboxMetadata"),
        "hostname": (2, "string"),
        "log_directory": (3, "string"),
        "labels": (6, "%"),
        "annotations": (7, "%"),
        "linux": (8, "LinuxPodSandboxConfig"),
    },
    "RunPodSandboxRequest": {"config": (1, "PodSandboxConfig")},
    "RunPodSandboxResponse": {"pod_sandbox_id": (1, "string")},
    "StopPodSandboxRequest": {"pod_sandbox_id": (1, "string")},
    "StopPodSandboxResponse": {},
    "RemovePodSandboxRequest": {"pod_sandbox_id": (1, "string")},
    "RemovePodSandboxResponse": {},
    "PodIP": {"ip": (1, "string")},
    "PodSandboxNetworkStatus": {"ip": (1, "string"), "additional_ips": (2, "*PodIP")},
    "PodSandboxStatus": {"id": (1, "string"), "state": (3, "int32"), "network": (5, "PodSandboxNetworkStatus")},
    "PodSandboxStatusRequest": {"pod_sandbox_id": (1, "string"), "verbose": (2, "bool")},
    "PodSandboxStatusResponse": {"status": (1, "PodSandboxStatus"), "info": (2, "%")},
    "PodSandbox": {"id": (1, "string"), "metadata": (2, "PodSandboxMetadata"), "state": (3, "int32")},
    "ListPodSandboxRequest": {},
    "ListPodSandboxResponse": {"items": (1, "*PodSandbox")},
    "RuntimeCondition": {
        "type": (1, "string"),
        "status": (2, "bool"),
        "reason": (3, "string"),
        "message": (4, "string"),
    },
    "RuntimeStatus": {"conditions": (1, "*RuntimeCondition")},
    "StatusRequest": {"verbose": (1, "bool")},
    "StatusResponse": {"status": (1, "RuntimeStatus")},
    "ContainerMetadata": {"name": (1, "string")},
    "ImageSpec": {"image": (1, "string")},
    "ContainerConfig": {
        "metadata": (1, "ContainerMetadata"),
        "image": (2, "ImageSpec"),
        "command": (3, "*string"),
        "args": (4, "*string"),
    },
    "CreateContainerRequest": {
        "pod_sandbox_id": (1, "string"),
        "config": (2, "ContainerConfig"),
        "sandbox_config": (3, "PodSandboxConfig"),
    },
    "CreateContainerResponse": {"container_id": (1, "string")},
    "StartContainerRequest": {"container_id": (1, "string")},
    "StartContainerResponse": {},
    "ExecSyncRequest": {"container_id": (1, "string"), "cmd": (2, "*string"), "timeout": (3, "int64")},
    "ExecSyncResponse": {"stdout": (1, "bytes"), "stderr": (2, "bytes"), "exit_code": (3, "int32")},
}
_SCALARS = descriptor_pb2.FieldDescriptorProto


class CriFailed(AssertionError):
    """The runtime refused; the text is its own, with the CNI plugin's error in it."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A pod as a kubelet describes it to the runtime. The uid tells one sandbox of a pod's name from the next."""

    name: str
    uid: str
    namespace: str = "default"
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    """`netns` is where the pod's network namespace is, `cni_result` what the runtime keeps of the plugins' answer."""

    addresses: tuple[str, ...]
    netns: Path
    cni_result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Executed:
    code: int
    output: str


class Cri:
    """A client of one runtime. Every refusal is `CriFailed`."""

    def __init__(self, socket: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix://{socket}")

    def close(self) -> None:
        self._channel.close()

    def network_ready(self) -> str | None:
        """None when the runtime says that the network is ready, else why not: no configuration, a failing STATUS."""
        conditions = self._call("Status", {})["status"]["conditions"]
        network = next(condition for condition in conditions if condition["type"] == "NetworkReady")
        return None if network["status"] else network["message"]

    def run_pod_sandbox(self, sandbox: Sandbox, timeout: float = 60) -> str:
        """The sandbox's ID, which is the container ID that CNI plugins see."""
        answer = self._call("RunPodSandbox", {"config": _config(sandbox)}, timeout)
        return str(answer["pod_sandbox_id"])

    def stop_pod_sandbox(self, sandbox_id: str, timeout: float = 60) -> None:
        self._call("StopPodSandbox", {"pod_sandbox_id": sandbox_id}, timeout)

    def remove_pod_sandbox(self, sandbox_id: str, timeout: float = 60) -> None:
        self._call("RemovePodSandbox", {"pod_sandbox_id": sandbox_id}, timeout)

    def list_pod_sandboxes(self) -> list[str]:
        return [str(item["id"]) for item in self._call("ListPodSandbox", {})["items"]]

    def pod_sandbox_status(self, sandbox_id: str) -> SandboxStatus:
        answer = self._call("PodSandboxStatus", {"pod_sandbox_id": sandbox_id, "verbose": True})
        network, info = answer["status"]["network"], json.loads(answer["info"]["info"])
        namespaces = info["runtimeSpec"]["linux"]["namespaces"]
        return SandboxStatus(
            addresses=tuple(a for a in (network["ip"], *(more["ip"] for more in network["additional_ips"])) if a),
            netns=Path(next(entry["path"] for entry in namespaces if entry["type"] == "network")),
            cni_result=info.get("cniResult") or {},
        )

    def run_container(self, sandbox_id: str, sandbox: Sandbox, name: str, image: str) -> str:
        """Creates and starts a container with the image's own command; its ID."""
        config = {"metadata": {"name": name}, "image": {"image": image}}
        request = {"pod_sandbox_id": sandbox_id, "config": config, "sandbox_config": _config(sandbox)}
        container_id = str(self._call("CreateContainer", request)["container_id"])
        self._call("StartContainer", {"container_id": container_id})
        return container_id

    def exec_sync(self, container_id: str, command: Sequence[str], timeout: int = 30) -> Executed:
        request = {"container_id": container_id, "cmd": list(command), "timeout": timeout}
        answer = self._call("ExecSync", request, timeout + 5)
        return Executed(int(answer["exit_code"]), (answer["stdout"] + answer["stderr"]).decode(errors="replace"))

    def _call(self, method: str, request: Mapping[str, Any], timeout: float = 30) -> dict[str, Any]:
        sender, receiver = _class_of(f"{method}Request"), _class_of(f"{method}Response")
        call = self._channel.unary_unary(
            f"/{_PACKAGE}.RuntimeService/{method}",
            request_serializer=sender.SerializeToString,
            response_deserializer=receiver.FromString,
        )
        try:
            # The socket is there before the server answers; a call may wait for it.
            answer = call(sender(**request), timeout=timeout, wait_for_ready=True)
        except grpc.RpcError as error:
            raise CriFailed(f"{method}: {error.code().name}: {error.details()}") from error
        return _plain(answer)


def _config(sandbox: Sandbox) -> dict[str, Any]:
    return {
        "metadata": {"name": sandbox.name, "uid": sandbox.uid, "namespace": sandbox.namespace},
        "hostname": sandbox.name,
        "labels": dict(sandbox.labels),
        "annotations": dict(sandbox.annotations),
        "linux": {},
    }


def _plain(message: Any) -> dict[str, Any]:
    """Every field of a message, absent ones with their defaults."""
    answer: dict[str, Any] = {}
    for name, (_, kind) in _MESSAGES[message.DESCRIPTOR.name].items():
        value = getattr(message, name)
        if kind == "%":
            value = dict(value)
        elif kind.startswith("*"):
            value = [_plain(item) if kind[1:] in _MESSAGES else item for item in value]
        elif kind in _MESSAGES:
            value = _plain(value)
        answer[name] = value
    return answer


def _class_of(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def _describe() -> Any:
    """The tables as the descriptors that the protobuf library works with."""
    file = descriptor_pb2.FileDescriptorProto(name="runtime.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            described = message.field.add(name=field_name, number=number)
            described.label = _SCALARS.LABEL_REPEATED if kind[0] in "*%" else _SCALARS.LABEL_OPTIONAL
            kind = kind.removeprefix("*")
            if kind == "%":
                described.type = _SCALARS.TYPE_MESSAGE
                described.type_name = f".{_PACKAGE}.{name}.{_add_map_entry(message, field_name)}"
            elif kind in _MESSAGES:
                described.type, described.type_name = _SCALARS.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                described.type = getattr(_SCALARS, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _add_map_entry(message: Any, field_name: str) -> str:
    """A map is a repeated message of key and value, named after its field."""
    entry = message.nested_type.add(name="".join(part.capitalize() for part in field_name.split("_")) + "Entry")
    entry.options.map_entry = True
    for number, name in enumerate(("key", "value"), 1):
        entry.field.add(name=name, number=number, type=_SCALARS.TYPE_STRING, label=_SCALARS.LABEL_OPTIONAL)
    return str(entry.name)


_POOL = _describe()
