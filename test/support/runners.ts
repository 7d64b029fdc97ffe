/** Real runners for tests: started by the test itself, as an agent without systemd starts them. */
import { DirectLauncher } from '../../agent/guest/direct-launcher.ts'
import { PlaceBook, personOf } from '../../agent/guest/place.ts'
import { Runners } from '../../agent/guest/runners.ts'
import { runTool } from '../../agent/guest/tool.ts'

/** `directory`: of the test, where its sockets are. */
export function newRunners(directory: string): Runners {
  const places = new PlaceBook(directory)
  const asRoot = ([file = '', ...args]: readonly string[]) => runTool(file, args)
  return new Runners({ places, launcher: new DirectLauncher(places), log: () => {}, asRoot })
}

/** Ends what was started below the directory, by whichever process. */
export async function endRunners(directory: string): Promise<void> {
  const places = new PlaceBook(directory)
  const launcher = new DirectLauncher(places)
  for (const person of new Set(places.all().map(({ grantee }) => personOf(grantee)))) await launcher.endPerson(person)
  launcher.dispose()
}
