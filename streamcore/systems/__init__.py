"""Outside systems, one module each: connection settings, probes and the translation of drivers' errors."""
