/** KVM or software emulation: decided by what the CPU says, since /dev/kvm may exist where guests hang on it. */
import { existsSync, readFileSync } from 'node:fs'

export interface Acceleration {
  readonly acceleration: 'kvm' | 'tcg'
  readonly reason: string
}

/** `cpuInfo`: text of /proc/cpuinfo; `deviceExists`: whether /dev/kvm is there. */
export function chooseAcceleration(cpuInfo: string, deviceExists: boolean): Acceleration {
  const flag = /^flags\s*:.*\b(vmx|svm)\b/m.exec(cpuInfo)?.[1]
  if (flag && deviceExists) return { acceleration: 'kvm', reason: `the CPU has ${flag} and /dev/kvm is there` }
  const why = deviceExists
    ? '/dev/kvm is there, but the CPU shows neither vmx nor svm, so guests would hang on it'
    : flag
      ? `the CPU has ${flag}, but there is no /dev/kvm: load the kvm module`
      : 'the CPU shows neither vmx nor svm and there is no /dev/kvm'
  return { acceleration: 'tcg', reason: `software emulation, VMs are slow: ${why}` }
}

export function hostAcceleration(): Acceleration {
  return chooseAcceleration(readFileSync('/proc/cpuinfo', 'utf8'), existsSync('/dev/kvm'))
}
