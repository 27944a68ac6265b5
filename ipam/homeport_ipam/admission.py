"""Which namespaces may attach to a Network: `spec.allowedNamespaces`, a label selector of Kubernetes' form. Pure.

Without a selector: all, but none for a trunk, whose guests choose their VLANs themselves.
"""

from collections.abc import Mapping

from homeport_api.errors import NotAllowed
from homeport_api.network import Network

NAME_LABEL = "kubernetes.io/metadata.name"
"""The label every namespace has, with its own name; the only one known where nothing mirrors namespaces."""


def check_namespace(network: Network, namespace: str) -> None:
    """NotAllowed when guests of this namespace may not attach."""
    selector = network.spec.allowed_namespaces
    if selector is None:
        if network.spec.l2.trunk is None:
            return
        raise NotAllowed(
            f"Network {network.name} is a trunk without allowedNamespaces: name the namespaces that may attach there "
            f"(namespace {namespace} asked)"
        )
    if not selects(selector, {NAME_LABEL: namespace}):
        raise NotAllowed(f"Network {network.name}: its allowedNamespaces do not select namespace {namespace}")


def selects(selector: Mapping[str, object], labels: Mapping[str, str]) -> bool:
    """Label selector semantics: all of matchLabels and matchExpressions; the empty selector selects everything."""
    exact = selector.get("matchLabels") or {}
    expressions = selector.get("matchExpressions") or ()
    if not isinstance(exact, Mapping) or not isinstance(expressions, list | tuple):
        return False
    if any(labels.get(key) != value for key, value in exact.items()):
        return False
    return all(_meets(expression, labels) for expression in expressions)


def _meets(expression: Mapping[str, object], labels: Mapping[str, str]) -> bool:
    key, values = str(expression["key"]), expression.get("values") or ()
    if not isinstance(values, list | tuple):
        return False
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case _:
            return False
