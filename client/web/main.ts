/** The console page: a person's VMs in the browser, which alone holds the keys. */
import './no-eval.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { logOut } from './account.ts'
import { h, render } from './preact.ts'
import { report } from './state.ts'
import { App } from './views/app.ts'

// nothing is lost silently
addEventListener('error', event => report(event.error ?? event.message))
addEventListener('unhandledrejection', event => report(event.reason))
addEventListener('securitypolicyviolation', event => {
  const blocked = event.blockedURI === '' ? 'something' : event.blockedURI
  report(new MortarError('denied', `the page's policy (${event.effectiveDirective}) does not allow ${blocked}`))
})
// a page that the browser keeps for its back button must not keep the identity
addEventListener('pagehide', logOut)

const root = document.getElementById('page')
if (!root) throw new Error('index.html has no #page')
root.textContent = ''
render(h(App, {}), root)
