"""The agent: one per node, the only thing that touches the node's network, and only what it made."""
