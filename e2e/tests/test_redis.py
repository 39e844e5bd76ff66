"""The chart's replicated Redis: a primary, two replicas and their Sentinels, what they survive, and a run on them."""

import subprocess
import time

import pytest
import yaml

import kube
from test_fleet import examine, fleet, succeeded

RELEASE = "bench"
NAME = f"{RELEASE}-redis-replicated"
PODS = [f"{NAME}-{n}" for n in range(3)]
KEY = "nearbench-redis-url"


class Redis:
    """What the chart makes for it, alone in a namespace."""

    def __init__(self, namespace, chart, image):
        self.namespace = namespace
        given = ("redis.replicated.enabled=true", f"redis.image={image}")
        made = kube.call("helm", "template", RELEASE, chart, f"--namespace={namespace.name}", "--kube-version=1.34.0",
                         "--show-only=templates/redis.yaml", *(f"--set={value}" for value in given))
        namespace.apply(*(thing for thing in yaml.safe_load_all(made) if thing))
        self.whole()

    def redis(self, pod, *arguments):
        return self._ask(pod, "redis", "-e", *arguments)

    def sentinel(self, pod, *arguments, user="sentinel"):
        return self._ask(pod, "sentinel", "-e", "--user", user, "-p", "26379", "sentinel", *arguments)

    def _ask(self, pod, container, *arguments):
        command = ("exec", pod, f"--container={container}", "--", "redis-cli", *arguments)
        return self.namespace.kubectl(*command, seconds=20).strip()

    def primary(self):
        """The pod that leads: two Sentinels name it, and it thinks so too."""
        named = [self.sentinel(pod, "get-master-addr-by-name", "nearbench").partition(".")[0] for pod in PODS]
        leads = next(name for name in named if named.count(name) > 1)
        assert self.redis(leads, "role").split()[0] == "master", named
        return leads

    def followers(self):
        """The pods that follow it, and have all of it."""
        leads = self.primary()
        replicas = [pod for pod in PODS if pod != leads]
        for pod in replicas:
            assert self.redis(pod, "ping") == "PONG"
            assert self.redis(pod, "role").split()[:2] == ["slave", f"{leads}.{NAME}.{self.namespace.name}.svc"]
        return replicas

    def whole(self, seconds=120):
        """Waits until all three are as they should be; the pod that leads."""
        eventually(self.followers, seconds)
        self.namespace.rollout(f"statefulset/{NAME}")
        return self.primary()

    def kill(self, *pods):
        """Ends pods at once, as a node that dies would."""
        before = {pod: self._uid(pod) for pod in pods}
        self.namespace.kubectl("delete", *(f"pod/{pod}" for pod in pods), "--grace-period=0", "--force")
        for pod in pods:
            eventually(lambda pod=pod: self._uid(pod) != before[pod] or missing(pod), 60)

    def _uid(self, pod):
        return self.namespace.get(f"pod/{pod}")["metadata"]["uid"]

    def hand_to(self, namespace):
        """Puts what a run needs of it into another namespace, as NOTES.txt says; the name of the Secret there."""
        secret = self.namespace.get(f"secret/{NAME}")
        namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME},
                         "data": {KEY: secret["data"][KEY]}})
        return NAME


def missing(pod):
    raise AssertionError(f"{pod} was not made again")


def eventually(holds, seconds):
    """Asks until it is answered without an error, as pods come and go; the answer."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return holds()
        except (AssertionError, StopIteration, IndexError, subprocess.TimeoutExpired):
            if time.monotonic() > deadline:
                raise
        time.sleep(0.5)


@pytest.fixture
def redis(apart, repository, redis_image):
    return Redis(apart("redis"), repository / "charts/nearbench", redis_image)


@pytest.mark.whole
def test_what_two_servers_have_survives_the_primary_and_all_three(redis):
    first = redis.primary()
    assert redis.redis(first, "set", "kept", "1") == "OK" and redis.redis(first, "wait", "2", "5000") == "2"
    redis.kill(first)
    second = redis.whole()
    # Who comes back follows: the replicas have it all, and need not load it.
    assert second != first and redis.redis(second, "get", "kept") == "1"
    assert redis.redis(second, "set", "since", "2") == "OK" and redis.redis(second, "wait", "2", "5000") == "2"
    redis.kill(*PODS)
    third = redis.whole()
    assert (redis.redis(third, "get", "kept"), redis.redis(third, "get", "since")) == ("1", "2")


@pytest.mark.whole
def test_a_primary_whose_volume_is_lost_does_not_empty_the_others(redis):
    first = redis.primary()
    assert redis.redis(first, "set", "kept", "1") == "OK" and redis.redis(first, "wait", "2", "5000") == "2"
    redis.namespace.kubectl("delete", f"persistentvolumeclaim/data-{first}", "--wait=false")
    redis.kill(first)
    redis.namespace.wait(f"pod/{first}", "condition=Ready")
    second = redis.whole()
    assert second != first and redis.redis(second, "get", "kept") == "1"


@pytest.mark.whole
def test_a_sentinel_tells_strangers_who_leads_and_nothing_else(redis):
    asked = redis.sentinel(PODS[0], "get-master-addr-by-name", "nearbench", user="default")
    assert asked.split() == [f"{redis.primary()}.{NAME}.{redis.namespace.name}.svc", "6379"]
    for refused in (["remove", "nearbench"], ["failover", "nearbench"], ["set", "nearbench", "quorum", "1"], ["masters"]):
        with pytest.raises(kube.CommandFailed, match="NOPERM"):
            redis.sentinel(PODS[0], *refused, user="default")


@pytest.mark.whole
def test_a_run_goes_on_while_the_primary_and_then_a_replica_die(runs, redis):
    secret = redis.hand_to(runs.namespace)
    # Of its time a failover takes some seconds, and as many the replica that it waits for.
    runs.apply(fleet("survives", seconds=90, workers=4, patch={"store": {"redis": {"secretRef": {"name": secret}}}}))
    succeeded(runs, "survives", 100, 180)
    first = redis.primary()
    redis.kill(first)
    second = redis.whole()
    assert second != first
    succeeded(runs, "survives", 600, 180)
    redis.kill(redis.followers()[0])
    results = examine(runs.complete("survives", 300), 1800)
    assert results["accepted"] == 1800 and results["unknown"] == 0, results
    # The run's own Redis is none, and of the run nothing is left in this one.
    assert not [child for child in runs.children("survives") if child.startswith("statefulset") and "redis" in child]
    assert redis.redis(redis.whole(), "dbsize") == "0"
