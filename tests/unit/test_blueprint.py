"""An error in space.yaml names file, line and what to write instead; an export reads back as itself."""

from pathlib import Path

import pytest
import yaml

from cloister.blueprint import BlueprintError, catalogue, dump, read

DEMO = sorted((Path(__file__).parent.parent.parent / "demo").glob("*/space.yaml"))
GOOD = "slug: my-space\nkind: study\ntitle: T\n"


def fault(tmp_path, text):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(BlueprintError) as caught:
        read(path)
    return caught.value.detail.replace(str(path), "space.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "enrolmnt: {mode: open}\n", "space.yaml:4: “enrolmnt” is not known here. Did you mean “enrolment”?"),
        ("slug: my-space\nkind: course\n", "space.yaml:1: “title” is missing."),
        (GOOD + "sizes:\n  small:\n    memory: lots\n", "space.yaml:6: “sizes.small.memory”: “lots” is no size"),
        (GOOD + "registration:\n  - {name: a, type: choice, label: A}\n", "space.yaml:5: “registration.0”: options"),
        (GOOD + "agreements:\n  - {name: dua, title: D, file: gone.md}\n", "space.yaml:5: "),
        (GOOD + "enrolment: [\n", "space.yaml:5:"),
        ("- a\n", "space.yaml:1: this should be a mapping"),
        (GOOD + "enrolment: {mode: code}\n", "space.yaml:4: “enrolment”: a code belongs"),
        (
            GOOD + "grants:\n" + 2 * "  - {to: everybody, dataset: d, allow: [query]}\n",
            "space.yaml:1: there are two: grant to query “d”",
        ),
        (
            GOOD + "grants:\n  - {to: everybody, dataset: d, allow: [query, mount], max_rows: 1}\n",
            "space.yaml:5: “grants.0”: max_rows",
        ),
    ],
)
def test_errors_name_the_line_and_the_way_out(tmp_path, text, said):
    assert fault(tmp_path, text).startswith(said)


@pytest.mark.parametrize("path", DEMO, ids=lambda path: path.parent.name)
def test_an_export_reads_back_as_itself(path, tmp_path):
    blueprint = read(path)
    (tmp_path / "space.yaml").write_text(dump(blueprint))
    assert read(tmp_path / "space.yaml") == blueprint


def test_a_code_is_not_kept_in_clear(tmp_path):
    (tmp_path / "space.yaml").write_text(GOOD + "enrolment: {mode: code, code: open sesame}\n")
    text = dump(read(tmp_path / "space.yaml"))
    assert "sesame" not in text
    assert yaml.safe_load(text)["enrolment"]["code_sha256"]


def test_a_space_uses_environments_of_the_catalogue_by_name(tmp_path):
    path, own = tmp_path / "space.yaml", tmp_path / "own.yaml"
    path.write_text(GOOD + "environments: [python-datascience, {name: mine, packages: [six]}, house]\n")
    own.write_text("- {name: house, packages: [tqdm]}\n- {name: python-datascience, packages: [numpy]}\n")
    environments = {e.name: e for e in read(path, catalogue(own)).environments}
    assert list(environments) == ["python-datascience", "mine", "house"]
    assert environments["python-datascience"].packages == ["numpy"], "the operator's wins"
    assert fault(tmp_path, GOOD + "environments:\n  - python\n").startswith(
        "space.yaml:5: “python” is no environment here; there are python-basic, python-datascience, r, marimo."
    )
