// Reads what the suite's command line printed (JSON, on standard input) and prints one object per case: what the suite itself
// makes of it, dependencies included.
import { readFileSync } from 'node:fs'
import { determineTestResult } from 'http-cache-tests/lib/display.mjs'
import surrogate from 'http-cache-tests/tests/surrogate-control.mjs'
import suites from 'http-cache-tests/tests/index.mjs'

// The suite's own marks, in words.
const words = new Map(Object.entries({
  '✅': 'pass',
  '⛔️': 'fail',
  '⚠️': 'fail',
  Y: 'pass',
  N: 'fail',
  '🔹': 'setup failure',
  '⁉️': 'harness failure',
  '⚪️': 'dependency failure',
  '↻': 'retry',
  '-': 'not for this kind of cache'
}))

const results = JSON.parse(readFileSync(0, 'utf8'))
const all = [...suites, surrogate]
const cases = all.flatMap(suite => suite.tests.map(test => ({
  suite: suite.id,
  id: test.id,
  kind: test.kind ?? 'required',
  verdict: words.get(determineTestResult(all, test.id, results)[2]) ?? 'unknown',
  reason: Array.isArray(results[test.id]) ? results[test.id].join(': ') : ''
})))
console.log(JSON.stringify(cases))
