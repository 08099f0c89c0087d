#!/usr/bin/env python
"""The command line of ChangeControl."""

from __future__ import annotations

import os
import sys

OWNER_COMMANDS = {"migrate", "makemigrations", "sqlmigrate", "dbshell"}
"""Commands that change the schema connect as its owner; everything else as the application."""


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "changecontrol.project.settings")
    if len(sys.argv) > 1 and sys.argv[1] in OWNER_COMMANDS:
        os.environ["CHANGECONTROL_AS_OWNER"] = "1"
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
