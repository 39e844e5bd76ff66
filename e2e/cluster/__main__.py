"""python3 -m e2e.cluster up|down|status|load FILE.tar: the test cluster; see the package's documentation."""

import argparse
import signal
import sys

from . import lifecycle
from .console import Problem
from .settings import state


def main():
    parser = argparse.ArgumentParser(prog="python3 -m e2e.cluster",
                                     description="A Kubernetes of one node on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="bring it up, or say that it is up; with KUBECONFIG, check that one")
    commands.add_parser("down", help="take it away; what was built and the logs of failed tests stay")
    commands.add_parser("status", help="say whether it is up; exit code 1 if it is not")
    load = commands.add_parser("load", help="load an image archive into it")
    load.add_argument("file")
    arguments = parser.parse_args()
    # Ended like Ctrl-C, so that what was begun is taken back.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if arguments.command == "load":
            lifecycle.load(state(), arguments.file)
        else:
            getattr(lifecycle, arguments.command)(state())
    except Problem as problem:
        sys.exit(f"cluster: {problem}")
    except KeyboardInterrupt:
        sys.exit("cluster: interrupted")


if __name__ == "__main__":
    main()
