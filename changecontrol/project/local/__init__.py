"""What runs beside the application on one machine: PostgreSQL, Valkey, and the demo's supervisor.

Standard library and the two server wheels alone: nothing here imports Django or a model.
"""
