"""streamcore: stream-first data pipelines."""
