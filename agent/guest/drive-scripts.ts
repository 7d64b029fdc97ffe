/**
 * What root does with drives outside the agent's sandbox: shell scripts with fixed text and arguments of the agent's own.
 * They handle a file system that somebody else may have filled: no link on it is followed, and no other file system is entered.
 */

/** exit codes of PREPARE beside those of the tools */
export const UNPREPARED = 70
export const RECORD_DAMAGED = 71
export const RECORD_CONFLICTS = 72

/** bytes of the record of people that are read, and of one line of it at most */
export const RECORD_BYTES = 60_000
const LINE_BYTES = 55

/**
 * Makes an opened drive ready in a mount namespace of its own, before anybody can reach it. Arguments: device, `rw` or
 * `ro`, uid of the owner, gid of the drive, gid of all drives, an empty folder, lines of `uid key`. A drive without a
 * record, new or of an older version, is handed over: what was the shared user's is the owner's, and whoever may use the
 * drive may write. The record cannot be moved or rewritten by anybody but root: it and its folder are append-only and
 * immutable. Its space is reserved, so that a full drive keeps nobody out. A last line that a power cut has cut off, which let
 * nobody in, is taken away. Prints the record.
 */
const PREPARE = `set -eu
device=$1 access=$2 owner=$3 group=$4 all=$5 at=$6 people=$7
mkdir -p -m 700 -- "$at"
mount -t ext4 -o "nosuid,nodev,noexec,$access" -- "$device" "$at"
folder=$at/.mortar record=$at/.mortar/people
is_ours() {
  [ ! -L "$folder" ] && [ -d "$folder" ] && [ "$(stat -c %u:%a -- "$folder")" = 0:700 ] &&
    lsattr -d -- "$folder" | grep -q '^[^ ]*i'
}
if ! is_ours; then
  [ "$access" = rw ] || exit ${UNPREPARED}
  if [ -L "$folder" ] || [ -e "$folder" ]; then
    chattr -f -i -a -- "$folder" || true
    aside=$(mktemp -d -- "$at/.mortar-other-XXXXXX")
    mv -- "$folder" "$aside/"
  fi
  chown -hR --from=1000 -- "$owner" "$at" || true
  chown -hR --from=:1000 -- ":$group" "$at" || true
  chown -- "$owner:$group" "$at"
  chmod 2770 -- "$at"
  find "$at" -xdev -type d -uid "$owner" -exec chmod g+s -- {} + \\
    -exec setfacl -m "u::rwx,g::rwx,g:$all:rwx,d:u::rwx,d:g::rwx,d:g:$all:rwx,d:o::---" -- {} +
  find "$at" -xdev -type f -uid "$owner" -perm /040 -exec setfacl -m "g::rwX,g:$all:rwX" -- {} +
  mkdir -m 700 -- "$folder"
  chown 0:0 -- "$folder"
  setfacl -b -- "$folder"
  chmod 00700 -- "$folder"
  : >"$record"
  fallocate --keep-size --length 65536 -- "$record"
  chmod 0600 -- "$record"
  chattr +a -- "$record"
  chattr +i -- "$folder"
fi
[ ! -L "$record" ] && [ -f "$record" ] && [ "$(stat -c %u -- "$record")" = 0 ] || exit ${RECORD_DAMAGED}
size() { stat -c %s -- "$record"; }
[ "$(size)" -le ${RECORD_BYTES} ] || exit ${RECORD_DAMAGED}
whole=$(head -n "$(wc -l <"$record")" -- "$record" | wc -c)
cut=$(($(size) - whole))
if [ "$cut" -gt 0 ]; then
  [ "$cut" -lt ${LINE_BYTES} ] || exit ${RECORD_DAMAGED}
  [ "$access" = rw ] || exit ${UNPREPARED}
  chattr -a -- "$record"
  truncate -s "$whole" -- "$record"
  chattr +a -- "$record"
fi
! grep -Eqv '^[0-9]{1,10} [A-Za-z0-9_-]{43}$' -- "$record" || exit ${RECORD_DAMAGED}
printf '%s\\n' "$people" | while read -r uid key; do
  [ -n "$uid" ] || continue
  found=$(grep -m1 "^$uid " -- "$record") || found=
  if [ -z "$found" ]; then
    [ "$access" = rw ] || continue
    [ "$(size)" -lt ${RECORD_BYTES - LINE_BYTES} ] || exit ${RECORD_DAMAGED}
    printf '%s %s\\n' "$uid" "$key" >>"$record" || exit ${RECORD_DAMAGED}
  elif [ "$found" != "$uid $key" ]; then
    echo "$uid" >&2
    exit ${RECORD_CONFLICTS}
  fi
done || exit $?
cat -- "$record"
umount -- "$at"`

