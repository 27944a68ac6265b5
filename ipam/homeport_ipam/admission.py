"""Which namespaces may attach to a Network: `spec.allowedNamespaces`, a label selector of Kubernetes' form. Pure.

Without a selector: all, but none for a trunk, whose guests choose their VLANs themselves. Of a namespace's labels only
its own name is looked at.
"""

from homeport_api.errors import NotAllowed
from homeport_api.network import Network
from homeport_api.networkpolicy import NAME_LABEL


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
    if not selector.selects({NAME_LABEL: namespace}):
        raise NotAllowed(f"Network {network.name}: its allowedNamespaces do not select namespace {namespace}")
