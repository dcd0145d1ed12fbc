"""How a worker shows what it does: metrics, health checks, their HTTP endpoints, and logs."""
