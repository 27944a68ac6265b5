"""Worlds for tests: nodes, switches and guests as network namespaces, real etcd, real captures."""
