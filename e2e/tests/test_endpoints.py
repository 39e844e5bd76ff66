"""A run against a chain that is there: a devnet behind a Service, its key in a Secret."""

import base64
import json

import runs as make
from chains import SECRET


def test_a_run_pays_from_an_account_whose_key_is_in_a_secret(runs, chain):
    runs.apply(make.run("funded", chain.patch()))
    status = runs.complete("funded")
    results = status["results"]
    assert results["succeeded"] == 100 and results["audit"]["matches"], status
    said = runs.namespace.kubectl("logs", "job/funded")
    assert "removing 4 access keys" in said, "the run takes its keys off the account"
    key = json.loads(base64.b64decode(runs.namespace.get(f"secret/{SECRET}")["data"]["nearbench-account.json"]))
    told = said + runs.namespace.kubectl("get", "benchmarkruns,configmaps,jobs,pods,events", "--output=yaml")
    assert key["account_id"] in told and key["private_key"].removeprefix("ed25519:") not in told
