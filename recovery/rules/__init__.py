"""Decisions about recovery on frozen dataclasses: nothing here reads a database or a clock."""
