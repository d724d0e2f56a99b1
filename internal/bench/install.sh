#!/usr/bin/env bash
# Installs the peers that the comparisons need and that are not there yet:
#
#	internal/bench/install.sh
#
# nginx and varnish come from the distribution's packages (apt-get), which needs root;
# crane and the registry of the distribution project are built into .ci/bin, in the
# versions that .ci/run pins. Nothing is started: the services that the packages bring
# stay off.
set -euo pipefail
cd "$(dirname "$0")/../.."

# version NAME prints a version that .ci/run pins.
version() { sed -n "s/^$1=\(v[0-9.]*\)\$/\1/p" .ci/run; }

# install_go PROGRAM PACKAGE builds a tool unless it is there in that version.
install_go() {
	local program=$1 package=$2 want have
	want=$(version "$program")
	[ -n "$want" ] || { printf 'no version of %s in .ci/run\n' "$program" >&2; exit 1; }
	have=$(go version -m ".ci/bin/$program" 2>/dev/null | awk '$1 == "mod" { print $3 }' || true)
	[ "$have" = "$want" ] && return
	printf 'installing %s %s\n' "$program" "$want"
	GOBIN="$PWD/.ci/bin" GOFLAGS="${GOFLAGS:-} -buildvcs=false" go install -p 1 "$package@$want"
}

# install_packages installs packages whose services must not run: policy-rc.d tells
# the packages so, and systemd, if there is one, forgets them.
policy=/usr/sbin/policy-rc.d
install_packages() {
	[ "$(id -u)" = 0 ] || { printf 'installing %s needs root\n' "$*" >&2; exit 1; }
	if [ ! -e "$policy" ]; then
		trap 'rm -f "$policy"' EXIT
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod +x "$policy"
	fi
	apt-get update -q -o Acquire::Retries=3
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y -o Acquire::Retries=3 --no-install-recommends "$@"
	[ ! -d /run/systemd/system ] || systemctl disable --now "$@"
}

# there PROGRAM reports whether a server is installed; packages put them into /usr/sbin.
there() { [ -x "/usr/sbin/$1" ] || command -v "$1" >/dev/null; }

missing=()
there nginx || missing+=(nginx)
there varnishd || missing+=(varnish)
[ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
install_go crane github.com/google/go-containerregistry/cmd/crane
install_go registry github.com/distribution/distribution/v3/cmd/registry
