"""The kernel side: namespaces, links, bridges, VLANs, taps and nft, as idempotent verbs. Knows no policy, no store."""
