"""The pure parts of modules: configuration, archives, manifests, versions, READMEs."""

import io
import json
import stat
import zipfile
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.core.errors import CloisterError
from cloister.modules.archive import MAX_BYTES, check_path, pack, unpack
from cloister.modules.changes import changes_between
from cloister.modules.configuration import check_values, json_schema, read_model
from cloister.modules.manifest import Permissions, describe
from cloister.modules.requirements import dependencies
from cloister.modules.versions import check_next, choose
from cloister.platform.markdown import to_html
from tests.support import ROOT


def said(call, *arguments):
    with pytest.raises(CloisterError) as caught:
        call(*arguments)
    return caught.value.detail


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        ([{"type": "slider", "name": "a"}], "entry 1 (“a”): a slider needs “min” and “max”"),
        ([{"type": "text", "name": "a"}, {"type": "TEXT", "name": "a"}], "entry 2 (“a”): there is another"),
        ([{"type": "select", "name": "s", "options": []}], "entry 1 (“s”): a select needs “options”"),
        ([{"type": "knob", "name": "k"}], "entry 1 (“k”): “type”: input should be"),
        ([{"type": "date", "name": "d", "default": "soon"}], "entry 1 (“d”): is a date"),
        ([{"name": "d"}], "entry 1 (“d”): “type”"),
        ([7], "entry 1: Input should be"),
        ({}, "this should be a list"),
    ],
)
def test_a_fault_in_a_configuration_model_names_the_entry(entries, fault):
    assert said(read_model, json.dumps(entries)).startswith(f"config.json: {fault}")


def test_values_are_checked_and_defaults_fill_the_rest():
    model = read_model(
        json.dumps([
            {"type": "Slider", "name": "n", "label": "How many", "default": 3, "min": 1, "max": 9},
            {"type": "switch", "name": "on", "default": True},
            {"type": "select", "name": "s", "options": [{"label": "A", "value": 1}], "default": 1},
            {"type": "color", "name": "c", "default": "#fff"},
        ])
    )  # fmt: skip
    assert check_values(model, {"n": 5}) == {"n": 5, "on": True, "s": 1, "c": "#fff"}
    assert said(check_values, model, {"n": 10}) == "“How many” lies from 1 to 9."
    assert "is true or false" in said(check_values, model, {"on": 1})
    assert "is one of: 1" in said(check_values, model, {"s": True})
    assert "is a colour" in said(check_values, model, {"c": "red;}"})
    assert "no setting" in said(check_values, model, {"x": 1})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_whatever_config_json_is_the_answer_is_a_model_or_a_sentence(data):
    try:
        read_model(json.dumps(data))
    except CloisterError as error:
        assert error.detail.startswith("config.json: ")


def zipped(*entries) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return out.getvalue()


FILE = stat.S_IFREG | 0o644


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        ([("../evil.py", b"", FILE)], "path"),
        ([("/etc/passwd", b"", FILE)], "path"),
        ([("a/./b", b"", FILE)], "path"),
        ([("link", b"/etc/passwd", stat.S_IFLNK | 0o777)], "“link” is a link or a device"),
        ([("dev", b"", stat.S_IFCHR | 0o666)], "“dev” is a link or a device"),
        ([("a.py", b"1", FILE), ("A.py", b"2", FILE)], "“A.py” is in it twice"),
        ([("bomb", b"\0" * (MAX_BYTES + 1), FILE)], "“bomb” is too large"),
        ([(f"f{n}", b"", FILE) for n in range(501)], "at most 500 files"),
        ([], "It is empty"),
    ],
)
def test_an_archive_that_could_do_harm_is_refused_by_name(entries, fault):
    with pytest.warns(UserWarning) if fault == "twice" else _quiet():
        assert fault in said(unpack, zipped(*entries))


class _quiet:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


