/** The serial by which a guest finds a drive: the first 20 hex digits of its id. SPEC §9.4 */
export const driveSerial = (id: string): string => id.replaceAll('-', '').slice(0, 20)
