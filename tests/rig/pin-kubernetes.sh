#!/usr/bin/env bash
# pin-kubernetes.sh 1.36.3: pins the version of Kubernetes. k8s.io/kubernetes names its own staging modules
# (k8s.io/api, k8s.io/client-go, …) as v0.0.0, which exist only as `replace`s: they are published as v0.MINOR.PATCH.
set -euo pipefail
cd "$(dirname "$0")/kubernetes"
version=${1:?the version to pin, e.g. 1.36.3}

go mod edit -require "k8s.io/kubernetes@v$version"
upstream=$(go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
for module in $(awk '$2 == "v0.0.0" { print $1 }' "$upstream" | sort -u); do
  go mod edit -replace "$module=$module@v0.${version#1.}"
done
go mod tidy
