// A server that answers every request with its pid: serve.js PORT [WORKERS [rr|none]]
//
// With workers it is a cluster; `rr` lets the first process accept and hand connections out (what
// Node does by default), `none` lets every worker accept from the one socket.
'use strict'
const cluster = require('cluster')
const http = require('http')

const [port, workers, scheduling] = process.argv.slice(2)

if (workers && cluster.isPrimary) {
  cluster.schedulingPolicy = scheduling === 'none' ? cluster.SCHED_NONE : cluster.SCHED_RR
  // A worker that cannot listen must not leave the first process waiting for ever.
  cluster.on('exit', (_, code) => { if (code) process.exit(code) })
  for (let i = 0; i < Number(workers); i++) cluster.fork()
} else {
  http.createServer((_, answer) => answer.end(`${process.pid}\n`)).listen(Number(port))
}
