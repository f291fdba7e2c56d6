"""Reading and writing ``space.yaml``. An error names file, line and what to write instead."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from cloister.core.errors import Invalid
from cloister.datasets import DatasetDeclaration, GrantDeclaration
from cloister.spaces import EnvironmentDeclaration, SpaceDeclaration


class BlueprintError(Invalid):
    """The declaration has mistakes."""

    code = "blueprint.invalid"


class Blueprint(SpaceDeclaration):
    """A whole space: who may come in and on what terms, which data, which tools."""

    cloister: Annotated[int, Field(ge=1, le=1)] = 1
    """The version of this format."""
    datasets: list[DatasetDeclaration] = Field(default_factory=list)
    grants: list[GrantDeclaration] = Field(default_factory=list)

    @model_validator(mode="after")
    def _once(self) -> Self:
        tables = [f"table “{d.name}.{t.name}”" for d in self.datasets for t in d.tables]
        names = [*(f"dataset “{d.name}”" for d in self.datasets), *tables]
        names += [f"grant to {way} “{grant.dataset}” for “{grant.to}”" for grant in self.grants for way in grant.allow]
        twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
        if twice is not None:
            message = f"there are two: {twice}"
            raise ValueError(message)
        return self

    def space(self) -> SpaceDeclaration:
        return SpaceDeclaration.model_validate(
            self.model_dump(exclude={"cloister", "datasets", "grants"}, exclude_defaults=True)
        )


def json_schema() -> dict[str, Any]:
    schema = Blueprint.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "space.yaml"
    items = schema["properties"]["environments"]["items"]
    named = {"type": "string", "description": "The name of an environment of the platform's catalogue."}
    schema["properties"]["environments"]["items"] = {"anyOf": [named, items]}
    agreement = schema["$defs"]["AgreementDeclaration"]
    agreement["properties"]["file"] = {"type": "string", "description": "The text, from a file beside this one."}
    agreement["required"] = [name for name in agreement["required"] if name != "text"]
    return schema


SHIPPED = Path(__file__).parent / "environments.yaml"


def catalogue(own: Path | None = None) -> dict[str, Any]:
    """The environments that a space may use by name: those shipped, and an operator's, which win.

    Raises:
        BlueprintError: when the operator's file is no list of environments.
    """
    found: dict[str, Any] = {}
    for path in (SHIPPED, own):
        if path is None:
            continue
        try:
            listed = yaml.safe_load(path.read_text())
            for entry in listed if isinstance(listed, list) else []:
                found[EnvironmentDeclaration.model_validate(entry).name] = entry
        except OSError as error:
            raise BlueprintError(f"{path}: {error.strerror}") from error
        except (yaml.YAMLError, ValidationError) as error:
            raise BlueprintError(f"{path}: this is no list of environments: {error}") from error
    return found


def read(path: Path, environments: dict[str, Any] | None = None) -> Blueprint:
    """Read and validate a file, with the texts that it names and the environments of the catalogue that it uses.

    Raises:
        BlueprintError: with a line for each mistake.
    """
    try:
        text = path.read_text()
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except OSError as error:
        raise BlueprintError(f"{path}: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BlueprintError(f"{path}:{line}: {error.problem or 'this is no YAML'}") from error
    if not isinstance(data, dict):
        raise BlueprintError(f"{path}:1: this should be a mapping that begins with “slug: …”.")
    _fetch_texts(path, data, node)
    _fetch_environments(path, data, node, catalogue() if environments is None else environments)
    try:
        return Blueprint.model_validate(data)
    except ValidationError as error:
        lines = [f"{path}:{_line(node, e['loc'])}: {_sentence(e)}" for e in error.errors()]
        raise BlueprintError("\n".join(dict.fromkeys(lines))) from error


def _fetch_environments(path: Path, data: dict[str, Any], node: Any, known: dict[str, Any]) -> None:
    """Put the catalogue's entry in the place of a name."""
    listed = data.get("environments")
    if not isinstance(listed, list):
        return  # validation says so
    for index, name in enumerate(listed):
        if isinstance(name, str):
            if name not in known:
                line = _line(node, ("environments", index))
                raise BlueprintError(f"{path}:{line}: “{name}” is no environment here; there are {', '.join(known)}.")
            listed[index] = known[name]


def _fetch_texts(path: Path, data: dict[str, Any], node: Any) -> None:
    agreements = data.get("agreements")
    for index, agreement in enumerate(agreements if isinstance(agreements, list) else []):
        if isinstance(agreement, dict) and "file" in agreement:
            file = path.parent / str(agreement.pop("file"))
            try:
                agreement["text"] = file.read_text()
            except OSError as error:
                line = _line(node, ("agreements", index, "file"))
                raise BlueprintError(f"{path}:{line}: {file}: {error.strerror}") from error


def _line(node: Any, location: tuple[int | str, ...]) -> int:
    """The line of the deepest part of a place that is in the file."""
    line: int = node.start_mark.line + 1
    for part in location:
        found = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    found, line = value, key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = node.value[part]
            line = found.start_mark.line + 1
        if found is None:
            break
        node = found
    return line


def _sentence(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        name = str(error["loc"][-1])
        near = difflib.get_close_matches(name, _known_keys(), n=1)
        hint = f" Did you mean “{near[0]}”?" if near else ""
        return f"“{place}” is not known here.{hint}"
    if error["type"] == "missing":
        return f"“{place}” is missing."
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"“{place}”: {message[0].lower()}{message[1:]}." if place else f"{message}."


def _known_keys() -> list[str]:
    schema = Blueprint.model_json_schema()
    keys = set(schema["properties"])
    for definition in schema["$defs"].values():
        keys |= set(definition.get("properties", {}))
    return sorted(keys)


class _Dumper(yaml.SafeDumper):
    """Long texts as blocks, so that people can read what is exported."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def dump(blueprint: Blueprint) -> str:
    data = blueprint.model_dump(mode="json", exclude_defaults=True)
    return yaml.dump({"cloister": 1, **data}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
