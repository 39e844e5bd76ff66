"""What the API server makes of manifests: the same table that `nearbench validate` is held to."""

import json

import kube
import runs as make


def refusal(namespace, manifest):
    """What the API server says against a manifest; None where it would take it."""
    try:
        namespace.kubectl("apply", "--dry-run=server", "--filename=-", input=json.dumps(manifest))
    except kube.CommandFailed as failed:
        return failed.stderr
    return None


def test_every_case_is_accepted_or_refused_by_its_field(operator, namespace, repository):
    table = repository / "crds/tests/manifests"
    base, cases = make.read(table / "base.yaml"), make.read(table / "cases.yaml")
    assert len(cases) > 40
    wrong = []
    for case in cases:
        manifest = dict(base, spec=make.merged(base["spec"], case["patch"]))
        said = refusal(namespace, manifest)
        if "field" not in case:
            as_meant = said is None
        else:
            as_meant = said is not None and case["field"] in said and case["server"] in said
        if not as_meant:
            wrong.append(f"{case['case']}: {said or 'accepted'}")
    assert not wrong, "\n".join(wrong)


def test_a_name_that_cannot_become_a_label_is_refused(operator, namespace):
    assert "at most 63 characters" in refusal(namespace, make.run("a" * 64))


def test_every_field_is_explained(operator):
    explained = kube.call("kubectl", "explain", "benchmarkrun.spec.load.phases.arrivalRate")
    assert "Transfers a second, of the whole fleet." in explained
