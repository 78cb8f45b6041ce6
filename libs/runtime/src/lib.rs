//! What every binary shares: flags, logs, health, metrics, TLS, leases, watches folded into indexes.
