"""Rules that no compiler checks: arrows between crates, sizes of files, paths named in documents."""
import json
import pathlib
import re
import subprocess
import sys

ARROWS = {
    "gma-report": set(),
    "gma-filter-core": {"gma-report"},
    "gma-filter": {"gma-filter-core"},
    "gma-filter-link": set(),
    "gma-core": set(),
    "gma-telemetry": {"gma-report", "gma-core"},
    "gma-local": {"gma-core"},
    "gma-k8s": {"gma-core"},
    "gma": {"gma-core", "gma-telemetry", "gma-local", "gma-k8s"},
}
HOMES = {
    "kube": {"gma-k8s", "gma-tests"},
    "k8s-openapi": {"gma-k8s", "gma-tests"},
    "proxy-wasm": {"gma-filter"},
    "axum": {"gma", "gma-tests"},
}
NOT_IN_CORE = {"tokio", "kube", "hyper", "axum", "rand", "reqwest"}
MAX_LINES = 500

errors = []
root = pathlib.Path(__file__).resolve().parent.parent
meta = json.loads(
    subprocess.run(
        ["cargo", "metadata", "--format-version=1", "--no-deps"], cwd=root, check=True, capture_output=True, text=True
    ).stdout
)
names = {package["name"] for package in meta["packages"]}
for package in meta["packages"]:
    name = package["name"]
    uses = {d["name"] for d in package["dependencies"] if d["kind"] is None}
    if name in ARROWS and (extra := (uses & names) - ARROWS[name]):
        errors.append(f"{name} depends on {sorted(extra)}; the design has no such arrow")
    for crate, homes in HOMES.items():
        if crate in uses and name not in homes:
            errors.append(f"{name} depends on {crate}, which only {sorted(homes)} may name")
    if name == "gma-core" and (extra := uses & NOT_IN_CORE):
        errors.append(f"gma-core depends on {sorted(extra)}: the core does no I/O")

files = subprocess.run(["git", "ls-files"], cwd=root, check=True, capture_output=True, text=True).stdout.split()
for file in files:
    path = root / file
    if not path.exists():
        continue
    if path.suffix in {".rs", ".js", ".css", ".html"} and (lines := path.read_text().count("\n")) > MAX_LINES:
        errors.append(f"{file} has {lines} lines; at most {MAX_LINES}")
    if path.suffix == ".md":
        for named in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            if not (path.parent / named).exists():
                errors.append(f"{file} links to {named}, which does not exist")
        for named in re.findall(r"`((?:filter|controller|tests|deploy|istio-manifests)/[\w./-]+)`", path.read_text()):
            if not ((root / named).exists() or (path.parent / named).exists()):
                errors.append(f"{file} names {named}, which does not exist")

print("\n".join(errors) or "structure: ok")
sys.exit(bool(errors))
