"""What recovery asks of machines elsewhere. Protocols and frozen data, no client.

Adapters (`recovery/adapters/`) answer these protocols and raise only `Transient`, `Permanent` and, for what this
machine lacks or somebody stopped, `Hindered`.
"""
