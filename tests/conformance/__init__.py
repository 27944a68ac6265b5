"""The conformance cases of NetworkPolicy, held against oracle, compiler and the real table with real packets."""
