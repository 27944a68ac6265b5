"""Manifest files into documents: files, directories and standard input; YAML and JSON. Syntax only, with line numbers.

What the documents mean is `homeport_api.manifest`'s.
"""

from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import yaml

from homeport_api.errors import FieldError, Invalid
from homeport_api.manifest import Document

SUFFIXES = (".yaml", ".yml", ".json")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without duplicate keys (of which the first would vanish without a word) and without dates (which would
    turn a label into something else)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is there twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_documents(names: Iterable[str], stdin: TextIO) -> tuple[Document, ...]:
    """The documents of all files, in order; `-` is standard input, a directory stands for the manifests in it. Raises
    Invalid for a file that cannot be read, and with the syntax errors of all files."""
    documents: list[Document] = []
    errors: list[FieldError] = []
    for source, text in _texts(names, stdin):
        try:
            documents += _parse(source, text)
        except yaml.YAMLError as error:
            errors.append(_located(source, error))
        except RecursionError:
            errors.append(FieldError(source, "is nested too deeply"))
    if errors:
        raise Invalid(errors)
    return tuple(documents)


def _texts(names: Iterable[str], stdin: TextIO) -> Iterator[tuple[str, str]]:
    for name in names:
        if name == "-":
            yield "standard input", stdin.read()
            continue
        path = Path(name)
        if path.is_dir():
            files = sorted(entry for entry in path.iterdir() if entry.suffix in SUFFIXES and entry.is_file())
            if not files:
                raise Invalid([FieldError(name, "the directory holds no manifest (*.yaml, *.yml, *.json)")])
        else:
            files = [path]
        for file in files:
            try:
                yield str(file), file.read_text(encoding="utf-8")
            except OSError as error:
                raise Invalid([FieldError(str(file), error.strerror or str(error))]) from error
            except UnicodeDecodeError as error:
                raise Invalid(
                    [FieldError(str(file), f"is not UTF-8 text: {error.reason} at byte {error.start}")]
                ) from error


def _parse(source: str, text: str) -> Iterator[Document]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # check_node has said so
            yield Document(f"{source}:{node.start_mark.line + 1}", loader.construct_document(node))
    finally:
        loader.dispose()


def _located(source: str, error: yaml.YAMLError) -> FieldError:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return FieldError(source if mark is None else f"{source}:{mark.line + 1}:{mark.column + 1}", problem)
