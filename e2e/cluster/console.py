"""console: what a person sees: stages with their time, and problems that say the way out."""

import subprocess
import time
from contextlib import contextmanager


class Problem(Exception):
    """Something that a person must act on: what failed, with which value, and the way out."""


def say(text):
    print(f"cluster: {text}", flush=True)


@contextmanager
def stage(name):
    """Announces a stage, and its time once it is done."""
    say(f"{name} ...")
    start = time.monotonic()
    yield
    say(f"{name}: {time.monotonic() - start:.1f} s")


def run(command, **options):
    """Runs a command and returns its standard output; a failure is a Problem with what it printed."""
    command = [str(word) for word in command]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    except FileNotFoundError:
        raise Problem(f"{command[0]} is not on this machine") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise Problem(f"`{' '.join(command)}` ended with {done.returncode}: {said}")
    return done.stdout
