#!/bin/sh
# What every npm script begins with: installs what a fresh clone lacks, and only that.
# usage: setup.sh                                        npm packages
#        setup.sh demo|test|brick|attacks|nightly [--yes] [arguments]    Debian packages too, then runs the job as root
#        setup.sh bench [--vm] [--yes] [arguments]               the same with --vm; without it as you are, and no packages
# Before Debian packages are installed it asks, unless --yes; with nobody to ask it changes nothing and exits with 2.
set -eu
cd "$(dirname "$0")"
job=${1:-}
[ -z "$job" ] || shift
yes=
help=
vm=
for argument in "$@"; do
  case $argument in
    --yes) yes=1 ;;
    --vm) vm=1 ;;
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

building='mmdebstrap gdisk dosfstools mtools syslinux syslinux-common e2fsprogs qemu-utils binutils'
running='qemu-system-x86 seabios libvirt-daemon libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients
  cryptsetup-bin openssh-client openssh-server iproute2 nftables ebtables'
case $job in
  '') packages= ;;
  brick) packages=$building script=images/build-brick.ts ;;
  demo) packages="$building $running" script=test/demo/main.ts ;;
  test) packages="$building $running chromium age gcc libc6-dev acl keyutils" script=test/main.ts ;;
  bench) packages=${vm:+"$building $running qemu-guest-agent"} script=test/bench/main.ts ;;
  attacks) packages="$building $running" script=test/attacks/main.ts ;;
  # a broker imports a brick, and an agent keeps its keys in the kernel
  nightly) packages='qemu-utils keyutils' script=test/nightly/main.ts ;;
  *) echo "setup.sh: no job is called $job" >&2 && exit 2 ;;
esac

root=
if [ -n "$job" ] && [ "$job$vm" != bench ] && [ "$(id -u)" != 0 ] && [ -z "$help" ]; then
  root=sudo
  command -v sudo >/dev/null || { echo "npm run $job: takes root, and there is no sudo: run it as root" >&2 && exit 1; }
fi
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
  elif [ -z "$yes" ]; then
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
[ -n "$job" ] || exit 0
exec $root env "PATH=$PWD/node_modules/.bin:$PATH" "$PWD/node_modules/.bin/node" "$script" "$@"
