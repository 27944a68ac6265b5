"""Persistence: one small protocol, held by etcd on real nodes and by memory in tests."""