/**
 * Runs a command on the folder of mount points, which is read-only for everybody: a mount of it that only the command
 * sees is not. Arguments: an empty folder, the command, the name of a mount point.
 */
const POINT = `set -eu
mkdir -p -m 700 -- "$1"
mount --bind -- /drives "$1"
mount -o remount,rw -- "$1"
"$2" -- "$1/$3"`

const ALONE = 'unshare --mount --propagation private -- /bin/sh -c'

/** PREPARE's arguments, then the mount point's name. Prints the record once the drive is mounted. */
export const MOUNT = `set -eu
prepare=$1 point=$2
shift 2
${ALONE} "$prepare" sh "$@"
device=$1 access=$2 at=$6 name=$8
[ -d "/drives/$name" ] || ${ALONE} "$point" sh "$at" mkdir "$name"
mount -t ext4 -o "nosuid,nodev,$access" -- "$device" "/drives/$name" || {
  code=$?
  ${ALONE} "$point" sh "$at" rmdir "$name"
  exit $code
}`

/** Arguments: POINT, an empty folder, the mount point's name. A mount point that stays is empty and read-only. */
export const UNMOUNT = `umount -- "/drives/$3" && { ${ALONE} "$1" sh "$2" rmdir "$3" || true; }`

/** Paths below /proc of processes that have something below a mount point in use. Reads links, follows none. Argument: the mount point. */
export const HOLDERS = `find /proc/[0-9]*/cwd /proc/[0-9]*/root /proc/[0-9]*/exe /proc/[0-9]*/fd /proc/[0-9]*/map_files -maxdepth 1 \\
  \\( -lname "$1" -o -lname "$1/*" -o -lname "$1 (deleted)" \\) -printf '%p\\n' 2>/dev/null || true`

/** Paths below /proc of processes that have a file system mounted for themselves. Argument: its device, as 254:0. */
export const MOUNTERS = `grep -ls -- " $1 " /proc/[0-9]*/mountinfo || true`

export interface MountArguments {
  readonly device: string
  readonly readOnly: boolean
  readonly owner: number
  readonly group: number
  readonly all: number
  /** an empty folder for mounts that nobody else sees */
  readonly place: string
  /** lines of the record that must be in it, or can be added */
  readonly people: readonly string[]
  readonly name: string
}

export function mountCommand(given: MountArguments): string[] {
  const { device, readOnly, owner, group, all, place, people, name } = given
  const prepare = [device, readOnly ? 'ro' : 'rw', `${owner}`, `${group}`, `${all}`, place, people.join('\n')]
  return ['/bin/sh', '-c', MOUNT, 'sh', PREPARE, POINT, ...prepare, name]
}

/** The first half of mountCommand, as a test of it needs. */
export function prepareCommand({ device, readOnly, owner, group, all, place, people }: MountArguments): string[] {
  const args = [device, readOnly ? 'ro' : 'rw', `${owner}`, `${group}`, `${all}`, place, people.join('\n')]
  return ['unshare', '--mount', '--propagation', 'private', '--', '/bin/sh', '-c', PREPARE, 'sh', ...args]
}

export function unmountCommand(place: string, name: string): string[] {
  return ['/bin/sh', '-c', UNMOUNT, 'sh', POINT, place, name]
}

export const script = (text: string, ...args: string[]): string[] => ['/bin/sh', '-c', text, 'sh', ...args]
