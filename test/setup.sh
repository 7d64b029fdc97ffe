#!/bin/sh
# Brings a fresh Debian machine with Node and npm to where the demo and the tests run, then runs one of them.
# usage: setup.sh demo|test [--yes] [arguments]     Installs only what is missing; asks once unless --yes.
set -eu
cd "$(dirname "$0")/.."
job=$1
shift
yes=
help=
for argument in "$@"; do
  case $argument in
    --yes) yes=1 ;;
    -h | --help) help=1 ;;
  esac
done

# Runs a long command with a sign of life every two seconds; of what it prints, the end is shown if it fails.
quietly() {
  log=$(mktemp)
  # a shell that was interrupted is not there any more: then it ends by itself
  (while sleep 2 && kill -0 $$ 2>/dev/null; do printf . >&2; done) &
  ticker=$!
  status=0
  "$@" >"$log" 2>&1 || status=$?
  kill "$ticker"
  echo >&2
  [ "$status" = 0 ] || tail -n 20 "$log" >&2
  rm -f "$log"
  return "$status"
}

packages='qemu-system-x86 qemu-utils seabios libvirt-daemon libvirt-daemon-system libvirt-daemon-driver-qemu
  libvirt-clients mmdebstrap gdisk dosfstools mtools syslinux syslinux-common e2fsprogs cryptsetup-bin openssh-client
  openssh-server binutils iproute2'
[ "$job" = test ] && packages="$packages chromium age"

root=
[ "$(id -u)" = 0 ] || [ -n "$help" ] || root=sudo
missing=
[ -z "$help" ] || packages=
for package in $packages; do
  case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true) in
    'install ok installed') ;;
    *) missing="$missing $package" ;;
  esac
done
if [ -n "$missing" ]; then
  echo "Debian packages to install:$missing" >&2
  if [ -z "$yes" ] && [ -t 0 ]; then
    printf 'Install them now? [Y/n] ' >&2
    read -r answer
    case $answer in '' | y | Y | yes) ;; *) echo 'Nothing was changed.' >&2 && exit 1 ;; esac
  elif [ -z "$yes" ] && [ "$job" = demo ]; then
    echo "Nobody to ask: run again with --yes, or install them: apt-get install$missing" >&2
    exit 2
  fi
  printf 'Installing them …' >&2
  # asked for here, since what follows is not seen
  [ -z "$root" ] || sudo -v
  quietly $root apt-get update -qq
  # shellcheck disable=SC2086 # one word per package
  quietly $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
fi

# npm records what it installed; a lock file newer than that record means the record is stale
if [ ! -f node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  printf 'Installing the npm packages …' >&2
  quietly npm ci --loglevel=error --no-progress
  touch node_modules/.package-lock.json
fi
node=$PWD/node_modules/.bin/node

case $job in
  demo) exec $root env "PATH=$PWD/node_modules/.bin:$PATH" "$node" test/demo/main.ts "$@" ;;
  test) exec $root env "PATH=$PWD/node_modules/.bin:$PATH" "$node" test/main.ts "$@" ;;
  *) echo "setup.sh: no job is called $job" >&2 && exit 2 ;;
esac
