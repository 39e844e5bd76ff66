"""What the API server makes of manifests: the same table that `nearbench validate` is held to."""

import json

import runs as make


def test_every_case_is_accepted_or_refused_by_its_field(in_cluster, repository):
    table = repository / "crds/tests/manifests"
    base, cases = make.read(table / "base.yaml"), make.read(table / "cases.yaml")
    assert len(cases) > 40
    wrong = []
    for case in cases:
        manifest = dict(base, spec=make.merged(base["spec"], case["patch"]))
        answer = in_cluster("apply", "--dry-run=server", "-f", "-", input=json.dumps(manifest), check=False)
        said = answer.stderr.replace('unknown field "', "unknown field: ")
        if "field" not in case:
            as_meant = answer.returncode == 0
        else:
            as_meant = answer.returncode != 0 and case["field"] in said and case["server"] in said
        if not as_meant:
            wrong.append(f"{case['case']}: {answer.stderr or 'accepted'}")
    assert not wrong, "\n".join(wrong)


def test_a_name_that_cannot_become_a_label_is_refused(in_cluster):
    answer = in_cluster("apply", "--dry-run=server", "-f", "-", input=json.dumps(make.run("a" * 64)), check=False)
    assert answer.returncode != 0 and "at most 63 characters" in answer.stderr


def test_every_field_is_explained(kubectl, operator):
    assert "Transfers a second, of the whole fleet." in kubectl("explain", "benchmarkrun.spec.load.phases.arrivalRate")
