"""Cases written by hand, for the tests of the runner."""

import gzip
import json
from pathlib import Path
from typing import Any

WEB, DB = {"app": "web"}, {"app": "db"}


def pod(name: str, labels: dict[str, str], address: str, **more: Any) -> dict[str, Any]:
    return {"ns": "shop", "name": name, "labels": labels, "ips": [address], "containerPorts": [], **more}


def policy(name: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def expect(source: str, target: str, allowed: bool, port: int = 5432, **more: Any) -> dict[str, Any]:
    return {"from": source, "to": target, "port": port, "protocol": "TCP", "allowed": allowed, **more}


def case(name: str, policies: list[dict[str, Any]], *expectations: dict[str, Any], **more: Any) -> dict[str, Any]:
    pods = [pod("web", WEB, "192.0.2.11"), pod("db", DB, "192.0.2.12"), pod("other", {}, "192.0.2.13")]
    namespaces = {"shop": {"team": "a"}}
    return {"id": name, "namespaces": namespaces, "pods": pods, "policies": policies, "expect": expectations} | more


ONLY_WEB = policy(
    "only-web", podSelector={"matchLabels": DB}, ingress=[{"from": [{"podSelector": {"matchLabels": WEB}}]}]
)
SHUT = policy("shut", podSelector={}, policyTypes=["Ingress", "Egress"])


def write(folder: Path, *cases: dict[str, Any], file: str = "own.jsonl.gz") -> None:
    with gzip.open(folder / file, "wt") as lines:
        lines.writelines(f"{json.dumps(each)}\n" for each in cases)
