/** KVM only where the CPU can do it: a device node alone is no promise. */
import { expect, test } from 'vitest'
import { chooseAcceleration } from '../../broker/hypervisor/acceleration.ts'

const cpu = (flags: string) => `processor\t: 0\nflags\t\t: fpu vme ${flags} sse2\nbogomips\t: 5000\n`

test.each([
  ['Intel with KVM', cpu('vmx'), true, 'kvm', /vmx/],
  ['AMD with KVM', cpu('svm'), true, 'kvm', /svm/],
  ['a capable CPU without the module', cpu('svm'), false, 'tcg', /load the kvm module/],
  ['a device without a capable CPU', cpu(''), true, 'tcg', /would hang/],
  ['neither', cpu(''), false, 'tcg', /neither vmx nor svm/],
  ['a flag that only looks alike', cpu('vmxnet svm_lock'), true, 'tcg', /would hang/],
  ['a CPU without a list of flags', 'Processor : ARMv8\n', true, 'tcg', /would hang/],
])('%s', (_, cpuInfo, device, acceleration, reason) => {
  const choice = chooseAcceleration(cpuInfo, device)
  expect(choice.acceleration).toBe(acceleration)
  expect(choice.reason).toMatch(reason)
})
