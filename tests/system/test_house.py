# SPDX-License-Identifier: Apache-2.0
"""The rules of the house: who may import whom, and how large things may grow."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "crowdgaussian_shared": ROOT / "shared/crowdgaussian_shared",
    "crowdgaussian": ROOT / "backend/crowdgaussian",
    "crowdgaussian_addon": ROOT / "addon/crowdgaussian_addon",
}
CODE = [
    *sorted(
        path
        for folder in ("shared", "backend", "addon", "scripts", "benchmarks", "examples", "tests")
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    ),
    *sorted(ROOT.glob("*.py")),
]
SCRIPTS = [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / "Makefile", ROOT / ".ci/run"]

# Backend layers from the bottom up; a module imports from its own layer's package or from below.
LAYERS = (
    {"core", "lpips", "metrics", "progress", "process", "training_log", "weights"},
    {"splat", "body", "sample", "training_loop"},
    {"people"},
    {"segment"},
    {"avatar"},
    {"made_up"},
    {"lorm"},
    {"refiner"},
    {"config", "focal", "ground_view", "photo", "stages", "resume", "edits", "refining"},
    {"pipeline", "inspect", "blend", "console"},
    {"evaluate", "export"},
    {"service"},
    {"cli_settings", "cli_crowds"},
    {
        "cli_service",
        "cli_submit",
        "cli_weights",
        "cli_lorm",
        "cli_evaluate",
        "cli_export",
        "cli_edit",
        "cli_refiner",
        "cli_data",
    },
    {"cli"},
    {"__main__"},
)
# The helpers of the pipeline may use one another.
SAME_LAYER_ALLOWED = {i for i, layer in enumerate(LAYERS) if "stages" in layer}
MAY_IMPORT_BPY = ("ops", "ui", "scene", "blend.py")
MAX_FILE, MAX_FUNCTION, MAX_ARGUMENTS = 400, 40, 8


def name_of(path):
    return str(path.relative_to(ROOT))


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports_of(path, package_root, package):
    """Absolute dotted names of everything a file imports, wherever in the file."""
    inside = (package, *path.relative_to(package_root).with_suffix("").parts)
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = inside[: len(inside) - node.level] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def package_files(package):
    root = PACKAGES[package]
    return [p for p in CODE if p.is_relative_to(root)]


def violations(package, forbidden):
    root = PACKAGES[package]
    return [
        f"{name_of(path)} imports {name}"
        for path in package_files(package)
        for name in imports_of(path, root, package)
        if name.split(".")[0] in forbidden
    ]


def test_there_is_code_to_check():
    assert len(CODE) > 30
    for package in PACKAGES:
        assert package_files(package), package


def test_shared_stands_alone():
    forbidden = {
        "torch",
        "bpy",
        "mathutils",
        "scipy",
        "numba",
        "cv2",
        "PIL",
        "rich",
        "crowdgaussian",
        "crowdgaussian_addon",
    }
    assert violations("crowdgaussian_shared", forbidden) == []


def test_only_the_client_and_the_service_import_zmq():
    def importers(package):
        found = {v.split()[0] for v in violations(package, {"zmq"})}
        return {Path(f).relative_to(PACKAGES[package].relative_to(ROOT)).parts[0] for f in found}

    assert all(name.startswith("client") for name in importers("crowdgaussian_shared"))
    assert importers("crowdgaussian") == {"service"}
    assert importers("crowdgaussian_addon") == set()


def test_backend_and_addon_never_meet():
    assert violations("crowdgaussian", {"crowdgaussian_addon", "bpy", "mathutils"}) == []
    assert violations("crowdgaussian_addon", {"crowdgaussian", "torch", "numba", "scipy"}) == []


def test_only_the_blender_layers_import_bpy():
    root = PACKAGES["crowdgaussian_addon"]
    outside = [
        name_of(path)
        for path in package_files("crowdgaussian_addon")
        if path.relative_to(root).parts[0] not in MAY_IMPORT_BPY
        and any(
            n.split(".")[0] in {"bpy", "mathutils"}
            for n in imports_of(path, root, "crowdgaussian_addon")
        )
    ]
    assert outside == []


def layer_of(part):
    return next((i for i, layer in enumerate(LAYERS) if part in layer), None)


def upward_imports(path):
    """The imports of one backend file that do not point down."""
    root = PACKAGES["crowdgaussian"]
    own = path.relative_to(root).with_suffix("").parts[0]
    for name in imports_of(path, root, "crowdgaussian"):
        parts = name.split(".")
        if parts[0] != "crowdgaussian" or len(parts) < 2 or parts[1] in (own, "__version__"):
            continue
        mine, theirs = layer_of(own), layer_of(parts[1])
        if theirs is None or theirs > mine or (theirs == mine and mine not in SAME_LAYER_ALLOWED):
            yield f"{name_of(path)} imports {name}"


def test_every_backend_module_has_a_layer():
    root = PACKAGES["crowdgaussian"]
    parts = {p.relative_to(root).with_suffix("").parts[0] for p in package_files("crowdgaussian")}
    assert {part for part in parts if layer_of(part) is None} == {"__init__"}


def test_backend_imports_point_down():
    wrong = [
        line
        for path in package_files("crowdgaussian")
        if path.stem != "__init__"
        for line in upward_imports(path)
    ]
    assert wrong == []


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_budgets(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") < MAX_FILE, "the file is too long"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            where = f"{node.name}, line {node.lineno}"
            assert body_lines(node) < MAX_FUNCTION, f"{where}: the function is too long"
            assert arguments(node) <= MAX_ARGUMENTS, f"{where}: too many arguments"


def body_lines(function):
    """Lines of a function without its docstring."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    return lines - (function.body[0].end_lineno - function.body[0].lineno + 1)


def arguments(function):
    a = function.args
    names = [arg.arg for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


@pytest.mark.parametrize("path", [*CODE, *SCRIPTS], ids=name_of)
def test_licence_line_and_no_leftovers(path):
    text = path.read_text(encoding="utf-8")
    if not text.strip():
        pytest.fail("an empty file says nothing; give it a licence line and a docstring")
    allowed = {"GPL-3.0-or-later"}  # the add-on, and what imports it
    if path.relative_to(ROOT).parts[0] != "addon":
        allowed = {"Apache-2.0"} | (allowed if "crowdgaussian_addon" in text else set())
    head = "\n".join(text.splitlines()[:2])
    assert any(f"SPDX-License-Identifier: {licence}" in head for licence in allowed), allowed
    for word in ("TO" + "DO", "FIX" + "ME", "XX" + "X:"):
        assert word not in text, f"unfinished: {word}"


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_no_bare_except(path):
    bare = [
        node.lineno
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert bare == []
