"""How all our programs begin, before anything is imported that takes long.

The kernel gives the first process of a container no signal that it has no handler for (pid_namespaces(7)). So a pod
that is told to stop in its first second would run on until the end of its grace period.
"""

import importlib
import os
import signal

__all__ = ["start"]


def start(module: str, interrupted: int) -> int:
    """Import a program's module and run its `main`; return the exit code.

    Args:
        module: the module's name.
        interrupted: the exit code after Ctrl-C meanwhile.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))  # until the program sets its own
    try:
        program = importlib.import_module(module)
    except KeyboardInterrupt:
        return interrupted
    return int(program.main())