def test_what_is_no_archive_or_damaged_is_refused():
    assert said(unpack, b"hello") == "This is no ZIP file."
    data = bytearray(zipped(("a.py", b"print('hello') " * 100, FILE)))
    data[40] ^= 0xFF
    assert "damaged" in said(unpack, bytes(data))
    newer = bytearray(zipped(("a.py", b"print('hello')", FILE)))
    newer[newer.index(b"PK\x01\x02") + 6] = 99  # says that it takes a program of the future to be read
    assert said(unpack, bytes(newer)) == "This is no ZIP file."
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.py", b"print('hello') " * 100)
    broken = bytearray(out.getvalue())
    broken[50:60] = b"\xff" * 10
    assert "damaged" in said(unpack, bytes(broken))


PATHS = st.lists(st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), min_size=1, max_size=3).map("/".join)


@given(st.dictionaries(PATHS.map(lambda p: p + ".py"), st.binary(max_size=200), min_size=1, max_size=6))
def test_packing_is_undone_by_unpacking_and_equal_files_make_equal_bytes(files):
    packed = pack({"main.py": b"", **files})
    assert unpack(packed) == {"main.py": b"", **files}
    assert packed == pack({**files, "main.py": files.get("main.py", b"")})


@given(st.text(max_size=30))
def test_a_path_that_is_taken_stays_inside(path):
    try:
        check_path(path)
    except CloisterError:
        return
    assert not path.startswith("/")
    assert ".." not in path.split("/")


def test_the_folder_that_archives_have_around_everything_is_taken_off():
    assert unpack(zipped(("my-module/main.py", b"1", FILE), ("my-module/lib/a.py", b"2", FILE))) == {
        "main.py": b"1",
        "lib/a.py": b"2",
    }


def test_a_module_says_what_it_is_by_its_files_or_in_module_yaml():
    assert describe({"main.py": b""}).manifest.runtime == "python"
    assert describe({"index.js": b""}).manifest.runtime == "node"
    assert describe({"index.html": b""}).manifest.kind == "widget"
    declared = describe(
        {"main.py": b"", "module.yaml": b"kind: integration\npermissions: {hosts: [{host: a.example}]}\n"}
    )
    assert [rule.host for rule in declared.manifest.permissions.hosts] == ["a.example"]
    assert "module.yaml: “titel”" in said(describe, {"main.py": b"", "module.yaml": b"titel: X\n"})
    assert "needs one of" in said(describe, {"README.md": b""})
    assert "needs index.html" in said(describe, {"module.yaml": b"kind: widget\n"})


def test_what_a_release_asks_for_more_is_said_in_words():
    before = Permissions.model_validate({"hosts": [{"host": "a.example"}]})
    after = Permissions.model_validate(
        {"hosts": [{"host": "a.example"}, {"host": "b.example"}], "datasets": True, "size": {"memory": "2G"}}
    )
    assert after.beyond(before) == ["reach b.example:443", "ask any governed data", "more memory", "more processes"]
    assert before.beyond(before) == []
    some, others = (Permissions(datasets=names) for names in (["rain"], ["rain", "tides"]))
    assert (some.beyond(before), others.beyond(some), after.beyond(some)[1]) == (
        ["ask rain"],
        ["ask tides"],
        "ask any governed data",
    )
    assert some.beyond(after) == []


def test_versions_only_rise_and_ranges_choose_the_newest_that_fits():
    published = ["1.0.0", "1.2.0", "2.0.0-beta.1"]
    assert "is taken" in said(check_next, "1.2.0", published)
    assert "is lower" in said(check_next, "1.3.0", published)
    assert "is no version" in said(check_next, "1.3", published)
    check_next("2.0.0", published)
    assert choose("latest", published) == "1.2.0"
    assert choose("^1.0.0", published) == "1.2.0"
    assert choose("1.0.0", ["1.2.0"], ["1.0.0", "1.2.0"]) == "1.0.0", "what was yanked runs where it is pinned"
    assert choose("3.x", published) is None
    assert "no version or range" in said(choose, "newest!", published)


def needed(main, name, text):
    files = {main: b"", name: text.encode()}
    return dependencies(describe(files), files)


