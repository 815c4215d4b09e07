"""Imports point one way, heavy packages stay out of the import of the library, and importing it is quick."""

import ast
import subprocess
import sys

from tests.paths import REPO_ROOT

LAYER = {
    "version": 0,
    "_optional": 0,
    "registry": 0,
    "structures": 0,
    "geometry": 1,
    "ops": 2,
    "io": 2,
    "data": 3,
    "models": 3,
    "evaluation": 4,
    "tracking": 4,
    "engine": 4,
    "viz": 4,
    "deploy": 4,
}
HEAVY = ("open3d", "nuscenes", "mmdet3d", "mmdet", "onnx", "onnxruntime", "tensorrt", "matplotlib", "cv2")


def _imports(path):
    """(module, line, at module level) of every import statement of a file."""
    tree = ast.parse(path.read_text())
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} uses a relative import"
            yield node.module, node.lineno, id(node) in top
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, id(node) in top


def test_imports_point_one_way():
    wrong = []
    for path in sorted((REPO_ROOT / "bev").rglob("*.py")):
        room = path.relative_to(REPO_ROOT / "bev").parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for module, line, _ in _imports(path):
            parts = module.split(".")
            if parts[0] in ("projects", "tools", "tests", "benchmarks"):
                wrong.append(f"{path}:{line} imports {module}")
            elif parts[0] == "bev" and len(parts) > 1 and LAYER[parts[1]] > LAYER[room]:
                wrong.append(f"{path}:{line} ({room}) imports {module}")
    assert not wrong, "\n".join(wrong)


def test_a_project_imports_no_other_project():
    wrong = []
    for path in sorted((REPO_ROOT / "projects").rglob("*.py")):
        own = path.relative_to(REPO_ROOT / "projects").parts[0]
        for module, line, _ in _imports(path):
            parts = module.split(".")
            if parts[0] == "projects" and parts[1:2] != [own]:
                wrong.append(f"{path}:{line} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_import_is_light():
    """structures, geometry, ops and models need torch, numpy, scipy and mmengine only."""
    code = (
        "import sys, bev, bev.registry, bev.structures, bev.geometry, bev.ops, bev.models\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO_ROOT, check=True)
    assert result.stdout.strip() == "[]"
