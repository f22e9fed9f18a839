#!/usr/bin/env bash
# Builds the control plane of the kube_ tier into .tools/rig: etcd, kubernetes (API server, controller manager and
# scheduler in one), istiod, Istio's CRDs, and kustomize, which renders the manifests. A program is built again only where its module or this file changed.
# Exits with 3 where Go is missing or too old, with Go's code where a build fails.
set -euo pipefail
cd "$(dirname "$0")/../.."
readonly out=$PWD/.tools/rig needed=1.26
mkdir -p "$out"

need_go() {
  if ! command -v go >/dev/null; then
    echo "Go is missing: the kube_ tier builds etcd, Kubernetes and istiod from source; install Go $needed or later (https://go.dev/dl, or your distribution's package golang)" >&2
    exit 3
  fi
  # Go itself compares the module's version with its own, or fetches the toolchain where it may.
  local said
  if ! said=$(cd "$1" && go list -m 2>&1); then
    if [[ $said == *"requires go"* || $said == *"go version"* || $said == *toolchain* ]]; then
      echo "Go is too old for the kube_ tier ($said): install Go $needed or later (https://go.dev/dl)" >&2
      exit 3
    fi
    echo "$1: $said" >&2
    exit 1
  fi
}

# The version that a Kubernetes server says it is.
kubernetes_flags() {
  local version minor
  version=$(awk '$1 == "k8s.io/kubernetes" { print $2 } $2 == "k8s.io/kubernetes" { print $3 }' tests/rig/kubernetes/go.mod | head -n 1)
  minor=${version#v1.}
  local package=k8s.io/component-base/version
  echo "-X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*}"
}

build() {
  local name=$1 flags=${2:-} module=tests/rig/$1 key start=$SECONDS
  key=$(cat "$module"/{main.go,go.mod,go.sum} tests/rig/build.sh | sha256sum | cut -d ' ' -f 1)
  if [[ -x $out/$name && $(cat "$out/$name.key" 2>/dev/null) == "$key" ]]; then
    return
  fi
  need_go "$module"
  echo "building $name into .tools/rig, once: minutes on two cores where Go's cache is empty"
  (cd "$module" && go build -mod=readonly -trimpath -ldflags "-s -w $flags" -o "$out/$name.new" .)
  if [[ $name == istiod ]]; then
    # The mesh's resources are part of its version.
    (cd "$module" && install -m 644 "$(go list -m -f '{{.Dir}}' istio.io/istio)/manifests/charts/base/files/crd-all.gen.yaml" "$out/istio-crds.yaml")
  fi
  mv "$out/$name.new" "$out/$name"
  echo "$key" >"$out/$name.key"
  echo "$name: $((SECONDS - start)) s"
}

build etcd
build kustomize
build kubernetes "$(kubernetes_flags)"
build istiod
