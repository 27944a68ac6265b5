"""Benchmarks against the stock CNI plugins, on one machine and in one run: `make bench`. No test collects them."""
