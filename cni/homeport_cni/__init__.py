"""The CNI protocol: the shims a runtime executes, and the pure part that answers for them inside the agent."""