def test_only_plain_requirements_are_installed():
    needs = partial(needed, "main.py", "requirements.txt")
    assert needs("# mine\nnumpy>=2 ; python_version > '3'\nvisualbox\n\npandas\n") == [
        'numpy>=2; python_version > "3"',
        "pandas",
    ]
    for bad in (
        "-e .",
        "--index-url https://evil.example",
        "git+https://evil.example/x",
        "x @ https://evil.example/x.whl",
    ):
        assert said(needs, bad).startswith("requirements.txt:1: ")


def test_packages_of_node_come_by_version_from_the_registry():
    needs = partial(needed, "index.js", "package.json")
    wanted = '{"dependencies": {"visualbox": "*", "ms": "^2.1.0", "@a/b": "1.x"}}'
    assert needs(wanted) == ["@a/b@1.x", "ms@^2.1.0"]
    assert needs("{}") == []
    for bad in ("git+https://evil.example/x.git", "https://evil.example/x.tgz", "file:../x", "someone/x"):
        assert "from the registry" in said(needs, json.dumps({"dependencies": {"x": bad}}))
    assert "no package with a version" in said(needs, '{"dependencies": {"../x": "1.0.0"}}')
    assert "should be an object" in said(needs, '{"dependencies": ["x"]}')


def test_what_a_module_in_go_needs_is_in_its_go_mod():
    needs = partial(needed, "main.go", "go.mod")
    text = "module m\n\ngo 1.24\n\nrequire (\n\tgithub.com/a/b v1.2.3 // indirect\n\tvisualbox v0.0.0\n)\nrequire c.org/d v2.0.0\n"
    assert needs(text) == ["c.org/d@v2.0.0", "github.com/a/b@v1.2.3"]
    assert needs("module m\n") == []
    assert "needs one" in said(needs, "")


def test_a_readme_becomes_html_that_can_do_nothing():
    html = to_html(
        "# Hi\n<script>alert(1)</script> [x](javascript:alert(1)) ![p](https://spy.example/p.png) "
        "<img src=x onerror=alert(1)> [ok](https://a.example)\n\n| a |\n| - |\n| b |\n"
    )
    assert "<h2>Hi</h2>" in html  # the first level is that of the page that shows it
    assert "<table>" in html
    for bad in ("<script", "<img", 'href="javascript'):
        assert bad not in html, bad
    assert 'href="https://a.example" rel="noopener noreferrer nofollow"' in html


def test_what_a_release_changes_is_told_line_by_line_until_it_is_too_much():
    many = "".join(f"{number % 97}\n" for number in range(6000)).encode()
    before = {"a.py": b"one\ntwo", "gone.txt": b"x\n", "same.txt": b"y", "photo.png": b"\xff\x00", "z.txt": many}
    after = {"a.py": b"one\nthree", "new.txt": b"n\n", "same.txt": b"y", "photo.png": b"\xff\x01", "z.txt": many[::-1]}
    found = {change.path: change for change in changes_between(before, after)}
    assert {path: change.change for path, change in found.items()} == {
        "a.py": "changed", "gone.txt": "removed", "new.txt": "added", "photo.png": "changed", "z.txt": "changed",
    }  # fmt: skip
    assert found["a.py"].diff.splitlines()[-2:] == ["-two", "+three"]
    assert found["new.txt"].diff.splitlines()[-1] == "+n"
    assert (found["photo.png"].diff, found["z.txt"].diff) == ("", "")


def test_the_published_schema_takes_what_is_taken_and_refuses_what_is_refused():
    import jsonschema

    schema = jsonschema.Draft202012Validator(json_schema())
    shipped = list((ROOT / "modules").glob("*/config.json"))
    assert len(shipped) > 15
    for path in shipped:
        schema.validate(json.loads(path.read_text()))
    schema.validate([{"type": "TEXT", "name": "a"}])
    for faulty in (
        [{"type": "slider", "name": "a"}],
        [{"type": "select", "name": "s", "options": []}],
        [{"type": "knob", "name": "k"}],
        [{"name": "d"}],
        [7],
        {},
    ):
        assert not schema.is_valid(faulty), faulty
