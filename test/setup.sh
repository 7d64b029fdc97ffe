#!/bin/sh
# Brings a fresh Debian machine with Node and npm to where the demo and the tests run, then runs one of them.
# usage: setup.sh demo|test [--yes] [arguments]     Installs only what is missing; asks once unless --yes.
set -eu
cd "$(dirname "$0")/.."
job=$1
shift
yes=
for argument in "$@"; do
  [ "$argument" = --yes ] && yes=1
  case $argument in -h | --help) exec sed -n '2,3s/^# //p' "$0" ;; esac
done

packages='qemu-system-x86 qemu-utils seabios libvirt-daemon libvirt-daemon-system libvirt-daemon-driver-qemu
  libvirt-clients mmdebstrap gdisk dosfstools mtools syslinux syslinux-common e2fsprogs cryptsetup-bin openssh-client
  openssh-server binutils iproute2'
[ "$job" = test ] && packages="$packages chromium age"

root=
[ "$(id -u)" = 0 ] || root=sudo
missing=
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
  $root apt-get update -qq
  # shellcheck disable=SC2086 # one word per package
  $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/tmp/mortar-apt.log 2>&1 || {
    tail -n 20 /tmp/mortar-apt.log >&2
    echo "apt-get failed; its whole output is in /tmp/mortar-apt.log" >&2
    exit 1
  }
fi

# npm records what it installed; a lock file newer than that record means the record is stale
if [ ! -f node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  echo 'Installing the npm packages …' >&2
  npm ci --loglevel=error --no-progress >&2
  touch node_modules/.package-lock.json
fi
node=$PWD/node_modules/.bin/node

case $job in
  demo) exec $root env "PATH=$PWD/node_modules/.bin:$PATH" "$node" test/demo/main.ts "$@" ;;
  test) exec $root env "PATH=$PWD/node_modules/.bin:$PATH" "$node" test/main.ts "$@" ;;
  *) echo "setup.sh: no job is called $job" >&2 && exit 2 ;;
esac
