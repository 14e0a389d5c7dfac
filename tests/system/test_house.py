# SPDX-License-Identifier: Apache-2.0
"""The rules of the house: who may import whom, how large things grow, where each fact lives.

Each test looks at the whole tree and lists every place that breaks its rule.
"""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "crowdgaussian_shared": ROOT / "shared/crowdgaussian_shared",
    "crowdgaussian": ROOT / "backend/crowdgaussian",
    "crowdgaussian_addon": ROOT / "addon/crowdgaussian_addon",
}
FOLDERS = ("shared", "backend", "addon", "scripts", "benchmarks", "examples", "tests")
CODE = [
    *sorted(
        path
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts and not path.is_relative_to(ROOT / "shared/shared")
    ),
    *sorted(ROOT.glob("*.py")),
]
SCRIPTS = [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / "Makefile", ROOT / ".ci/run"]

# From the bottom up: a module imports from its own package or from a layer below.
LAYERS = {
    "crowdgaussian": (
        {"core"},
        {"splat", "weights"},
        {"export"},
        {"body"},
        {"people"},
        {"segment"},
        {"avatar"},
        {"completion"},
        {"lorm"},
        {"synthetic"},
        {"refiner"},
        {"pipeline"},
        {"evaluate", "service", "batch"},
        {"cli"},
        {"__main__"},
    ),
    "crowdgaussian_shared": (
        {"errors"},
        {"geometry"},
        {"formats"},
        {"motion", "scene"},
        {"protocol"},
        {"client"},
    ),
    "crowdgaussian_addon": ({"scene", "jobs"}, {"ops"}, {"ui", "scripting"}, {"blend"}),
    "crowdgaussian.people": (
        {"types"},
        {"detect"},
        {"fit"},
        {"ground"},
        {"insert", "crowd"},
        {"external", "mediapipe", "multihmr"},
        {"vitpose"},
    ),
    "crowdgaussian_addon.scene": (
        {"context"},
        {"attributes"},
        {"rig"},
        {"splats"},
        {"people"},
        {"render", "static_splats"},
        {"shot"},
        {"importer", "motion", "layout"},
        {"poses", "corrections", "export", "roster"},
        {"incremental"},
    ),
}
MAY_IMPORT_BPY = ("ops", "ui", "scene", "scripting", "blend.py")

