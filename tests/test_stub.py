"""The stub of the binding declares what the binding defines: the same names, parameters, defaults and types."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import GetSetDescriptorType, ModuleType, WrapperDescriptorType

from latentcore import _core

STUB = Path(__file__).parents[1] / "latentcore" / "_core.pyi"

# How the stub writes the types that pybind11 names in its docstrings.
SPELLING = {
    r"latentcore\._core\.": "",
    r"typing\.SupportsInt( \| typing\.SupportsIndex)?": "int",
    r"typing\.SupportsFloat( \| typing\.SupportsIndex)?": "float",
    r"collections\.abc\.": "",
    r"numpy\.ndarray": "NDArray[Any]",
    r"numpy\.dtype": "np.dtype[Any]",
    r"(?<=-> tuple\[)object": "Any",
}


SLOTS = {"__call__"}  # of the type itself: pybind11 writes no signature for them


def signature(function: ast.stmt) -> str:
    assert isinstance(function, ast.FunctionDef)
    for argument in function.args.args[:1]:
        if argument.arg == "self":
            argument.annotation = None
    assert function.returns
    return f"({ast.unparse(function.args)}) -> {ast.unparse(function.returns)}"


def declared(body: list[ast.stmt], prefix: str = "") -> dict[str, str]:
    names = {}
    for node in body:
        if isinstance(node, ast.ClassDef):
            names |= {prefix + node.name: "class"} | declared(node.body, f"{node.name}.")
        elif isinstance(node, ast.AnnAssign):
            names[prefix + ast.unparse(node.target)] = ast.unparse(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            is_property = [ast.unparse(decorator) for decorator in node.decorator_list] == ["property"]
            is_slot = node.name in SLOTS
            names[prefix + node.name] = "property" if is_property else "slot" if is_slot else signature(node)
    return names


def defined(scope: ModuleType | type, prefix: str = "") -> dict[str, str]:
    names = {}
    for name, value in vars(scope).items():
        if isinstance(value, type):
            names |= {prefix + name: "class"} | defined(value, f"{name}.")
        elif isinstance(value, (property, GetSetDescriptorType)):
            names[prefix + name] = "property"
        elif name in SLOTS:
            names[prefix + name] = "slot"
        elif isinstance(value, WrapperDescriptorType):
            continue  # what every object has
        elif callable(value) and not name.startswith("_pybind11"):
            line = value.__doc__.splitlines()[0]
            for pattern, spelling in SPELLING.items():
                line = re.sub(pattern, spelling, line)
            names[prefix + name] = signature(ast.parse(f"def {line}: ...").body[0])
        elif not name.startswith("_") or name == "__version__":
            names[prefix + name] = type(value).__name__
    return names


def test_stub_declares_what_the_binding_defines() -> None:
    assert declared(ast.parse(STUB.read_text()).body) == defined(_core)
