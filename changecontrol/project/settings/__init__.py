"""Every setting, from the environment, with safe defaults. Unsafe combinations are refused by `project.checks`."""

from __future__ import annotations

from changecontrol.project.settings.base import *  # noqa: F403
from changecontrol.project.settings.logs import *  # noqa: F403
from changecontrol.project.settings.security import *  # noqa: F403
from changecontrol.project.settings.work import *  # noqa: F403
