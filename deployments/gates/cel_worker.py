"""Evaluates CEL in a process of its own, so that a rule without end can be killed. Standard library and CEL alone.

Run as `python -I -S cel_worker.py FOLDER SECONDS MEGABYTES`, where FOLDER holds the extension module. It reads one JSON
document, {"expressions": […], "questions": [[index, variables], …]}, and answers a list: booleans, or errors as text.
"""

from __future__ import annotations

import json
import resource
import sys


def main() -> None:
    folder, seconds, megabytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    # The package's own __init__ takes a second to import; the extension module beside it is all that is needed.
    sys.path.insert(0, folder)
    import cel

    asked = json.load(sys.stdin)
    programs: list[object] = []
    for expression in asked["expressions"]:
        try:
            programs.append(cel.compile(expression))
        except Exception as error:  # noqa: BLE001 - a rule that does not compile is an answer, and fails closed
            programs.append(f"{type(error).__name__}: {error}")
    answers: list[bool | str] = []
    for index, words in asked["questions"]:
        program = programs[index]
        if isinstance(program, str):
            answers.append(program)
            continue
        try:
            answer = program.execute(words)
        except Exception as error:  # noqa: BLE001 - so is one that cannot be asked of this object
            answers.append(f"{type(error).__name__}: {error}")
        else:
            answers.append(answer if isinstance(answer, bool) else f"The rule answered {type(answer).__name__}.")
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