MAX_FILES = {"crowdgaussian": 200, "crowdgaussian_shared": 50, "crowdgaussian_addon": 90}
MIN_FILE, MAX_FILE, MAX_FUNCTION, MAX_ARGUMENTS = 60, 400, 40, 8
MAX_MODULES = 17  # of a folder: more than one screen shows is a place to search, not to look
MAX_PREFIX = 3  # files of a folder with the same first word; four are a folder of their own
ALONE = {"install_addon.py"}  # runs before anything is installed, so it is one file
SMALL_BY_NATURE = {"__init__", "__main__", "types", "config"}
OWN_HOME = {  # facts of the field, and the one place that states each
    r"\bSH_C0\s*=": {"geometry/sh.py"},
    r"(viewmat|viewmats)\[(\.\.\., )?:3, :3\]": {
        "geometry/camera.py",
        "geometry/axes.py",
        "splat/cameras.py",
    },
    r"diag\(\[?\(?1(\.0)?, ?-1(\.0)?, ?-1(\.0)?": {"geometry/axes.py"},
    r"\.temp_override\(": {"scene/context.py"},  # beside other threads it crashes Blender 4.5
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(text_of(path), filename=str(path))


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """Everything in a file, walked once for all tests."""
    return tuple(ast.walk(tree_of(path)))


@cache
def package_files(package: str) -> tuple[Path, ...]:
    return tuple(path for path in CODE if path.is_relative_to(PACKAGES[package]))


@cache
def product_files() -> tuple[Path, ...]:
    return tuple(path for package in PACKAGES for path in package_files(package))


@cache
def module_of(path: Path) -> str:
    """Dotted name of a product file; a package has the name of its folder."""
    package = next(name for name, root in PACKAGES.items() if path.is_relative_to(root))
    parts = (package, *path.relative_to(PACKAGES[package]).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    return {module_of(path): path for path in product_files()}


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Absolute dotted names of everything a product file imports, wherever in the file."""
    parts = module_of(path).split(".")
    inside = parts if path.name == "__init__.py" else parts[:-1]
    found = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = inside[: len(inside) - node.level + 1] if node.level else []
            module = ".".join((*base, *([node.module] if node.module else [])))
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return frozenset(found)


@cache
def imported_modules(path: Path) -> frozenset[str]:
    """The modules of the project that a product file imports."""
    known = modules()
    found = {name if name in known else name.rpartition(".")[0] for name in imports_of(path)}
    return frozenset((found & known.keys()) - {module_of(path)})


def importers(package: str, forbidden: set[str]) -> list[str]:
    return [
        f"{name_of(path)} imports {name}"
        for path in package_files(package)
        for name in imports_of(path)
        if name.split(".")[0] in forbidden
    ]


def test_there_is_code_to_check():
    assert all(len(package_files(package)) > 30 for package in PACKAGES)
    assert len(CODE) > len(product_files()) + 100


def test_shared_stands_alone():
    forbidden = {"torch", "bpy", "mathutils", "scipy", "numba", "cv2", "PIL", "rich"}
    forbidden |= {"crowdgaussian", "crowdgaussian_addon"}
    assert importers("crowdgaussian_shared", forbidden) == []


def test_only_the_client_and_the_service_import_zmq():
    found = [line.split()[0] for package in PACKAGES for line in importers(package, {"zmq"})]
    allowed = ("shared/crowdgaussian_shared/client/", "backend/crowdgaussian/service/")
    assert [line for line in found if not line.startswith(allowed)] == []
    assert found


def test_only_the_reader_of_plys_imports_plyfile():
    """It is under the GPL and optional: one place, where a sentence says what to install."""
    found = [line for package in PACKAGES for line in importers(package, {"plyfile"})]
    home = "shared/crowdgaussian_shared/formats/ply.py imports plyfile"
    assert {line.rpartition(".")[0] for line in found} == {home}
    tree = tree_of(ROOT / "shared/crowdgaussian_shared/formats/ply.py")
    at_once = [ast.unparse(node) for node in tree.body if "plyfile" in ast.unparse(node)]
    assert not any(text.startswith(("import", "from")) for text in at_once)


def test_backend_and_addon_never_meet():
    assert importers("crowdgaussian", {"crowdgaussian_addon", "bpy", "mathutils"}) == []
    forbidden = {"crowdgaussian", "torch", "numba", "scipy"}
    assert importers("crowdgaussian_addon", forbidden) == []


def test_only_the_blender_layers_import_bpy():
    root = name_of(PACKAGES["crowdgaussian_addon"])
    allowed = tuple(f"{root}/{place}" for place in MAY_IMPORT_BPY)
    found = importers("crowdgaussian_addon", {"bpy", "mathutils"})
    assert [line for line in found if not line.startswith(allowed)] == []


def test_imports_point_down():
    wrong = []
    for package, layers in LAYERS.items():
        level = {part: height for height, layer in enumerate(layers) for part in layer}
        depth = package.count(".") + 1
        for module, path in modules().items():
            own = module.split(".")[depth] if module.startswith(f"{package}.") else None
            if own is None:
                continue
            assert own in level, f"{name_of(path)} has no layer in {package}"
            for name in imported_modules(path):
                part = name.split(".")[depth] if name.startswith(f"{package}.") else own
                if part != own and level[part] >= level[own]:
                    wrong.append(f"{name_of(path)} imports {name}")
    assert wrong == []


def test_no_import_circle_between_files():
    assert circles({name: imported_modules(path) for name, path in modules().items()}) == []


def circles(graph: dict[str, frozenset[str]]) -> list[list[str]]:
    """What is left when every file that imports nothing left has been taken away, and back."""
    left = dict(graph)
    for turned in (False, True):
        while True:
            used = {name for names in left.values() for name in names}
            ends = [n for n in left if (n not in used if turned else not left[n] & left.keys())]
            if not ends:
                break
            for name in ends:
                del left[name]
    return [sorted(left)] if left else []


def test_a_circle_would_be_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}
    assert circles({name: frozenset(names) for name, names in graph.items()}) == [["b", "c"]]


def test_packages_are_of_a_size_to_look_at():
    counts = {package: len(package_files(package)) for package in PACKAGES}
    assert {p: n for p, n in counts.items() if n > MAX_FILES[p]} == {}
    folders = Counter(path.parent for path in product_files() if path.stem != "__init__")
    assert {name_of(folder): n for folder, n in folders.items() if n > MAX_MODULES} == {}


def test_a_prefix_of_four_files_is_a_folder():
    words = Counter(
        (path.parent, path.stem.split("_")[0]) for path in product_files() if "_" in path.stem
    )
    assert {f"{name_of(f)}/{w}_*": n for (f, w), n in words.items() if n > MAX_PREFIX} == {}


def test_modules_have_a_size():
    wrong, product = [], set(product_files())
    for path in CODE:
        lines = text_of(path).count("\n")
        small = path in product and path.stem not in SMALL_BY_NATURE and lines < MIN_FILE
        if small or (lines >= MAX_FILE and name_of(path) not in ALONE):
            wrong.append(f"{name_of(path)}: {lines} lines")
    assert wrong == []


def test_functions_have_a_size():
    wrong = []
    for path in CODE:
        for node in nodes_of(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                where = f"{name_of(path)}:{node.lineno} {node.name}"
                if body_lines(node) >= MAX_FUNCTION:
                    wrong.append(f"{where}: {body_lines(node)} lines")
                if arguments(node) > MAX_ARGUMENTS:
                    wrong.append(f"{where}: {arguments(node)} arguments")
    assert wrong == []


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    return lines - (function.body[0].end_lineno - function.body[0].lineno + 1)


def arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    a = function.args
    names = [arg.arg for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def test_every_fact_has_one_home():
    wrong = [
        f"{name_of(path)}: {match[0]}"
        for pattern, homes in OWN_HOME.items()
        for path in product_files()
        for match in re.finditer(pattern, text_of(path))
        if not name_of(path).endswith((*homes, "splat/reference.py"))
    ]
    assert wrong == []


def test_the_oracle_is_imported_by_tests_only():
    oracle = "crowdgaussian.splat.reference"
    assert oracle in modules()
    outside = [p for p in CODE if not p.is_relative_to(ROOT / "tests") and p not in product_files()]
    assert {p.parts[len(ROOT.parts)] for p in outside} >= {"scripts", "benchmarks", "examples"}
    users = [p for p in product_files() if oracle in imported_modules(p)]
    users += [p for p in outside if re.search(r"splat(\.| import )reference", text_of(p))]
    assert [name_of(p) for p in users] == []


def test_every_public_name_has_a_caller_outside_tests():
    outside = [path for path in CODE if not path.is_relative_to(ROOT / "tests")]
    texts = [text_of(path) for path in outside]
    texts += [text_of(path) for path in sorted((ROOT / "docs").rglob("*.md"))]
    texts += [text_of(path) for path in (*SCRIPTS, ROOT / "README.md")]
    words = Counter(word for text in texts for word in re.findall(r"\w+", text))
    lonely = [
        f"{name_of(path)}: {node.name}"
        for path in product_files()
        if path.name != "reference.py"  # the oracle
        for node in tree_of(path).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and words[node.name] < 2
    ]
    assert lonely == []


def test_module_names_are_in_the_glossary():
    known = set(re.findall(r"`(\w+)`", text_of(ROOT / "docs/glossary.md")))
    names = {path.stem for path in product_files() if not path.stem.startswith("__")}
    assert sorted(names - known) == []


def test_every_file_begins_with_its_licence_and_has_no_leftovers():
    wrong = []
    for path in (*CODE, *SCRIPTS):
        text = text_of(path)
        allowed = {"GPL-3.0-or-later"}  # the add-on, and what imports it
        if path.relative_to(ROOT).parts[0] != "addon":
            allowed = {"Apache-2.0"} | (allowed if "crowdgaussian_addon" in text else set())
        head = "\n".join(text.splitlines()[:2])
        if not any(f"SPDX-License-Identifier: {licence}" in head for licence in allowed):
            wrong.append(f"{name_of(path)}: {' or '.join(sorted(allowed))} is missing")
        words = ("TO" + "DO", "FIX" + "ME", "XX" + "X:")
        wrong += [f"{name_of(path)}: unfinished: {word}" for word in words if word in text]
    assert wrong == []


def test_every_error_is_a_branch_of_the_tree():
    """A caller tells errors apart by class: none is of the root, none is told by its cause."""
    wrong, root = [], "CrowdGaussianError"
    home = PACKAGES["crowdgaussian_shared"] / "errors.py"
    for path in CODE:
        if path == home or path.is_relative_to(ROOT / "tests"):
            continue
        for node in nodes_of(path):
            called = node.func if isinstance(node, ast.Call) else None
            raised = node.exc if isinstance(node, ast.Raise) else None
            bases = node.bases if isinstance(node, ast.ClassDef) else []
            named = [ast.unparse(each) for each in (called, raised, *bases) if each is not None]
            if any(name.split(".")[-1] == root for name in named):
                wrong.append(f"{name_of(path)}:{node.lineno}: raise a branch of {root}")
            if isinstance(node, ast.Attribute) and node.attr in ("__cause__", "__context__"):
                wrong.append(f"{name_of(path)}:{node.lineno}: {node.attr} is read")
    assert wrong == []


def test_no_bare_except():
    bare = [
        f"{name_of(path)}:{node.lineno}"
        for path in CODE
        for node in nodes_of(path)
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert bare == []
