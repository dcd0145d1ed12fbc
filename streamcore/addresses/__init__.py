"""How a user says where data is, or goes: URIs with options, and the same as dictionaries of configurations.

What sources and sinks read alike. Nothing here opens anything or knows a connector: the catalogues
(``batch_adapters.catalogue``, ``streamcore.sources.catalogue``, ``streamcore.sinks.catalogue``) do.
"""
